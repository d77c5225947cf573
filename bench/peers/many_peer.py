"""The common part of every peer of bench/many.py, gpunet included: read the networks, train, time, report JSON lines.

A peer is a file beside this one with a `Trainer`. One process goes through several cases; it reports after every
repeat, so that nothing is lost if it is stopped.
"""

from __future__ import annotations

import abc
import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peer import CHECK_UPDATES, ENOUGH_SECONDS, REPEATS, NotHereError, plan

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # Adam's; each network has its own learning rate


@dataclass(frozen=True)
class Job:
    """K networks of the same widths: sigmoid, the last layer softmax; Adam.

    images (n, inputs) uint8 or float32, labels (n,) int32: all networks take their batches in this order.
    weights: in Keras' order, each (K, ...). rates: (K,) learning rates.
    """

    images: NDArray[Any]
    labels: NDArray[np.int32]
    weights: list[NDArray[np.float32]]
    rates: NDArray[np.float32]
    batch_size: int

    @property
    def networks(self) -> int:
        return len(self.rates)

    @property
    def widths(self) -> list[int]:
        return [self.images.shape[1], *(matrix.shape[2] for matrix in self.weights[::2])]

    @property
    def floats(self) -> NDArray[np.float32]:
        """Images as they are used: bytes scaled to 0..1."""
        return self.images.astype(np.float32) / np.float32(255) if self.images.dtype == np.uint8 else self.images


class Trainer(abc.ABC):
    """Made from a Job; raises NotHereError if it cannot run on this machine.

    given_start: whether it starts from the job's weights, and continues from one call to the next.
    """

    given_start = True

    @abc.abstractmethod
    def train(self, updates: int) -> Sequence[float]:
        """Make this many updates of every network, on the first batches, and wait; returns each network's mean loss."""


def read_job(data: Any, case: str) -> Job:
    """case: network, batch size and number of networks, as in lecture-10-4."""
    name, batch_size, networks = case.split("-")
    number = int(networks)
    weights = [data[f"{name}_weights_{n}"][:number] for n in range(int(data[f"{name}_arrays"]))]
    rates = np.geomspace(3e-4, 3e-3, number).astype(np.float32) if number > 1 else np.float32([1e-3])
    return Job(data[f"{name}_images"], data[f"{name}_labels"], weights, rates, int(batch_size))


def run(
    name: str,
    versions: Callable[[], dict[str, str]],
    make: Callable[[Job], Trainer],
    argv: Sequence[str] | None = None,
) -> None:
    """Do what the command line says; prints {"name", "case", "seconds", ...} or {..., "unavailable": why}."""
    parser = argparse.ArgumentParser(description="One peer, for bench/many.py")
    parser.add_argument("data")
    parser.add_argument("--cases", type=lambda text: text.split(","), required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args(argv)
    until = time.monotonic() + options.seconds
    data = np.load(options.data)
    for case in options.cases:
        report = {"name": name, "case": case}
        try:
            if time.monotonic() >= until:
                raise NotHereError("no time left")
            _measure(read_job(data, case), versions, make, until, report)
        except NotHereError as reason:
            _report({**report, "unavailable": str(reason)})
        except Exception as error:  # such as too little memory for so many; other cases may work
            _report({**report, "unavailable": f"{type(error).__name__}: {error}".splitlines()[0][:200]})
        gc.collect()


def _measure(
    job: Job,
    versions: Callable[[], dict[str, str]],
    make: Callable[[Job], Trainer],
    until: float,
    report: dict[str, Any],
) -> None:
    """Fill the report, and print it after each repeat. seconds: of each repeat, of `calls` times `updates` updates."""
    epoch = len(job.images) // job.batch_size
    started = time.perf_counter()
    trainer = make(job)
    check_updates = min(CHECK_UPDATES, epoch)
    losses = [float(loss) for loss in trainer.train(check_updates)]
    report |= {"first_run_seconds": time.perf_counter() - started, "networks": job.networks}

    def timed(updates: int, calls: int = 1) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            trainer.train(updates)
        return time.perf_counter() - started

    updates, calls = plan(timed, check_updates, epoch, full=False)
    report |= {"check_updates": check_updates, "check_losses": losses if trainer.given_start else None}
    report |= {"versions": versions(), "updates": updates, "calls": calls, "seconds": []}
    while len(report["seconds"]) < REPEATS and sum(report["seconds"]) < ENOUGH_SECONDS:
        report["seconds"].append(timed(updates, calls))
        _report(report)
        if time.monotonic() >= until:
            return


def _report(result: dict[str, Any]) -> None:
    print(json.dumps(result), flush=True)
