"""What gpunet's engines learn at each batch size, and why batching is fast. Every function returns plain numbers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet import engines
from gpunet.engines import Choice, Engine, reference
from gpunet.engines.cuda import tiled_launches
from gpunet.engines.cuda.device import Array, Device
from gpunet.engines.cuda.engine import pad_columns
from harness.workload import EXAMPLES, NETWORK, Workload, batches, epoch_updates, lecture_weights, optimizer

LAST_UPDATES = 500  # whose losses' spread is looked at
LAYER_EXAMPLES = 100
SURE_SECONDS = 0.5  # the least time from which the time of an update is worked out


def make_engine(name: str, weights: Sequence[NDArray[np.floating]]) -> Engine:
    return Choice(name, "").make(NETWORK, optimizer(), weights)


def seconds_an_update(name: str, batch_size: int, work: Workload) -> float:
    """A rough figure, to plan with."""
    engine = make_engine(name, work.weights)
    images, labels = engine.place(work.images), engine.place(work.labels)
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
    images, labels = engine.place(work.images), engine.place(work.labels)
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
    images, labels = engine.place(work.images), engine.place(work.labels)
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
    _, accuracy = engine.evaluate(engine.place(work.test_images), engine.place(work.test_labels))
    return {"train_loss": train_loss, "test_accuracy": accuracy}


def why(device: str, work: Workload) -> dict[str, Any]:
    """100 examples through the first layer, one at a time and as one product: by NumPy, or by gpunet's kernels."""
    inputs, units = NETWORK.sizes[0]
    images = work.images[:LAYER_EXAMPLES]
    layer = _first_layer_on_gpu if device == "cuda" else _first_layer_on_cpu
    one_at_a_time, at_once = layer(images, work.weights)
    weights_bytes = 4 * (inputs + 1) * units
    rest_bytes = LAYER_EXAMPLES * (images.itemsize * inputs + 4 * units)
    return {
        "name": "gpunet tiled" if device == "cuda" else "gpunet reference",
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
    layer = LayerOnGpu(engines.cuda_device(), images, weights)
    return median_us(layer.graph(1)), median_us(layer.graph(len(images)))


class LayerOnGpu:
    """The first layer's forward pass by gpunet's own kernels. y: (examples, units), rows padded."""

    def __init__(self, device: Device, images: NDArray[np.uint8], weights: list[NDArray[np.floating]]) -> None:
        self._device = device
        inputs, units = NETWORK.sizes[0]
        joined = pad_columns(np.vstack([weights[0], weights[1]]))
        self._layer = tiled_launches.DeviceLayer(inputs, units, "sigmoid", device.upload(joined), None)
        self._x, self.y = device.upload(images), device.zeros((len(images), joined.shape[1]), np.float32)
        self._order, self._cursors = device.zeros(1, np.int32), device.zeros(2, np.int32)

    def graph(self, rows_a_launch: int) -> Callable[[], None]:
        """Runs all examples, so many at a time, as one graph: the host's time for a launch is not in it."""
        chain = tiled_launches.Launches(self._device)
        batches = tiled_launches.Batches(self._order, False, self._cursors, rows_a_launch, rows_a_launch)
        for first in range(0, len(self._x), rows_a_launch):
            rows = slice(first, first + rows_a_launch)
            chain.dense_forward(self._layer, self._x[rows], self.y[rows], batches, gather=False)
        chain.make_room()
        graph = self._device.capture(chain.run)

        def run() -> None:
            graph.launch()
            self._device.synchronize()

        return run


def median_us(work: Callable[[], None], seconds: float = 0.5) -> float:
    """The median time of a call in microseconds, after a first call that does not count."""
    work()
    times, until = [], time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 5:
        started = time.perf_counter()
        work()
        times.append(1e6 * (time.perf_counter() - started))
    return statistics.median(times)
