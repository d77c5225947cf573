"""What gpunet's engines learn at each batch size. Every function returns plain numbers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet import History, Sequential, fit_many, losses
from gpunet.engines import DEVICE_OF, Choice, Engine
from gpunet.engines.base import Array
from harness.workload import NETWORK, Workload, batches, lecture_model, optimizer

Record = dict[str, Any]

LAST_UPDATES = 500  # updates whose losses' spread is reported
SURE_SECONDS = 0.5  # the shortest measurement that the time of an update is derived from


def make_engine(name: str, weights: Sequence[NDArray[np.floating]]) -> Engine:
    return Choice(name, "").make(NETWORK, optimizer(), weights)


def seconds_an_update(name: str, batch_size: int, work: Workload) -> float:
    """A rough estimate, for planning."""
    engine = make_engine(name, work.weights)
    images, labels = engine.upload(work.images), engine.upload(work.labels)
    updates = 20
    while (seconds := _train(engine, images, labels, batches(0, updates, batch_size), batch_size)) < SURE_SECONDS:
        updates *= 4
    return seconds / updates


def _train(engine: Engine, images: Array, labels: Array, order: NDArray[np.int32], batch_size: int) -> float:
    """Wall-clock seconds of training, without compilation and loading."""
    engine.prepare(images, labels, len(order), batch_size)
    started = time.perf_counter()
    engine.train_epoch(images, labels, order, batch_size)
    return time.perf_counter() - started


def same_updates(name: str, batch_size: int, work: Workload, updates: int, seeds: Sequence[int]) -> list[Record]:
    """Train for a number of updates, all seeds at once: loss, accuracy and the spread of the loss; one record per seed.

    The spread is the standard deviation of the batches' losses over the last LAST_UPDATES updates. Those are made one
    by one, with the same batches for all seeds. seconds: see `_records`.
    """
    models = _models(name, batch_size, work, seeds)
    examples, last = len(work.images), LAST_UPDATES * batch_size
    epochs, rest = divmod((updates - LAST_UPDATES) * batch_size, examples)
    started = time.perf_counter()
    if epochs:
        _fit(models, work.images, work.labels, batch_size, epochs)
    if rest:
        _fit(models, work.images[:rest], work.labels[:rest], batch_size)
    seconds = time.perf_counter() - started
    first = min(rest, examples - last)  # of the next batches
    last_losses: list[list[float]] = [[] for _ in models]
    for start in range(first, first + last, batch_size):
        batch = slice(start, start + batch_size)
        histories = _fit(models, work.images[batch], work.labels[batch], batch_size)
        for of_model, history in zip(last_losses, histories, strict=True):
            of_model += history.history["loss"]
    records = _records(name, batch_size, work, models, seeds, seconds * updates / (updates - LAST_UPDATES))
    for record, of_model in zip(records, last_losses, strict=True):
        record |= {"epochs": updates * batch_size / examples, "updates": updates}
        record["loss_spread"] = statistics.pstdev(of_model)
    return records


def batch_accuracy(name: str, batch_size: int, work: Workload, epochs: int, seeds: Sequence[int]) -> list[Record]:
    """Loss and accuracy after a fixed number of epochs, all seeds at once; one record per seed."""
    models = _models(name, batch_size, work, seeds)
    started = time.perf_counter()
    _fit(models, work.images, work.labels, batch_size, epochs)
    records = _records(name, batch_size, work, models, seeds, time.perf_counter() - started)
    for record in records:
        record |= {"epochs": epochs, "updates": epochs * -(-len(work.images) // batch_size)}
    return records


def _models(name: str, batch_size: int, work: Workload, seeds: Sequence[int]) -> list[Sequential]:
    """The lecture's network for each seed of initial weights and orders, with everything compiled."""
    models = []
    for seed in [*seeds, seeds[0]]:
        models.append(lecture_model(seed))
        models[-1].compile(optimizer(), losses.INTEGER, device=DEVICE_OF[name], engine=name)
    _fit([models.pop()], work.images[:batch_size], work.labels[:batch_size], batch_size)
    return models


def _fit(
    models: Sequence[Sequential], images: NDArray[Any], labels: NDArray[Any], batch_size: int, epochs: int = 1
) -> list[History]:
    histories = fit_many(models, images, labels, batch_size, epochs, verbose=0)
    for history in histories:
        if history.error is not None:
            raise history.error
    return histories


def _records(
    name: str, batch_size: int, work: Workload, models: Sequence[Sequential], seeds: Sequence[int], seconds: float
) -> list[Record]:
    """One record per seed, with the present loss over the whole training set and accuracy on the test set.

    seconds: of all seeds together; each record gets an equal part.
    """
    return [
        {
            "name": f"gpunet {name}",
            "batch_size": batch_size,
            "seed": seed,
            "seconds": seconds / len(seeds),
            "train_loss": model.evaluate(work.images, work.labels)[0],
            "test_accuracy": model.evaluate(work.test_images, work.test_labels)[1],
        }
        for seed, model in zip(seeds, models, strict=True)
    ]
