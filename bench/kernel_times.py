"""`python bench/kernel_times.py`: each kernel of an update by itself, against the bound that measured rates give.

A launch is captured REPEATS times as one graph, so that the host's time for a launch is not what is measured. Caches
are as the same launch left them: warmer than in training. The bound: bytes over the rate of a copy, operations over the
rate of a large matrix product, both measured here; where a cache holds the bytes, a launch can be faster. Needs a GPU.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import workload
from bounds import BATCH_SIZES, LECTURE, costs

from gpunet import commandline, engines
from gpunet.cuda.device import Device
from gpunet.engines.tiled import TiledEngine

PROGRAM = "kernel_times.py"
REPEATS = 50
SAMPLES = 7
COPY_BYTES = 1 << 28
PRODUCT_SIZE = 8192


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline). Prints one JSON object."""
    return commandline.run(PROGRAM, _kernel_times, argv)


def _kernel_times(argv: Sequence[str] | None) -> int:
    parser = commandline.Parser(prog=PROGRAM, description="Time each kernel of an update on the GPU.")
    parser.parse_args(argv)
    engines.check_device("cuda", "tiled")
    print(json.dumps(measure(engines.cuda_device())))
    return commandline.DONE


def measure(device: Device, batch_sizes: Sequence[int] = BATCH_SIZES) -> dict[str, Any]:
    """{"copy_bytes_per_second", "product_operations_per_second", "kernels": [...]}; None for a rate not to be had."""
    bandwidth, product_rate = copy_rate(device), product_operations_rate()
    kernels = []
    work = workload.load()
    for batch_size in batch_sizes:
        engine = TiledEngine(workload.NETWORK, workload.optimizer(), work.weights, device)
        placed = engine.place(work.images), engine.place(work.labels)
        launches = engine.each_launch(*placed, work.order, batch_size)
        for (kernel, launch), cost in zip(launches, costs(LECTURE, batch_size), strict=True):
            times = [cost.bytes / bandwidth, cost.operations / product_rate if product_rate else 0.0]
            us = microseconds(device, launch)
            bound = 1e6 * max(times)
            record = {"batch_size": batch_size, "kernel": kernel, "layer": cost.kernel.split()[1], "us": us}
            kernels.append({**record, "bound_us": bound, "times_bound": us / bound})
    return {
        "copy_bytes_per_second": bandwidth,
        "product_operations_per_second": product_rate,
        "kernels": kernels,
    }


def microseconds(device: Device, launch: Callable[[], None]) -> float:
    """Median time of a launch, REPEATS of them in a row."""

    def repeats() -> None:
        for _ in range(REPEATS):
            launch()

    graph = device.capture(repeats)
    graph.launch()
    device.synchronize()
    return 1e6 * median_seconds(graph.launch, device.synchronize) / REPEATS


def median_seconds(start: Callable[[], object], wait: Callable[[], None]) -> float:
    """Median time from the start of some work to its end, SAMPLES times."""
    samples = []
    for _ in range(SAMPLES):
        started = time.perf_counter()
        start()
        wait()
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def copy_rate(device: Device) -> float:
    """Bytes a second of a copy inside the device's memory, read and written both counted."""
    source, target = device.zeros(COPY_BYTES, np.uint8), device.empty(COPY_BYTES, np.uint8)
    device.copy(source, target)
    return 2 * COPY_BYTES / median_seconds(lambda: device.copy(source, target), device.synchronize)


def product_operations_rate() -> float | None:
    """Operations a second of a large float32 matrix product in cuBLAS, through CuPy; None where that is missing."""
    try:
        import cupy

        a = cupy.full((PRODUCT_SIZE, PRODUCT_SIZE), 0.5, cupy.float32)
        cupy.matmul(a, a)
        wait = cupy.cuda.Device().synchronize
        wait()
        return 2 * PRODUCT_SIZE**3 / median_seconds(lambda: cupy.matmul(a, a), wait)
    except Exception:  # whatever a missing cuBLAS, or missing headers for CuPy's own kernels, raise
        return None


if __name__ == "__main__":
    sys.exit(main())
