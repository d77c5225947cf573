"""`python bench/kernel_times.py`: each kernel of an update by itself, against the bound that measured rates give.

A launch is captured REPEATS times as one graph, so that the host's time for a launch is not what is measured. Caches
are as the same launch left them: warmer than in training. The bound: bytes over the rate of a copy, operations over the
rate of a large matrix product, both measured here; where a cache holds the bytes, a launch can be faster. Beside them
an empty kernel, below which no launch comes, and the whole update. Needs a GPU.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bounds import BATCH_SIZES, LECTURE, Cost, costs
from gpunet import commandline, engines
from gpunet.engines.cuda.device import CudaDevice, Device
from gpunet.engines.cuda.tiled import TiledEngine
from harness import workload

PROGRAM = "kernel_times.py"
KERNELS = Path(__file__).parent / "kernels"
REPEATS = 50
SAMPLES = 7
COPY_BYTES = 1 << 28
PRODUCT_SIZE = 8192
# The GPUs that kernels are compiled for compute 12 operations and more in the time of a byte, by their data sheets:
# below this, a launch waits for its memory.
OPERATIONS_A_BYTE = 8

Launch = Callable[[], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline). Prints one JSON object."""
    return commandline.run(PROGRAM, _kernel_times, argv)


def _kernel_times(argv: Sequence[str] | None) -> int:
    parser = commandline.Parser(prog=PROGRAM, description="Time each kernel of an update on the GPU.")
    parser.parse_args(argv)
    engines.check_device("cuda", "tiled")
    print(json.dumps(measure(engines.cuda_device(), CudaDevice(folder=KERNELS))))
    return commandline.DONE


def measure(device: Device, empty_device: Device, batch_sizes: Sequence[int] = BATCH_SIZES) -> dict[str, Any]:
    """{"copy_bytes_per_second", "product_operations_per_second", "empty_kernel_us", "kernels", "updates"}.

    None for a rate or a bound not to be had. empty_device: the same, with this folder's kernels.
    """
    bandwidth, product_rate = copy_rate(device), product_operations_rate()
    kernels, updates = [], []
    work = workload.load()
    for batch_size in batch_sizes:
        engine = TiledEngine(workload.NETWORK, workload.optimizer(), work.weights, device)
        placed = engine.place(work.images), engine.place(work.labels)
        most = min(REPEATS, workload.epoch_updates(batch_size))  # an update's last launch goes on to the next batch

        def launches() -> list[tuple[str, Launch]]:
            """At the first update of an epoch."""
            return engine.each_launch(*placed, work.order, batch_size)  # noqa: B023 - used before the next engine

        every = launches()
        for (kernel, launch), cost in zip(every, costs(LECTURE, batch_size), strict=True):
            repeats = most if launch is every[-1][1] else REPEATS
            us = microseconds(device, launch, repeats, launches)
            record = {"batch_size": batch_size, "kernel": kernel, "layer": cost.kernel.split()[1], "us": us}
            bound = bound_us(cost, bandwidth, product_rate)
            kernels.append({**record, "bound_us": bound, "times_bound": us / bound if bound else None})
        us = microseconds(device, lambda: [launch() for _, launch in every], most, launches)  # noqa: B023
        updates.append({"batch_size": batch_size, "launches": len(every), "us": us})
    return {
        "copy_bytes_per_second": bandwidth,
        "product_operations_per_second": product_rate,
        "empty_kernel_us": empty_kernel_us(empty_device),
        "kernels": kernels,
        "updates": updates,
    }


def bound_us(cost: Cost, bandwidth: float, product_rate: float | None) -> float | None:
    """The least time with every byte from DRAM; None if operations may need longer at a rate that is not known."""
    if product_rate is None:
        return None if cost.operations > OPERATIONS_A_BYTE * cost.bytes else 1e6 * cost.bytes / bandwidth
    return 1e6 * max(cost.bytes / bandwidth, cost.operations / product_rate)


def empty_kernel_us(device: Device) -> float:
    module = device.compile("empty")
    return microseconds(device, lambda: module.launch("empty", (1,), (32,), []), REPEATS, lambda: None)


def microseconds(device: Device, launch: Callable[[], object], repeats: int, begin: Callable[[], object]) -> float:
    """Median time of a launch, so many of them in a row; `begin` comes before each row, untimed."""

    def row() -> None:
        for _ in range(repeats):
            launch()

    graph = device.capture(row)

    def untimed() -> None:
        begin()
        device.synchronize()

    untimed()
    graph.launch()
    return 1e6 * median_seconds(graph.launch, device.synchronize, untimed) / repeats


def median_seconds(start: Callable[[], object], wait: Callable[[], None], begin: Callable[[], None]) -> float:
    """Median time from the start of some work to its end, SAMPLES times; `begin` comes before each, untimed."""
    samples = []
    for _ in range(SAMPLES):
        begin()
        started = time.perf_counter()
        start()
        wait()
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def copy_rate(device: Device) -> float:
    """Bytes a second of a copy inside the device's memory, read and written both counted."""
    source, target = device.zeros(COPY_BYTES, np.uint8), device.empty(COPY_BYTES, np.uint8)
    device.copy(source, target)
    copy = median_seconds(lambda: device.copy(source, target), device.synchronize, device.synchronize)
    return 2 * COPY_BYTES / copy


def product_operations_rate() -> float | None:
    """Operations a second of a large float32 matrix product in cuBLAS, through CuPy; None where that is missing."""
    try:
        import cupy

        a = cupy.full((PRODUCT_SIZE, PRODUCT_SIZE), 0.5, cupy.float32)
        cupy.matmul(a, a)
        wait = cupy.cuda.Device().synchronize
        return 2 * PRODUCT_SIZE**3 / median_seconds(lambda: cupy.matmul(a, a), wait, wait)
    except Exception:  # whatever a missing cuBLAS, or missing headers for CuPy's own kernels, raise
        return None


if __name__ == "__main__":
    sys.exit(main())
