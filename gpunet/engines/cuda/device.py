"""A GPU as engines see it: arrays, compiled modules, launches. `CudaDevice` is the real one, through CuPy.

Engines get their device as an argument and know no other way to reach a GPU; the emulator of the tests has the same
interface. CuPy is imported when a CudaDevice is made, not before.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpunet.engines.cuda.sources import OPTIONS, define_options, read_source
from gpunet.errors import DeviceError

# An array on the device: has shape and dtype; slices along its first axis, and view(dtype) of a vector, are views.
Array = Any


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
        shared_bytes: dynamic shared memory a block.
        cooperative:  all blocks are resident at once; DeviceError if the device cannot hold them.
        """

    def resident_blocks(self, kernel: str, threads: int, shared_bytes: int = 0, cooperative: bool = False) -> int:
        """How many blocks of so many threads a multiprocessor holds at once. Loads the kernel, if it was not yet."""

    def local_bytes(self, kernel: str, cooperative: bool = False) -> int:
        """Memory of a thread for what found no room in registers: 0, or the kernel is slower than it should be."""


class Graph(Protocol):
    """Work that was captured once and can be started again as a whole."""

    def launch(self) -> None: ...


class Device(Protocol):
    """What engines need of a GPU. Everything runs in the order it was asked for."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int  # the most dynamic shared memory that a block may ask for
    cooperative: bool  # whether all blocks of a launch can be made to run at once

    def upload(self, array: NDArray[Any]) -> Array:
        """A copy on the device."""

    def adopt(self, array: Any, shape: tuple[int, ...]) -> Array:
        """A copy of an array that CuPy has on this GPU, with zeros behind its rows up to the shape."""

    def download(self, array: Array) -> NDArray[Any]:
        """A copy as a NumPy array, when all work before it is done."""

    def write(self, array: Array, values: NDArray[Any]) -> None:
        """Overwrite the beginning of a device array, along its first axis, with values of the same type."""

    def copy(self, source: Array, target: Array) -> None:
        """Copy one device array into another of the same shape and type."""

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Array: ...

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Array: ...

    def compile(self, name: str, defines: Mapping[str, int | float | str] = {}) -> Module:
        """kernels/<name>.cu with compile-time parameters as -D."""

    def capture(self, work: Callable[[], None]) -> Graph:
        """The launches that `work` makes, as a graph; they do not run yet."""

    def synchronize(self) -> None:
        """Wait until all work is done."""


class CudaDevice:
    """The current CUDA device, through CuPy. Raises DeviceError where CuPy reports what a user can mend.

    announce: told once, in a line, when kernels have to be compiled for the first time on this machine.
    folder:   of the kernel sources, if not the project's own.
    """

    def __init__(self, announce: Callable[[str], None] | None = None, folder: str | Path | None = None) -> None:
        import cupy

        self._cupy, self._folder = cupy, folder
        self._modules: dict[tuple[str, tuple[str, ...]], CudaModule] = {}
        self._announce = announce or (lambda line: print(line, file=sys.stderr, flush=True))
        try:
            self._stream = cupy.cuda.Stream(non_blocking=True)
            properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise DeviceError(f"the GPU cannot be used ({error}); see nvidia-smi for what else runs on it") from error
        self.name: str = properties["name"].decode()
        self.capability: tuple[int, int] = (properties["major"], properties["minor"])
        self.multiprocessors: int = properties["multiProcessorCount"]
        self.shared_bytes: int = properties["sharedMemPerBlockOptin"] or properties["sharedMemPerBlock"]
        self.cooperative = bool(properties["cooperativeLaunch"])

    def upload(self, array: NDArray[Any]) -> Array:
        copy = self.empty(array.shape, array.dtype)
        self.write(copy, array)
        return copy

    def adopt(self, array: Any, shape: tuple[int, ...]) -> Array:
        self._cupy.cuda.get_current_stream().synchronize()  # whoever made it may not be done
        copy = self.zeros(shape, array.dtype)
        with self._stream:
            copy[tuple(slice(length) for length in array.shape)] = array
        self._stream.synchronize()  # the array may change afterwards
        return copy

    def write(self, array: Array, values: NDArray[Any]) -> None:
        array[: len(values)].set(np.ascontiguousarray(values, array.dtype), stream=self._stream)
        self._stream.synchronize()  # the host array may change afterwards

    def copy(self, source: Array, target: Array) -> None:
        target.data.copy_from_device_async(source.data, source.nbytes, self._stream)

    def download(self, array: Array) -> NDArray[Any]:
        result: NDArray[Any] = array.get(stream=self._stream)
        self._stream.synchronize()
        return result

    def empty(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
        try:
            with self._stream:
                return self._cupy.empty(shape, dtype)
        except self._cupy.cuda.memory.OutOfMemoryError as error:
            needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
            free, total = self._cupy.cuda.runtime.memGetInfo()
            raise DeviceError(
                f"not enough GPU memory: {needed / 2**20:,.0f} MB more are needed, {free / 2**20:,.0f} MB of "
                f"{total / 2**20:,.0f} MB are free; close other programs on the GPU, or use a smaller network or batch"
            ) from error

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
        array = self.empty(shape, dtype)
        with self._stream:
            array.data.memset_async(0, array.nbytes)
        return array

    def compile(self, name: str, defines: Mapping[str, int | float | str] = {}) -> CudaModule:
        options = (*OPTIONS, *define_options(defines))
        if (name, options) not in self._modules:
            code = read_source(name, self._folder)
            mark = self._first_compilation(code, options)
            module = CudaModule(self._cupy, self._stream, self.multiprocessors, code, options)
            module.load(name)
            if mark is not None:
                mark.touch()
            self._modules[name, options] = module
        return self._modules[name, options]

    def capture(self, work: Callable[[], None]) -> Graph:
        with self._stream:
            self._stream.begin_capture()
            try:
                work()
            except BaseException:
                with contextlib.suppress(Exception):  # the first error is the one to tell
                    self._stream.end_capture()
                raise
            return CudaGraph(self._stream.end_capture(), self._stream)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def _first_compilation(self, code: str, options: tuple[str, ...]) -> Path | None:
        """The mark to leave beside CuPy's cached kernels if this machine has not compiled this code before."""
        from cupy_backends.cuda.libs import nvrtc

        cache = Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache")
        key = repr((code, options, self.capability, self._cupy.__version__, nvrtc.getVersion()))
        mark = cache / f"gpunet-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
        if mark.exists():
            return None
        self._announce_once()
        with contextlib.suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
        return mark if os.access(cache, os.W_OK) else None

    @functools.cache  # noqa: B019 - one device a process, and one announcement
    def _announce_once(self) -> None:
        self._announce("compiling kernels, first run only")


