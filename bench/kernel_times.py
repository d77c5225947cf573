"""`python bench/kernel_times.py`: each kernel of an update on its own, against a bound from measured rates.

A launch is captured REPEATS times in one graph, so that the host's launch time is not measured. The caches are as the
same launch left them: warmer than in training. The bound is the larger of two times: bytes at the rate of a copy, and
operations at the rate of a large matrix product, both measured here. If a cache holds the bytes, a launch can be
faster. Also times an empty kernel, the minimum for any launch, and the whole update. Needs a GPU.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bounds import BATCH_SIZES, Cost, costs_of
from gpunet import commandline, engines
from gpunet.engines.cuda.device import CudaDevice, Device
from gpunet.engines.cuda.tiled import TiledEngine
from harness import workload
from harness.records import tell, why

PROGRAM = "kernel_times.py"
KERNELS = Path(__file__).parent / "kernels"
REPEATS = 50
SAMPLES = 7
COPY_BYTES = 1 << 28
PRODUCT_SIZE = 8192
# By their data sheets, all GPUs that kernels are compiled for compute at least 12 operations in the time of a byte:
# with fewer operations per byte, a launch is bound by memory.
OPERATIONS_A_BYTE = 8

Launch = Callable[[], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline). Prints one JSON object per line."""
    return commandline.run(PROGRAM, _kernel_times, argv)


def _kernel_times(argv: Sequence[str] | None) -> int:
    parser = commandline.Parser(prog=PROGRAM, description="Time each kernel of an update on the GPU.")
    parser.parse_args(argv)
    engines.check_device("cuda", "tiled")
    for record in measure(engines.cuda_device(), CudaDevice(folder=KERNELS)):
        tell(record)
    return commandline.DONE


def measure(device: Device, empty_device: Device, batch_sizes: Sequence[int] = BATCH_SIZES) -> Iterator[dict[str, Any]]:
    """The measured rates; then, for each batch size, a record {"kernel": ...} per launch and an {"update": ...}.

    A rate or bound that is not available is None; a batch size that failed gives {"batch_size", "unavailable": why}.
    empty_device: the same device, with this folder's kernels.
    """
    bandwidth, product_rate = _or_none(lambda: copy_rate(device)), _or_none(product_operations_rate)
    rates = {"copy_bytes_per_second": bandwidth, "product_operations_per_second": product_rate}
    yield {**rates, "empty_kernel_us": _or_none(lambda: empty_kernel_us(empty_device))}
    work = workload.load()
    for batch_size in batch_sizes:
        try:
            yield from _of_batch_size(device, work, batch_size, bandwidth, product_rate)
        except Exception as error:  # such as too little memory for this size; others may work
            yield {"batch_size": batch_size, "unavailable": why(error)}


def _of_batch_size(
    device: Device, work: workload.Workload, batch_size: int, bandwidth: float | None, product_rate: float | None
) -> Iterator[dict[str, Any]]:
    engine = TiledEngine(workload.NETWORK, workload.optimizer(), work.weights, device)
    uploaded = engine.upload(work.images), engine.upload(work.labels)
    most = min(REPEATS, workload.epoch_updates(batch_size))  # an update's last launch advances to the next batch

    def launches() -> list[tuple[str, Launch]]:
        """The launches, at the first update of an epoch."""
        return engine.each_launch(*uploaded, work.order, batch_size)

    every = launches()
    every_cost = costs_of([kernel for kernel, _ in every], workload.NETWORK.widths, batch_size)
    for (kernel, launch), cost in zip(every, every_cost, strict=True):
        repeats = most if launch is every[-1][1] else REPEATS
        us = microseconds(device, launch, repeats, launches)
        record = {"batch_size": batch_size, "kernel": kernel, "layer": cost.kernel.split()[1], "us": us}
        bound = bound_us(cost, bandwidth, product_rate)
        yield {"kernel": {**record, "bound_us": bound, "times_bound": us / bound if bound else None}}
    us = microseconds(device, lambda: [launch() for _, launch in every], most, launches)
    yield {"update": {"batch_size": batch_size, "launches": len(every), "us": us}}


def collected(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """All records of `measure` so far, in one: rates, "kernels", "updates" and "unavailable"."""
    times: dict[str, Any] = {"kernels": [], "updates": [], "unavailable": []}
    for record in records:
        if "kernel" in record:
            times["kernels"].append(record["kernel"])
        elif "update" in record:
            times["updates"].append(record["update"])
        elif "unavailable" in record:
            times["unavailable"].append(record)
        else:
            times |= record
    return times


def _or_none(measured: Callable[[], float]) -> float | None:
    """The measurement; None if it fails, for lack of memory, of cuBLAS, or of headers for CuPy's own kernels."""
    try:
        return measured()
    except Exception:
        return None


def bound_us(cost: Cost, bandwidth: float | None, product_rate: float | None) -> float | None:
    """The least time with every byte from DRAM; None if operations may take longer, at an unknown rate."""
    if bandwidth is None:
        return None
    if product_rate is None:
        return None if cost.operations > OPERATIONS_A_BYTE * cost.bytes else 1e6 * cost.bytes / bandwidth
    return 1e6 * max(cost.bytes / bandwidth, cost.operations / product_rate)


def empty_kernel_us(device: Device) -> float:
    module = device.compile("empty")
    return microseconds(device, lambda: module.launch("empty", (1,), (32,), []), REPEATS, lambda: None)


def microseconds(device: Device, launch: Callable[[], object], repeats: int, begin: Callable[[], object]) -> float:
    """Median time of a launch, measured over `repeats` in a row; `begin` runs before each row, untimed."""

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
    """Median time of some work from start to end, over SAMPLES runs; `begin` runs before each, untimed."""
    samples = []
    for _ in range(SAMPLES):
        begin()
        started = time.perf_counter()
        start()
        wait()
        samples.append(time.perf_counter() - started)
    return statistics.median(samples)


def copy_rate(device: Device) -> float:
    """Bytes per second of a copy within the device's memory, counting reads and writes."""
    source, target = device.zeros(COPY_BYTES, np.uint8), device.empty(COPY_BYTES, np.uint8)
    device.copy(source, target)
    copy = median_seconds(lambda: device.copy(source, target), device.synchronize, device.synchronize)
    return 2 * COPY_BYTES / copy


def product_operations_rate() -> float:
    """Operations per second of a large float32 matrix product in cuBLAS, through CuPy."""
    import cupy

    a = cupy.full((PRODUCT_SIZE, PRODUCT_SIZE), 0.5, cupy.float32)
    cupy.matmul(a, a)
    wait = cupy.cuda.Device().synchronize
    return 2 * PRODUCT_SIZE**3 / median_seconds(lambda: cupy.matmul(a, a), wait, wait)


if __name__ == "__main__":
    sys.exit(main())
