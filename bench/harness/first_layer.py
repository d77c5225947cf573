"""Why batching is fast: the first layer, for 100 examples one at a time and as one product."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet import engines
from gpunet.engines import reference
from gpunet.engines.cuda import tiled_launches
from gpunet.engines.cuda.device import Device
from gpunet.engines.cuda.engine import pad_columns
from harness.workload import NETWORK, Workload

LAYER_EXAMPLES = 100
SECONDS = 0.5  # for which each way is timed


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
    """The first layer's forward pass with gpunet's own kernels. y: (examples, units), with padded rows."""

    def __init__(self, device: Device, images: NDArray[np.uint8], weights: list[NDArray[np.floating]]) -> None:
        self._device = device
        inputs, units = NETWORK.sizes[0]
        joined = pad_columns(np.vstack([weights[0], weights[1]]))
        self._layer = tiled_launches.DeviceLayer(inputs, units, "sigmoid", device.upload(joined), None)
        self._x, self.y = device.upload(images), device.zeros((len(images), joined.shape[1]), np.float32)
        self._order, self._cursors = device.zeros(1, np.int32), device.zeros(2, np.int32)

    def graph(self, rows_a_launch: int) -> Callable[[], None]:
        """Run all examples, so many per launch, as one graph, so that the host's launch time is not included."""
        chain = tiled_launches.Launches(self._device)
        batches = tiled_launches.Batches(self._order, False, self._cursors, rows_a_launch, rows_a_launch)
        for first in range(0, len(self._x), rows_a_launch):
            rows = slice(first, first + rows_a_launch)
            chain.dense_forward(self._layer, self._x[rows], self.y[rows], batches, gather=False)
        chain.make_ready()
        graph = self._device.capture(chain.run)

        def run() -> None:
            graph.launch()
            self._device.synchronize()

        return run


def median_us(work: Callable[[], None]) -> float:
    """The median time of a call in microseconds, after a first call that is not counted."""
    work()
    times, until = [], time.perf_counter() + SECONDS
    while time.perf_counter() < until or len(times) < 5:
        started = time.perf_counter()
        work()
        times.append(1e6 * (time.perf_counter() - started))
    return statistics.median(times)
