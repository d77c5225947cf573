"""A GPU as engines see it: arrays, compiled modules, launches. `CudaDevice` is the real one, through CuPy.

Engines get their device as an argument and reach a GPU in no other way; the tests' emulator has the same interface.
CuPy is imported when a CudaDevice is created, not before.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpunet.engines.cuda.boundary import Boundary, crossing, open_gpu_context
from gpunet.engines.cuda.compiler import CompileError, Program, machine_code, program
from gpunet.engines.cuda.sources import define_options, read_source
from gpunet.errors import ArgumentError, DeviceError, first_line

# An array on the device. It has shape and dtype; slices along its first axis, and view(dtype) of a vector, are views.
Array = Any

Defines = Mapping[str, int | float | str]  # compile-time parameters by name
NO_DEFINES: Defines = MappingProxyType({})
Kernels = Iterable[tuple[str, Defines]]  # kernels/<name>.cu, each with its parameters


class Module(Protocol):
    """Compiled kernels of one source file."""

    def launch(
        self,
        kernel: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: Sequence[Array | np.generic],
        shared_bytes: int = 0,
        cooperative: bool = False,
    ) -> None:
        """Start a kernel; returns before it has run.

        arguments:    device arrays, and NumPy scalars of exactly the kernel's types.
        shared_bytes: dynamic shared memory per block.
        cooperative:  all blocks must be resident at once; DeviceError if the device cannot hold them, or the driver
                      refuses such a launch. A device without such launches is given an ordinary one, and guarantees
                      nothing.
        """

    def resident_blocks(self, kernel: str, threads: int, shared_bytes: int = 0) -> int:
        """How many blocks of this many threads a multiprocessor can hold at once. Loads the kernel if necessary."""

    def local_bytes(self, kernel: str) -> int:
        """Memory per thread for what did not fit into registers; unless it is 0, the kernel is slower than planned."""


class Graph(Protocol):
    """Work that was captured once and can be launched again as a whole. Keeps the arrays that it uses alive."""

    def launch(self) -> None: ...


class Device(Protocol):
    """What engines need of a GPU. All work runs in the order in which it was requested, from whatever thread."""

    name: str
    index: int  # which of the GPUs that are visible to CUDA
    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int  # the most dynamic shared memory that a block may request
    sm_shared_bytes: int  # the shared memory of a multiprocessor, for all its blocks
    cooperative: bool  # whether the device guarantees that all blocks of a launch run at once, if they can

    @property
    def lost(self) -> str | None:
        """Why the device no longer works, in one line; its contents are gone. None while it works."""

    def upload(self, array: NDArray[Any]) -> Array:
        """A copy on the device."""

    def adopt(self, array: Any) -> Array:
        """A copy of a CuPy array on this GPU, row-major and contiguous."""

    def download(self, array: Array) -> NDArray[Any]:
        """A copy as a NumPy array, after all earlier work is done."""

    def write(self, array: Array, values: NDArray[Any]) -> None:
        """Overwrite the beginning of a device array, along its first axis, with values of the same type."""

    def copy(self, source: Array, target: Array) -> None:
        """Copy one device array into another of the same shape and type."""

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Array: ...

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Array: ...

    def compile(self, name: str, defines: Defines = NO_DEFINES) -> Module:
        """Compile kernels/<name>.cu with compile-time parameters, passed as -D."""

    def compile_all(self, kernels: Kernels) -> None:
        """Compile in parallel what `compile` will be asked for later; it then finds them compiled."""

    def capture(self, work: Callable[[], None]) -> Graph:
        """The launches that `work` makes, as a graph; they are recorded, not run."""

    def synchronize(self) -> None:
        """Wait until all work is done."""


ANSWER = 2016  # what a GPU must write to count as usable
REFUSED = (1, 701, 720, 801)  # CUDA's error codes for a cooperative launch that the driver refuses


class CudaDevice:
    """A CUDA device, through CuPy. CUDA's errors become DeviceErrors, in words that a user can act on.

    announce: called once, with a line, before kernels are compiled that are not in the cache.
    folder:   of the kernel sources, if not the project's own.
    index:    which of the GPUs that are visible to CUDA.
    first:    the same GPU with its first stream, if this is for another one.
    """

    def __init__(
        self,
        announce: Callable[[str], None] | None = None,
        folder: str | Path | None = None,
        index: int = 0,
        first: CudaDevice | None = None,
    ) -> None:
        import cupy

        self.cupy, self.index, self._folder = cupy, index, folder
        self._modules: dict[tuple[str, ...], CudaModule] = {}  # by source and options
        self._announce: Callable[[str], None] | None = announce or _print_to_stderr
        self._held: list[Any] | None = None  # while a graph is captured: what it will use
        open_gpu_context(cupy, index)
        self.boundary: Boundary = Boundary(cupy, index, None if first is None else first.boundary)
        self.stream = self._make_stream()
        properties = cupy.cuda.runtime.getDeviceProperties(index)
        self.name: str = properties["name"].decode()
        self.capability: tuple[int, int] = (properties["major"], properties["minor"])
        self.multiprocessors: int = properties["multiProcessorCount"]
        self.shared_bytes: int = properties["sharedMemPerBlockOptin"] or properties["sharedMemPerBlock"]
        self.sm_shared_bytes: int = properties["sharedMemPerMultiprocessor"]
        self.cooperative = bool(properties["cooperativeLaunch"])

    @crossing
    def _make_stream(self) -> Any:
        return self.cupy.cuda.Stream(non_blocking=True)

    @property
    def lost(self) -> str | None:
        return self.boundary.lost

    @crossing
    def try_out(self) -> None:
        """Compile, launch and read back a small kernel. Raises DeviceError if that does not work."""
        wanted = program("try_out", read_source("try_out"), {}, self._architecture)
        (code,) = self._machine_code([wanted], lambda line: None)  # takes 0.1 s
        module = CudaModule(self, "try_out", code)
        answer = self.zeros(1, np.uint32)
        module.launch("try_out", (1,), (1,), [answer, np.uint32(ANSWER)])
        if self.download(answer)[0] != ANSWER:
            raise DeviceError("a kernel ran, but what it wrote cannot be read; reinstall the NVIDIA driver")

    def upload(self, array: NDArray[Any]) -> Array:
        copy = self.empty(array.shape, array.dtype)
        self.write(copy, array)
        return copy

    @crossing
    def adopt(self, array: Any) -> Array:
        if array.device.id != self.index:
            raise ArgumentError(
                f"an array is on GPU {array.device.id}, but GPU {self.index} computes; move it there, or compute with "
                f"device='cuda:{array.device.id}'"
            )
        self.cupy.cuda.get_current_stream().synchronize()  # the work that writes it may not be done
        copy = self.empty(array.shape, array.dtype)
        self.copy(array, copy)
        self.stream.synchronize()  # the array may change afterwards
        return copy

    @crossing
    def write(self, array: Array, values: NDArray[Any]) -> None:
        array[: len(values)].set(np.ascontiguousarray(values, array.dtype), stream=self.stream)
        self.stream.synchronize()  # the host array may change afterwards

    @crossing
    def copy(self, source: Array, target: Array) -> None:
        self.hold(source, target)
        target.data.copy_from_device_async(source.data, source.nbytes, self.stream)

    @crossing
    def download(self, array: Array) -> NDArray[Any]:
        result: NDArray[Any] = array.get(stream=self.stream)  # waits for the stream
        return result

    @crossing
    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
        try:
            with self.stream:
                return self.cupy.empty(shape, dtype)
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
            free, total = self.cupy.cuda.runtime.memGetInfo()
            raise DeviceError(
                f"not enough GPU memory: {needed / 2**20:,.0f} MB more are needed, {free / 2**20:,.0f} MB of "
                f"{total / 2**20:,.0f} MB are free; close other programs on the GPU, or use a smaller network or "
                "batch"
            ) from error

    @crossing
    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
        array = self.empty(shape, dtype)
        self.hold(array)
        array.data.memset_async(0, array.nbytes, self.stream)
        return array

    def compile(self, name: str, defines: Defines = NO_DEFINES) -> CudaModule:
        self.compile_all([(name, defines)])
        return self._modules[_key(name, defines)]

    def compile_all(self, kernels: Kernels) -> None:
        """Other threads may use the GPU meanwhile; it is needed only for loading."""
        self.boundary.require_usable()
        wanted = {_key(name, defines): (name, defines) for name, defines in kernels}
        missing = {key: kernel for key, kernel in wanted.items() if key not in self._modules}
        programs = [
            program(name, read_source(name, self._folder), defines, self._architecture)
            for name, defines in missing.values()
        ]
        if programs:
            self._load(missing, self._machine_code(programs, self.say_once))

    @crossing
    def _load(self, keys: Iterable[tuple[str, ...]], codes: Sequence[bytes]) -> None:
        for key, code in zip(keys, codes, strict=True):
            if key not in self._modules:  # another thread may have loaded it
                self._modules[key] = CudaModule(self, key[0], code)

    @crossing
    def capture(self, work: Callable[[], None]) -> Graph:
        """Other threads wait, because the stream captures the work of every thread."""
        held: list[Any] = []
        try:
            self._held, self.boundary.capturing = held, True
            self.stream.begin_capture()
            work()
            graph = self.stream.end_capture()
        except BaseException:
            with contextlib.suppress(Exception):  # the first error is the one to report
                self.stream.end_capture()
            raise
        finally:
            self._held, self.boundary.capturing = None, False
        return CudaGraph(self, graph, held)

    def hold(self, *used: Any) -> None:
        """Called for everything that is passed to work on the device: a graph being captured must keep it alive."""
        if self._held is not None:
            self._held += used

    @crossing
    def synchronize(self) -> None:
        self.stream.synchronize()

    @property
    def _architecture(self) -> int:
        major, minor = self.capability
        return 10 * major + minor

    def _machine_code(self, programs: Sequence[Program], announce: Callable[[str], None]) -> list[bytes]:
        try:
            return machine_code(programs, announce)
        except CompileError as error:
            raise DeviceError(
                f"CUDA's compiler refuses a kernel ({first_line(error)}); gpunet doctor says what is installed"
            ) from error

    def say_once(self, line: str) -> None:
        """Announce, unless that was done before."""
        if self._announce is not None:
            self._announce(line)
            self._announce = None


def _key(name: str, defines: Defines) -> tuple[str, ...]:
    return (name, *define_options(defines))


_opening = threading.Lock()
_opened: dict[tuple[int, int], CudaDevice] = {}


def open_gpu(index: int, stream: int = 0) -> CudaDevice:
    """The GPU, opened at first use and shared by all models of the process. Raises DeviceError if that fails.

    stream: the number of a stream. Work in different streams runs at the same time.
    """
    key = index, stream
    if key not in _opened:  # a forked process must not wait for a lock that no thread will release
        first = None if stream == 0 else open_gpu(index)
        with _opening:
            if key not in _opened:
                _opened[key] = CudaDevice(None if first is None else first.say_once, index=index, first=first)
    return _opened[key]


@dataclass
class _Kernel:
    """CuPy's Function and what is known about it: every query of the driver takes as long as a launch.

    shared_bytes: the dynamic shared memory that it may use so far; resident: see Module.resident_blocks.
    """

    call: Any
    shared_bytes: int
    local_bytes: int
    resident: dict[tuple[int, int], int] = field(default_factory=dict)


class CudaModule:
    """See Module. name: of the source file and of the kernel in it; code: the cubin."""

    _loaded: ClassVar[list[Any]] = []  # never unloaded: a kernel may still run, and a lost GPU cannot unload

    def __init__(self, device: CudaDevice, name: str, code: bytes) -> None:
        self._device, self.boundary = device, device.boundary
        self._module = device.cupy.cuda.function.Module()
        self._module.load(code)
        self._loaded.append(self._module)
        self._kernels: dict[str, _Kernel] = {}
        self._kernel(name)  # otherwise CUDA would load it at the first launch, perhaps during a capture

    @crossing
    def launch(
        self,
        kernel: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: Sequence[Array | np.generic],
        shared_bytes: int = 0,
        cooperative: bool = False,
    ) -> None:
        device = self._device
        loaded = self._kernel(kernel)
        self._allow(loaded, shared_bytes)
        device.hold(*arguments)
        if cooperative:
            self._launch_cooperatively(kernel, loaded, grid, block, arguments, shared_bytes)
        else:
            loaded.call(grid, block, arguments, shared_mem=shared_bytes, stream=device.stream)

    @crossing
    def local_bytes(self, kernel: str) -> int:
        return self._kernel(kernel).local_bytes

    @crossing
    def resident_blocks(self, kernel: str, threads: int, shared_bytes: int = 0) -> int:
        loaded = self._kernel(kernel)
        if (threads, shared_bytes) not in loaded.resident:
            self._allow(loaded, shared_bytes)
            query = self._device.cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor
            loaded.resident[threads, shared_bytes] = int(query(loaded.call.ptr, threads, shared_bytes))
        return loaded.resident[threads, shared_bytes]

    def _launch_cooperatively(
        self,
        kernel: str,
        loaded: _Kernel,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: Sequence[Array | np.generic],
        shared_bytes: int,
    ) -> None:
        device, blocks = self._device, int(np.prod(grid))
        resident = device.multiprocessors * self.resident_blocks(kernel, int(np.prod(block)), shared_bytes)
        if blocks > resident:  # CuPy would only warn and launch fewer
            raise DeviceError(f"{kernel}: {blocks} blocks must run at once, but the GPU holds {resident}")
        if not device.cooperative:
            loaded.call(grid, block, arguments, shared_mem=shared_bytes, stream=device.stream)
            return
        try:
            loaded.call(
                grid, block, arguments, shared_mem=shared_bytes, stream=device.stream, enable_cooperative_groups=True
            )
        except device.cupy.cuda.driver.CUDADriverError as error:
            if error.status not in REFUSED:
                raise
            raise DeviceError(f"{kernel}: the driver refuses a cooperative launch ({first_line(error)})") from error

    def _allow(self, loaded: _Kernel, shared_bytes: int) -> None:
        """Allow the kernel this much dynamic shared memory."""
        if shared_bytes > loaded.shared_bytes:
            driver = self._device.cupy.cuda.driver
            driver.funcSetAttribute(
                loaded.call.ptr, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes
            )
            loaded.shared_bytes = shared_bytes

    def _kernel(self, name: str) -> _Kernel:
        if name not in self._kernels:
            driver, call = self._device.cupy.cuda.driver, self._module.get_function(name)
            shared, local = (
                int(driver.funcGetAttribute(attribute, call.ptr))
                for attribute in (
                    driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                    driver.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES,
                )
            )
            self._kernels[name] = _Kernel(call, shared, local)
        return self._kernels[name]


class CudaGraph:
    """See Graph. held: what the captured work uses; CUDA's graph only has its addresses."""

    _abandoned: ClassVar[list[Any]] = []  # graphs on a lost GPU: freeing them is an error that CuPy can only print

    def __init__(self, device: CudaDevice, graph: Any, held: Sequence[Any]) -> None:
        self._device, self._graph, self._held = device, graph, held
        self.boundary = device.boundary
        graph.upload(stream=device.stream)

    @crossing
    def launch(self) -> None:
        self._graph.launch(stream=self._device.stream)

    def __del__(self) -> None:
        if self._device.lost is not None:
            self._abandoned.append(self._graph)


def _print_to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
