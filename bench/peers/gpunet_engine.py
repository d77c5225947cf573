"""One of gpunet's engines, timed like the peers. The first argument is its name."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

import gpunet
from gpunet import Adam, engines
from gpunet.errors import ArgumentError, DeviceError
from gpunet.layers import LECTURE
from peer import Job, NotHereError, Trainer, run


def versions() -> dict[str, str]:
    return {"gpunet": gpunet.__version__, "matmul precision": "float32"}


class EngineTrainer(Trainer):
    def __init__(self, job: Job, name: str) -> None:
        with _refusals():
            engines.check_device(job.device, name)
            adam = Adam(job.learning_rate, job.beta_1, job.beta_2, job.epsilon)
            self.engine = engines.Choice(name, "").make(LECTURE, adam, job.weights)
            self.images, self.labels = self.engine.upload(job.images), self.engine.upload(job.labels)
        self.batch_size = job.batch_size

    def train(self, prepared: NDArray[np.int32]) -> float:
        with _refusals():
            return self.engine.train_epoch(self.images, self.labels, prepared, self.batch_size).loss

    def device(self) -> str:
        return engines.DEVICE_OF[self.engine.name]


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Report what an engine cannot do here as a line in the table."""
    try:
        yield
    except (ArgumentError, DeviceError) as error:
        raise NotHereError(str(error)) from error


if __name__ == "__main__":
    engine, *arguments = sys.argv[1:]
    run(f"gpunet {engine}", versions, lambda job: EngineTrainer(job, engine), arguments)
