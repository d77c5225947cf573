"""What every peer does: read the job, check the loss, time, report as one line of JSON.

A peer is a file beside this one with a class `Trainer(job)` whose `train(order)` makes one update for each batch of
`order`, waits until the last is done, and returns the mean of the losses, each taken before its update.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

SECONDS_A_REPEAT = 1.5  # a slow peer makes fewer updates than gpunet's engines, so that it does not hold up the others


@dataclass(frozen=True)
class Job:
    """images (n, 784) float32 in 0..1, labels (n,) int64, weights in Keras' order and orientation, Adam's numbers."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: list[NDArray[np.float32]]
    batch_size: int
    updates: int
    device: str  # "cpu" or "cuda"
    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8


class Trainer(Protocol):
    def train(self, order: NDArray[np.int32]) -> float: ...


class NotHereError(Exception):
    """The peer cannot run on this machine; the message says why."""


def run(name: str, versions: Callable[[], dict[str, str]], make: Callable[[Job], Trainer]) -> None:
    """Do what the command line says; prints {"name", "versions", "check_loss", "seconds", ...} or {"unavailable"}.

    seconds: of each repeat, of so many updates; the warm-up before them is reported apart.
    """
    options = _parse()
    data = np.load(options.data)
    weights = [data[f"weights_{number}"] for number in range(6)]
    images = data["images"].astype(np.float32) / np.float32(255)
    job = Job(images, data["labels"].astype(np.int64), weights, options.batch_size, options.updates, options.device)

    def batches(updates: int) -> NDArray[np.int32]:
        return np.resize(data["order"], updates * options.batch_size)

    try:
        trainer = make(job)
    except NotHereError as reason:
        _report({"name": name, "unavailable": str(reason)})
        return
    check_loss = trainer.train(batches(options.check_updates))  # the first run: it compiles
    started = time.perf_counter()
    trainer.train(batches(options.check_updates))
    affordable = SECONDS_A_REPEAT * options.check_updates / (time.perf_counter() - started)
    updates = max(options.check_updates, min(options.updates, int(affordable)))
    order = batches(updates)
    started = time.perf_counter()
    trainer.train(order)
    warm_up = time.perf_counter() - started
    seconds = []
    for _ in range(options.repeats):
        started = time.perf_counter()
        trainer.train(order)
        seconds.append(time.perf_counter() - started)
    result = {"name": name, "versions": versions(), "check_loss": check_loss, "updates": updates, "seconds": seconds}
    _report({**result, "warm_up_seconds": warm_up})


def _report(result: dict[str, Any]) -> None:
    print(json.dumps(result), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One peer, for bench/batch_speed.py")
    parser.add_argument("data")
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--updates", type=int, required=True)
    parser.add_argument("--check-updates", type=int, required=True)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    return parser.parse_args()
