"""What gpunet's engines learn at each batch size. Every function returns plain numbers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.engines import Choice, Engine
from gpunet.engines.base import Array
from harness.workload import EXAMPLES, NETWORK, Workload, batches, epoch_updates, lecture_weights, optimizer

LAST_UPDATES = 500  # whose losses' spread is looked at
SURE_SECONDS = 0.5  # the least time from which the time of an update is worked out


def make_engine(name: str, weights: Sequence[NDArray[np.floating]]) -> Engine:
    return Choice(name, "").make(NETWORK, optimizer(), weights)


def seconds_an_update(name: str, batch_size: int, work: Workload) -> float:
    """A rough figure, to plan with."""
    engine = make_engine(name, work.weights)
    images, labels = engine.upload(work.images), engine.upload(work.labels)
    updates = 20
    while (seconds := _train(engine, images, labels, batches(0, updates, batch_size), batch_size)) < SURE_SECONDS:
        updates *= 4
    return seconds / updates


def _train(engine: Engine, images: Array, labels: Array, order: NDArray[np.int32], batch_size: int) -> float:
    """Seconds of training, by the clock on the wall; compilation and loading come before."""
    engine.prepare(images, labels, len(order), batch_size)
    started = time.perf_counter()
    engine.train_epoch(images, labels, order, batch_size)
    return time.perf_counter() - started


def same_updates(name: str, batch_size: int, work: Workload, updates: int, seed: int) -> dict[str, Any]:
    """So many updates: time, loss and accuracy, and how much the loss jumps about.

    The spread is the standard deviation of the batches' losses over the last LAST_UPDATES updates.
    """
    engine = make_engine(name, lecture_weights(seed))
    images, labels = engine.upload(work.images), engine.upload(work.labels)
    order = batches(seed, updates, batch_size)
    last = LAST_UPDATES * batch_size
    parts = [order[first : min(first + EXAMPLES, len(order) - last)] for first in range(0, len(order) - last, EXAMPLES)]
    seconds = sum(_train(engine, images, labels, part, batch_size) for part in parts)
    losses = [
        engine.train_epoch(images, labels, order[first : first + batch_size], batch_size).loss
        for first in range(len(order) - last, len(order), batch_size)
    ]
    return {
        "name": f"gpunet {name}",
        "batch_size": batch_size,
        "seed": seed,
        "updates": updates,
        "epochs": updates * batch_size / EXAMPLES,
        "seconds": seconds * updates / (updates - LAST_UPDATES),  # the last ones were made one by one
        **_learnt(engine, images, labels, work),
        "loss_spread": statistics.pstdev(losses),
    }


def batch_accuracy(name: str, batch_size: int, work: Workload, epochs: int, seed: int) -> dict[str, Any]:
    """Loss and accuracy after a fixed number of epochs."""
    engine = make_engine(name, lecture_weights(seed))
    images, labels = engine.upload(work.images), engine.upload(work.labels)
    order = batches(seed, epochs * EXAMPLES, 1)
    parts = [order[first : first + EXAMPLES] for first in range(0, len(order), EXAMPLES)]
    seconds = sum(_train(engine, images, labels, part, batch_size) for part in parts)
    return {
        "name": f"gpunet {name}",
        "batch_size": batch_size,
        "seed": seed,
        "epochs": epochs,
        "updates": epochs * epoch_updates(batch_size),
        "seconds": seconds,
        **_learnt(engine, images, labels, work),
    }


def _learnt(engine: Engine, images: Array, labels: Array, work: Workload) -> dict[str, float]:
    """The loss over the whole training set, and the accuracy on the test set, with the weights as they are now."""
    train_loss, _ = engine.evaluate(images, labels)
    _, accuracy = engine.evaluate(engine.upload(work.test_images), engine.upload(work.test_labels))
    return {"train_loss": train_loss, "test_accuracy": accuracy}
