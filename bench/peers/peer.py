"""The common part of every peer, gpunet's engines included: read the job, train, time, report lines of JSON.

A peer is a file beside this one with a `Trainer`. One process goes through several batch sizes; it reports after every
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

CHECK_UPDATES = 20  # the first updates, whose loss is checked; gpunet's CUDA graphs hold as many
SURE_SECONDS = 0.1  # the shortest time that the number of updates per repeat is derived from
GROWTH = 10
SECONDS_A_REPEAT = 0.7
REPEATS = 3
ENOUGH_SECONDS = 2  # of all repeats together; after that there are no more


@dataclass(frozen=True)
class Job:
    """images (n, 784) uint8 and as floats in 0..1, labels (n,) int32, weights in Keras' order and orientation."""

    images: NDArray[np.uint8]
    floats: NDArray[np.float32]
    labels: NDArray[np.int32]
    weights: list[NDArray[np.float32]]
    batch_size: int
    device: str  # "cpu" or "cuda"
    learning_rate: float = 0.001
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    @property
    def epoch_updates(self) -> int:
        return len(self.images) // self.batch_size


class Trainer(abc.ABC):
    """Made from a Job; raises NotHereError if it cannot run on this machine."""

    def prepare(self, order: NDArray[np.int32]) -> Any:
        """What the host does with an order before timing starts."""
        return order

    @abc.abstractmethod
    def train(self, prepared: Any) -> float:
        """Make one update per batch and wait for the last; returns the mean loss, each computed before its update."""

    @abc.abstractmethod
    def device(self) -> str:
        """ "cpu" or "cuda": where the trained weights are."""


class NotHereError(Exception):
    """The peer cannot run on this machine; the message says why."""


def run(
    name: str,
    versions: Callable[[], dict[str, str]],
    make: Callable[[Job], Trainer],
    argv: Sequence[str] | None = None,
) -> None:
    """Do what the command line says; prints {"name", "batch_size", "seconds", ...} or {..., "unavailable": why}."""
    options = _parse(argv)
    until = time.monotonic() + options.seconds
    data = np.load(options.data)
    weights = [data[f"weights_{number}"] for number in range(6)]
    images, labels, order = data["images"], data["labels"], data["order"]
    floats = images.astype(np.float32) / np.float32(255)
    for batch_size in options.batch_sizes:
        job = Job(images, floats, labels, weights, batch_size, options.device)
        report = {"name": name, "batch_size": batch_size}
        try:
            if time.monotonic() >= until:
                raise NotHereError("no time left")
            _measure(job, order, make, versions, options.full, until, report)
        except NotHereError as reason:
            _report({**report, "unavailable": str(reason)})
        except Exception as error:  # such as too little memory for this size; other sizes may work
            why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            _report({**report, "unavailable": why})
        gc.collect()  # frees what this size had on the device


def _measure(
    job: Job,
    order: NDArray[np.int32],
    make: Callable[[Job], Trainer],
    versions: Callable[[], dict[str, str]],
    full: bool,
    until: float,
    report: dict[str, Any],
) -> None:
    """Fill the report, and print it after each repeat.

    first_run_seconds: from before the network is made to the end of the first updates, including all compilation.
    seconds:           of each repeat, of `calls` times `updates` updates.
    """

    def batches(updates: int) -> NDArray[np.int32]:
        return order[: updates * job.batch_size]

    started = time.perf_counter()
    trainer = make(job)
    check_updates = min(CHECK_UPDATES, job.epoch_updates)
    check_loss = trainer.train(trainer.prepare(batches(check_updates)))
    first_run_seconds = time.perf_counter() - started
    if (where := trainer.device()) != job.device:
        raise NotHereError(f"computes on {where}, not on {job.device}")

    def timed(updates: int, calls: int = 1) -> float:
        prepared = trainer.prepare(batches(updates))
        started = time.perf_counter()
        for _ in range(calls):
            trainer.train(prepared)
        return time.perf_counter() - started

    updates, calls = plan(timed, check_updates, job.epoch_updates, full)
    report |= {"check_updates": check_updates, "check_loss": check_loss, "first_run_seconds": first_run_seconds}
    report |= {"versions": versions(), "updates": updates, "calls": calls, "seconds": []}
    while len(report["seconds"]) < REPEATS and sum(report["seconds"]) < ENOUGH_SECONDS:
        report["seconds"].append(timed(updates, calls))
        _report(report)
        if time.monotonic() >= until:
            return


def plan(timed: Callable[[int], float], fewest: int, epoch: int, full: bool) -> tuple[int, int]:
    """(updates a call, at most an epoch; calls a repeat) for SECONDS_A_REPEAT; a whole epoch if asked for.

    timed: returns the seconds of a number of updates. A new number may have to be compiled, so its first time does not
    count; `fewest` has been run before.
    """

    def undisturbed(updates: int) -> float:
        """The shorter of two, unless they are long: a disturbed measurement would make the repeats too short."""
        seconds = timed(updates)
        return seconds if seconds >= SECONDS_A_REPEAT else min(seconds, timed(updates))

    updates = fewest
    while (seconds := undisturbed(updates)) < SURE_SECONDS and updates < epoch:
        updates = min(epoch, GROWTH * updates)
        timed(updates)
    wanted = SECONDS_A_REPEAT * updates / seconds
    if full or wanted >= epoch:
        planned, calls = epoch, 1 if full else max(1, round(wanted / epoch))
    else:
        planned, calls = max(fewest, int(wanted)), 1
    if planned != updates:
        timed(planned)
    return planned, calls


def _report(result: dict[str, Any]) -> None:
    print(json.dumps(result), flush=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One peer, for bench/batch_speed.py")
    parser.add_argument("data")
    parser.add_argument("--batch-sizes", type=lambda text: [int(size) for size in text.split(",")], required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--seconds", type=float, required=True, help="nothing new is started after this")
    parser.add_argument("--full", action="store_true", help="whole epochs")
    return parser.parse_args(argv)