class CudaModule:
    """See Module."""

    def __init__(self, cupy: Any, stream: Any, multiprocessors: int, code: str, options: tuple[str, ...]) -> None:
        self._cupy, self._stream, self._multiprocessors = cupy, stream, multiprocessors
        self._module = cupy.RawModule(code=code, options=options)
        self._cooperative = cupy.RawModule(code=code, options=options, enable_cooperative_groups=True)
        self._functions: dict[tuple[str, bool], Any] = {}

    def load(self, kernel: str) -> None:
        """Compile now, so that what can go wrong goes wrong here. Raises DeviceError."""
        try:
            self._function(kernel, False)
        except self._cupy.cuda.compiler.CompileException as error:
            log = str(error)
            if "cannot open source file" in log:
                raise DeviceError(
                    "CUDA headers are missing (vector_types.h); install them with "
                    "pip install 'cuda-toolkit[cudart]==12.*' (13.* for CUDA 13)"
                ) from error
            raise
        except self._cupy.cuda.driver.CUDADriverError as error:
            raise DeviceError(
                f"the driver cannot load a kernel that CUDA compiled for this GPU ({error}); update the NVIDIA driver"
            ) from error

    def launch(
        self,
        kernel: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: Sequence[Array | np.generic],
        shared_bytes: int = 0,
        cooperative: bool = False,
    ) -> None:
        if cooperative:
            resident = self._multiprocessors * self.resident_blocks(
                kernel, int(np.prod(block)), shared_bytes, cooperative
            )
            if np.prod(grid) > resident:  # CuPy would only warn, and start fewer
                raise DeviceError(f"{kernel}: {np.prod(grid)} blocks must run at once, but the GPU holds {resident}")
        function = self._function(kernel, cooperative)
        if shared_bytes > function.max_dynamic_shared_size_bytes:
            function.max_dynamic_shared_size_bytes = shared_bytes
        with self._stream:
            function(grid, block, tuple(arguments), shared_mem=shared_bytes)

    def local_bytes(self, kernel: str, cooperative: bool = False) -> int:
        return int(self._function(kernel, cooperative).local_size_bytes)

    def resident_blocks(self, kernel: str, threads: int, shared_bytes: int = 0, cooperative: bool = False) -> int:
        function = self._function(kernel, cooperative)
        if shared_bytes > function.max_dynamic_shared_size_bytes:
            function.max_dynamic_shared_size_bytes = shared_bytes
        query = self._cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor
        return int(query(function.kernel.ptr, threads, shared_bytes))

    def _function(self, kernel: str, cooperative: bool) -> Any:
        key = (kernel, cooperative)
        if key not in self._functions:
            module = self._cooperative if cooperative else self._module
            self._functions[key] = module.get_function(kernel)
            _ = self._functions[key].num_regs  # loads it: CUDA would do so at its first launch, perhaps in a capture
        return self._functions[key]


class CudaGraph:
    """See Graph."""

    def __init__(self, graph: Any, stream: Any) -> None:
        self._graph, self._stream = graph, stream
        graph.upload(stream=stream)

    def launch(self) -> None:
        self._graph.launch(stream=self._stream)
