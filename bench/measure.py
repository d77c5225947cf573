"""Measurements of gpunet's engines: the lecture's four statements. Every function returns plain numbers for JSON."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from workload import EXAMPLES, LECTURE_SECONDS, NETWORK, Workload, optimizer

from gpunet import engines
from gpunet.engines import Choice, Engine, reference, tiled_launches
from gpunet.engines.cuda_engine import pad_columns

REPEATS = 5
SECONDS_A_REPEAT = 1.5
FEWEST_UPDATES = 5
CHECK_UPDATES = 20
CALIBRATION_UPDATES = 5
LAST_UPDATES = 500  # whose losses' spread is looked at
LAYER_EXAMPLES = 100
Say = Callable[[str], None]


def make_engine(name: str, work: Workload) -> Engine:
    return Choice(name, "").make(NETWORK, optimizer(), work.weights)


def speed(name: str, batch_size: int, work: Workload, full: bool) -> dict[str, Any]:
    """Seconds of so many updates, repeated; the first repeat, with compilation and loading, is kept apart."""
    engine = make_engine(name, work)
    images, labels = engine.place(work.images), engine.place(work.labels)

    def train(updates: int) -> float:
        return engine.train_epoch(images, labels, work.batches(updates, batch_size), batch_size).seconds

    check_updates = min(CHECK_UPDATES, EXAMPLES // batch_size)
    check = engine.train_epoch(images, labels, work.batches(check_updates, batch_size), batch_size).loss
    estimate = train(CALIBRATION_UPDATES) / CALIBRATION_UPDATES
    updates = updates_to_time(estimate, batch_size, full)
    warm_up = train(updates)
    seconds = [train(updates) for _ in range(1 if full and warm_up > 60 else REPEATS)]
    return {
        "check_updates": check_updates,
        "check_loss": check,
        "warm_up_seconds": warm_up,
        **speed_record(f"gpunet {name}", batch_size, updates, seconds),
    }


def updates_to_time(seconds_an_update: float, batch_size: int, full: bool) -> int:
    """A whole epoch's, if that is short or asked for; else as many as fill SECONDS_A_REPEAT."""
    epoch = epoch_updates(batch_size)
    wanted = math.ceil(SECONDS_A_REPEAT / seconds_an_update)
    return epoch if full else max(FEWEST_UPDATES, min(epoch, wanted))


def epoch_updates(batch_size: int) -> int:
    return math.ceil(EXAMPLES / batch_size)


def speed_record(name: str, batch_size: int, updates: int, seconds: list[float]) -> dict[str, Any]:
    """What follows from repeats of so many updates. projected: the repeats were shorter than an epoch."""
    each = [1e6 * s / updates for s in seconds]
    epoch = epoch_updates(batch_size)
    epoch_seconds = statistics.median(each) * epoch / 1e6
    record = {
        "name": name,
        "batch_size": batch_size,
        "updates_timed": updates,
        "seconds": seconds,
        "us_per_update": statistics.median(each),
        "us_per_update_range": [min(each), max(each)],
        "epoch_updates": epoch,
        "epoch_seconds": epoch_seconds,
        "projected": updates < epoch,
        "examples_per_second": EXAMPLES / epoch_seconds,
    }
    if batch_size in LECTURE_SECONDS:
        record["times_faster_than_lecture"] = LECTURE_SECONDS[batch_size] / epoch_seconds
    return record


def same_updates(name: str, work: Workload, updates: int) -> Iterator[dict[str, Any]]:
    """Batch sizes 1 and 10, the same number of updates: time, loss and accuracy, and how much the loss jumps about.

    The spread is the standard deviation of the batches' losses over the last LAST_UPDATES updates.
    """
    for batch_size in (1, 10):
        engine = make_engine(name, work)
        images, labels = engine.place(work.images), engine.place(work.labels)
        order = work.batches(updates, batch_size)
        last = LAST_UPDATES * batch_size
        seconds = 0.0
        for first in range(0, len(order) - last, EXAMPLES):
            part = order[first : min(first + EXAMPLES, len(order) - last)]
            seconds += engine.train_epoch(images, labels, part, batch_size).seconds
        losses = [
            engine.train_epoch(images, labels, order[first : first + batch_size], batch_size)
            for first in range(len(order) - last, len(order), batch_size)
        ]
        train_loss, _ = engine.evaluate(images, labels)
        _, accuracy = engine.evaluate(engine.place(work.test_images), engine.place(work.test_labels))
        yield {
            "name": f"gpunet {name}",
            "batch_size": batch_size,
            "updates": updates,
            "epochs": updates * batch_size / EXAMPLES,
            "seconds": seconds * updates / (updates - LAST_UPDATES),  # the last ones were timed one by one
            "train_loss": train_loss,
            "test_accuracy": accuracy,
            "loss_spread": statistics.pstdev(each.loss for each in losses),
        }


