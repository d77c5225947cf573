"""The emulated device: arrays, compiled kernels and launches, with the same interface as the CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy.typing as npt

from gpunet.engines.cuda.sources import define_options, read_source

from . import build
from .arrays import Argument, EmulatedArray, allocate
from .errors import BY_OUTCOME
from .launches import MOST_THREADS, Launch, Signature, check_geometry
from .library import Library
from .program import Program

_FORWARD, _REVERSE, _SEEDED = range(3)


class Runner(Protocol):
    """Where a module's kernels run."""

    signatures: dict[str, str]

    def run(self, launch: Launch, signature: Signature, arguments: Sequence[Argument]) -> tuple[int, str]: ...


class EmulatedDevice:
    """Runs CUDA kernels on the CPU, one thread at a time, and reports what they do wrong.

    order            in which the threads of a block, the lanes of a warp and the blocks run: "forward", "reverse",
                     or an int, the seed of random orders
    sanitizer        "race" finds accesses that nothing orders, "address" finds accesses out of bounds, misaligned
                     ones and undefined behaviour; each is slower than None
    multiprocessors  how many blocks a cooperative launch may have
    capability       compute capability: __CUDA_ARCH__, and what the engines choose by
    shared_bytes     largest dynamic shared memory of a block
    timeout          seconds of processor time that one launch may take
    folder           folder of the kernel sources, if not the project's own
    """

    def __init__(
        self,
        order: Literal["forward", "reverse"] | int = "forward",
        sanitizer: Literal["race", "address"] | None = None,
        multiprocessors: int = 4,
        capability: tuple[int, int] = (9, 0),
        shared_bytes: int = 48 * 1024,
        timeout: float = 60.0,
        folder: str | Path | None = None,
    ) -> None:
        if not (order in ("forward", "reverse") or isinstance(order, int)):
            raise ValueError(f'order: expected "forward", "reverse" or an int, got {order!r}')
        if sanitizer not in build.MODES:
            raise ValueError(f'sanitizer: expected None, "race" or "address", got {sanitizer!r}')
        self.index = 0
        self.multiprocessors = multiprocessors
        self.capability = capability
        self.shared_bytes = shared_bytes
        self.sm_shared_bytes = shared_bytes if capability >= (7, 0) else 2 * shared_bytes
        self.cooperative = capability >= (6, 0)
        described = f"seed {order}" if isinstance(order, int) else f"{order} order"
        self.name = f"emulator: 1 CPU thread, {described}" + (f", {sanitizer} sanitizer" if sanitizer else "")
        self.sanitizer = sanitizer
        self.timeout = timeout
        self.order_number = {"forward": _FORWARD, "reverse": _REVERSE}.get(str(order), _SEEDED)
        self._seed = order if isinstance(order, int) else 0
        self.captured: list[Callable[[], None]] | None = None  # launches, while they are captured
        self._launches = 0
        self._folder = folder
        self._modules: dict[tuple[str, tuple[str, ...]], EmulatedModule] = {}

    @property
    def lost(self) -> str | None:
        """It cannot be lost."""
        return None

    def upload(self, array: npt.NDArray[Any]) -> EmulatedArray:
        """Copy of a NumPy array on the device."""
        self._refuse_in_capture("upload")
        copy = allocate(array.shape, array.dtype)
        copy.elements[...] = array
        return copy

    def adopt(self, array: Any) -> EmulatedArray:
        """Copy of an array that is on the device already.

        array: a stand-in for CuPy's (tests/support/gpu_arrays.py), which the host cannot read either.
        """
        self._refuse_in_capture("adopt")
        copy = allocate(array.shape, array.dtype)
        copy.elements[...] = array.on_device
        return copy

    def write(self, array: EmulatedArray, values: npt.NDArray[Any]) -> None:
        """Overwrite the beginning of a device array with values of the same type."""
        self._refuse_in_capture("write")
        if values.dtype != array.dtype:
            raise TypeError(f"write: expected {array.dtype}, got {values.dtype}")
        array.elements[: len(values)] = values

    def copy(self, source: EmulatedArray, target: EmulatedArray) -> None:
        """Copy one device array into another of the same shape and type."""
        self._refuse_in_capture("copy")
        if (source.shape, source.dtype) != (target.shape, target.dtype):
            raise TypeError(f"copy: {source.dtype} {source.shape} into {target.dtype} {target.shape}")
        target.elements[...] = source.elements

    def download(self, array: EmulatedArray) -> npt.NDArray[Any]:
        """Copy of a device array as a NumPy array."""
        self._refuse_in_capture("download")
        array.check_guards()
        return array.elements.copy()

    def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> EmulatedArray:
        """Array that holds poison: NaN as float, -1 as int."""
        return allocate(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> EmulatedArray:
        """Array of zeros."""
        array = allocate(shape, dtype)
        array.elements[...] = 0
        return array

    def compile(self, name: str, defines: Mapping[str, int | float | str] = MappingProxyType({})) -> EmulatedModule:
        """The kernels of `<name>.cu` with these compile-time parameters; built on first use."""
        major, minor = self.capability
        options = (*define_options(defines), f"-D__CUDA_ARCH__={major * 100 + minor * 10}")
        key = name, options
        if key not in self._modules:
            path = build.build(name, read_source(name, self._folder), self.sanitizer, options)
            runner = Program(path) if self.sanitizer == "address" else Library(path)
            self._modules[key] = EmulatedModule(self, name, runner)
        return self._modules[key]

    def compile_all(self, kernels: Iterable[tuple[str, Mapping[str, int | float | str]]]) -> None:
        """The same as `compile`, one after another."""
        for name, defines in kernels:
            self.compile(name, defines)

    def capture(self, work: Callable[[], None]) -> EmulatedGraph:
        """The launches that `work` makes, as a graph; they do not run yet."""
        if self.captured is not None:
            raise RuntimeError("capture: another capture is under way")
        launches: list[Callable[[], None]] = []
        self.captured = launches
        try:
            work()
        finally:
            self.captured = None
        return EmulatedGraph(launches)

    def synchronize(self) -> None:
        """Nothing to wait for: a launch returns when it is finished."""
        self._refuse_in_capture("synchronize")

    def _refuse_in_capture(self, what: str) -> None:
        if self.captured is not None:
            raise RuntimeError(f"{what}: not possible while launches are captured")

    def next_seed(self) -> int:
        """A new seed for each launch, the same ones in each run."""
        self._launches += 1
        return (self._seed * 0x9E3779B9 + self._launches) % 2**64


class EmulatedModule:
    """The kernels of one source."""

    def __init__(self, device: EmulatedDevice, name: str, runner: Runner) -> None:
        self._device = device
        self._name = name
        self._runner = runner
        self._signatures = {kernel: Signature(kernel, text) for kernel, text in runner.signatures.items()}
        self._numbers = {kernel: number for number, kernel in enumerate(runner.signatures)}

    def launch(
        self,
        kernel: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: Sequence[Argument],
        shared_bytes: int = 0,
        cooperative: bool = False,
    ) -> None:
        """Run a kernel to its end.

        Raises TypeError or ValueError for a launch that CUDA would refuse or misread, EmulatorError for what the
        kernel does wrong.
        """
        device = self._device
        signature = self._signature(kernel)
        arguments = tuple(arguments)
        grid3, block3 = check_geometry(kernel, grid, block, shared_bytes, device.shared_bytes)
        blocks = grid3[0] * grid3[1] * grid3[2]
        if cooperative:
            threads = block3[0] * block3[1] * block3[2]
            most = device.multiprocessors * self.resident_blocks(kernel, threads, shared_bytes)
            if blocks > most:
                raise ValueError(f"{kernel}: a cooperative grid may have {most} blocks on this device, got {blocks}")
        number = self._numbers[kernel]

        def run() -> None:
            launch = Launch(
                grid3,
                block3,
                shared_bytes,
                device.order_number,
                device.next_seed(),
                cooperative,
                number,
                device.timeout,
            )
            outcome, message = self._runner.run(launch, signature, arguments)
            if outcome:
                raise BY_OUTCOME[outcome](f"{kernel}: {message}")

        if device.captured is None:
            run()
        else:
            signature.slots(arguments)  # refuse bad arguments now, not at launch
            device.captured.append(run)

    def local_bytes(self, kernel: str) -> int:
        """There are no registers to run out of."""
        return 0

    def resident_blocks(self, kernel: str, threads: int, shared_bytes: int = 0) -> int:
        """How many blocks fit on one multiprocessor at a time: 1, before compute capability 7.0 as many as their shared
        memory leaves room for, up to 2; 0 if not even one.
        """
        self._signature(kernel)
        device = self._device
        fitting = 2 if 2 * shared_bytes <= device.sm_shared_bytes and device.capability < (7, 0) else 1
        return fitting if threads <= MOST_THREADS and shared_bytes <= device.shared_bytes else 0

    def _signature(self, kernel: str) -> Signature:
        try:
            return self._signatures[kernel]
        except KeyError:
            known = ", ".join(self._signatures)
            raise ValueError(f"{self._name}.cu has no kernel {kernel}; it has {known}") from None


class EmulatedGraph:
    """Launches that were captured once and can be run again as a whole."""

    def __init__(self, launches: list[Callable[[], None]]) -> None:
        self._launches = launches

    def launch(self) -> None:
        """Run them all, in the order in which they were captured."""
        for launch in self._launches:
            launch()