def batch_accuracy(name: str, batch_size: int, work: Workload, epochs: int) -> dict[str, Any]:
    """Test accuracy after a fixed number of epochs."""
    engine = make_engine(name, work)
    images, labels = engine.place(work.images), engine.place(work.labels)
    seconds = 0.0
    for epoch in range(epochs):
        order = np.random.default_rng([1, epoch]).permutation(EXAMPLES).astype(np.int32)
        statistics_ = engine.train_epoch(images, labels, order, batch_size)
        seconds += statistics_.seconds
    _, accuracy = engine.evaluate(engine.place(work.test_images), engine.place(work.test_labels))
    return {
        "name": f"gpunet {name}",
        "batch_size": batch_size,
        "epochs": epochs,
        "updates": epochs * epoch_updates(batch_size),
        "seconds": seconds,
        "train_loss": statistics_.loss,
        "test_accuracy": accuracy,
    }


def why(name: str, work: Workload) -> dict[str, Any]:
    """100 examples through the first layer, one at a time and as one matrix product."""
    inputs, units = NETWORK.sizes[0]
    images = work.images[:LAYER_EXAMPLES]
    layer = _first_layer_on_gpu if engines.DEVICE_OF[name] == "cuda" else _first_layer_on_cpu
    one_at_a_time, at_once = layer(images, work.weights)
    weights_bytes = 4 * (inputs + 1) * units
    rest_bytes = LAYER_EXAMPLES * (images.itemsize * inputs + 4 * units)
    return {
        "name": f"gpunet {name}",
        "examples": LAYER_EXAMPLES,
        "layer": f"{inputs} -> {units}",
        "one_at_a_time_us": one_at_a_time,
        "at_once_us": at_once,
        "ratio": one_at_a_time / at_once,
        "operations": 2 * LAYER_EXAMPLES * inputs * units,
        "one_at_a_time_bytes": LAYER_EXAMPLES * weights_bytes + rest_bytes,
        "at_once_bytes": weights_bytes + rest_bytes,
    }


def _first_layer_on_cpu(images: NDArray[np.uint8], weights: list[NDArray[np.floating]]) -> tuple[float, float]:
    x = images.astype(np.float32) / np.float32(255)

    def one_at_a_time() -> None:
        for row in range(len(x)):
            reference.dense_forward(x[row : row + 1], weights[0], weights[1], "sigmoid")

    return median_us(one_at_a_time), median_us(lambda: reference.dense_forward(x, weights[0], weights[1], "sigmoid"))


def _first_layer_on_gpu(images: NDArray[np.uint8], weights: list[NDArray[np.floating]]) -> tuple[float, float]:
    device = engines.cuda_device()
    inputs, units = NETWORK.sizes[0]
    joined = pad_columns(np.vstack([weights[0], weights[1]]))
    layer = tiled_launches.DeviceLayer(inputs, units, "sigmoid", device.upload(joined), None)
    x, y = device.upload(images), device.zeros((len(images), tiled_launches.padded(units)), np.float32)
    order, cursors = device.zeros(1, np.int32), device.zeros(2, np.int32)

    def launches(rows_a_launch: int) -> Callable[[], None]:
        chain = tiled_launches.Launches(device)
        batches = tiled_launches.Batches(order, False, cursors, rows_a_launch, rows_a_launch)
        for first in range(0, len(images), rows_a_launch):
            rows = slice(first, first + rows_a_launch)
            chain.dense_forward(layer, x[rows], y[rows], batches, gather=False)
        chain.run()
        device.synchronize()
        graph = device.capture(chain.run)  # so that the host's time for a launch is not what is measured

        def run() -> None:
            graph.launch()
            device.synchronize()

        return run

    return median_us(launches(1)), median_us(launches(len(images)))


def median_us(work: Callable[[], None], seconds: float = 0.5) -> float:
    """The median time of a call in microseconds, after a first call that does not count."""
    work()
    times, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 5:
        started = time.perf_counter()
        work()
        times.append(1e6 * (time.perf_counter() - started))
    return statistics.median(times)
