"""The modules that take CuPy's place: `cupy`, `cupy_backends`, as far as gpunet uses them, on a pretended computer.

Each rule names the file of CuPy's in which it was read. Python files, signatures, messages and numbers of errors, and
what happens without a GPU were checked against the wheel of 14.2.0; the wheel has no .pyx files, which were read in
CuPy's repository, at versions near it. What CuPy does not check, but a GPU would suffer from, is a StandInError.
"""

from __future__ import annotations

import json
import re
import threading
import types
import warnings
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from emulator import BuildError, EmulatorError, build
from emulator.arrays import EmulatedArray
from emulator.device import EmulatedModule
from emulator.launches import MOST_THREADS, Launch, check_geometry
from emulator.library import Library

from . import errors
from .errors import CUDADriverError, CUDARuntimeError, StandInError
from .machine import Block, Computer, Gpu, Queue

VERSION = "14.2.0"
LOCAL_BYTES, DYNAMIC_SHARED_BYTES = 3, 8  # of the driver's function attributes (cuda.h)
PLAIN_SHARED_BYTES = 48 * 1024  # dynamic shared memory without asking for more (Guide, "Shared Memory")


def make(computer: Computer) -> dict[str, types.ModuleType]:
    """Modules by the name under which they are imported."""
    cupy = types.ModuleType("cupy")
    cuda, runtime, driver, nvrtc, memory, function, graph = (
        types.ModuleType(f"cupy.cuda.{name}" if name else "cupy.cuda")
        for name in ("", "runtime", "driver", "nvrtc", "memory", "function", "graph")
    )
    for module, name in (
        (runtime, "CUDARuntimeError"),
        (driver, "CUDADriverError"),
        (nvrtc, "NVRTCError"),
        (memory, "OutOfMemoryError"),
    ):
        setattr(module, name, getattr(errors, name))
    _fill_runtime(runtime, computer)
    _fill_arrays(cupy, cuda, memory, computer)
    _fill_nvrtc(nvrtc, computer)
    _fill_kernels(function, driver, computer)
    for name, module in (
        ("runtime", runtime), ("driver", driver), ("nvrtc", nvrtc), ("memory", memory), ("function", function),
        ("graph", graph),
    ):  # fmt: skip
        setattr(cuda, name, module)
    cupy.cuda, cupy.__version__ = cuda, VERSION  # type: ignore[attr-defined]
    backends, backends_cuda, api, libs = (
        types.ModuleType(f"cupy_backends{name}") for name in ("", ".cuda", ".cuda.api", ".cuda.libs")
    )
    api.runtime, api.driver, libs.nvrtc = runtime, driver, nvrtc  # type: ignore[attr-defined]
    return {
        "cupy": cupy,
        "cupy.cuda": cuda,
        "cupy.cuda.runtime": runtime,
        "cupy_backends": backends,
        "cupy_backends.cuda": backends_cuda,
        "cupy_backends.cuda.api": api,
        "cupy_backends.cuda.libs": libs,
    }


def _fill_runtime(runtime: Any, computer: Computer) -> None:
    """cupy_backends/cuda/api/runtime.pyx: thin, every status but 0 is a CUDARuntimeError."""

    def here() -> Gpu:
        return computer.gpu(computer.current)

    def device_synchronize() -> None:
        here().synchronize()

    def properties(index: int) -> dict[str, Any]:
        """Needs no context."""
        gpu = computer.gpu(index)
        return {
            "name": gpu.name.encode(), "major": gpu.capability[0], "minor": gpu.capability[1],
            "multiProcessorCount": gpu.multiprocessors, "sharedMemPerBlock": PLAIN_SHARED_BYTES,
            "sharedMemPerBlockOptin": gpu.shared_bytes, "cooperativeLaunch": int(gpu.cooperative),
            "sharedMemPerMultiprocessor": gpu.emulated.sm_shared_bytes,
        }  # fmt: skip

    def count() -> int:
        if not computer.gpus:
            raise CUDARuntimeError(errors.NO_DEVICE)
        return len(computer.gpus)

    def memory_info() -> tuple[int, int]:
        here().context()
        return here().memory - here().used, here().memory

    runtime.getDevice = lambda: computer.current
    runtime.setDevice = computer.set_current
    runtime.getDeviceCount = count
    runtime.getDeviceProperties = properties
    runtime.deviceSynchronize = device_synchronize
    runtime.memGetInfo = memory_info
    runtime.deviceGetPCIBusId = lambda index: f"0000:{computer.gpus.index(computer.gpu(index)) + 1:02X}:00.0"
    runtime.driverGetVersion = lambda: computer.driver
    runtime.runtimeGetVersion = lambda: computer.runtime


class MemoryPointer:
    """cupy/cuda/memory.pyx: a place in memory, which it keeps. The last to go gives the memory back to the pool."""

    def __init__(self, memory: PooledMemory, offset: int) -> None:
        self.mem, self.offset = memory, offset

    @property
    def device(self) -> Any:
        return types.SimpleNamespace(id=self.mem.index)

    def copy_from_device_async(self, source: MemoryPointer, size: int, stream: Any = None) -> None:
        queue = self.mem.queue_of(stream)
        queue.gpu.context()
        to, start = (self.mem.block, self.offset), (source.mem.block, source.offset)
        queue.add(lambda: _copy(queue.gpu, to, start, size))

    def memset_async(self, value: int, size: int, stream: Any = None) -> None:
        queue = self.mem.queue_of(stream)
        queue.gpu.context()
        block, offset = self.mem.block, self.offset

        def fill() -> None:
            if _reachable(queue.gpu, block):
                block.memory.elements[offset : offset + size] = value

        queue.add(fill)


class PooledMemory:
    def __init__(self, computer: Computer, index: int, size: int, queue: Queue) -> None:
        self._computer, self.index, self._queue = computer, index, queue
        self._pool = computer.gpu(index).pool
        self.block = self._pool.take(size, queue)

    def queue_of(self, stream: Any) -> Queue:
        return current_queue(self._computer) if stream is None else stream.queue

    def __del__(self) -> None:
        if not self._computer.ended and hasattr(self, "block"):
            self._pool.give_back(self.block, self._queue)


def _reachable(gpu: Gpu, block: Block) -> bool:
    """What was given back to the driver is no place to read or write."""
    if block.freed:
        gpu.break_down(errors.ILLEGAL_ADDRESS)
    return not block.freed


def _copy(gpu: Gpu, to: tuple[Block, int], start: tuple[Block, int], size: int) -> None:
    if _reachable(gpu, to[0]) and _reachable(gpu, start[0]):
        to[0].memory.elements[to[1] : to[1] + size] = start[0].memory.elements[start[1] : start[1] + size]


def current_queue(computer: Computer) -> Queue:
    """The queue of the thread's current stream on its current device."""
    index = computer.current
    stream = computer.streams().get(index)
    return stream.queue if stream is not None else default_queue(computer.gpu(index))


def default_queue(gpu: Gpu) -> Queue:
    if not hasattr(gpu, "default"):
        gpu.default = gpu.queue()  # type: ignore[attr-defined]
    queue: Queue = gpu.default  # type: ignore[attr-defined]
    return queue


class ndarray:  # noqa: N801 - CuPy's name
    """cupy/_core/core.pyx. Contiguous; slices of the first axis are views."""

    computer: Computer

    def __init__(self, shape: tuple[int, ...], dtype: Any, data: MemoryPointer) -> None:
        self.shape, self.dtype, self.data = shape, np.dtype(dtype), data

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: int(np.prod(self.shape, dtype=np.int64)))
    nbytes = property(lambda self: self.size * self.dtype.itemsize)
    device = property(lambda self: self.data.device)

    def __len__(self) -> int:
        return self.shape[0]

    def elements(self) -> np.ndarray:
        """The memory as NumPy sees it, for the stand-in alone."""
        memory = self.data.mem.block.memory.elements
        return memory[self.data.offset : self.data.offset + self.nbytes].view(self.dtype).reshape(self.shape)

    def emulated(self) -> EmulatedArray:
        return EmulatedArray(self.elements(), self.data.mem.block.memory.base)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __getitem__(self, rows: slice) -> ndarray:
        first, last, step = rows.indices(self.shape[0])
        assert step == 1
        stride = self.nbytes // max(1, self.shape[0])
        pointer = MemoryPointer(self.data.mem, self.data.offset + first * stride)
        return ndarray((max(0, last - first), *self.shape[1:]), self.dtype, pointer)

    def view(self, dtype: Any) -> ndarray:
        """The same memory as numbers of another type."""
        *rows, last = self.shape
        columns, rest = divmod(last * self.dtype.itemsize, np.dtype(dtype).itemsize)
        if rest:
            raise ValueError("When changing to a larger dtype, its size must be a divisor of the total size in bytes")
        return ndarray((*rows, columns), dtype, self.data)

    def __setitem__(self, key: Any, values: ndarray) -> None:
        raise StandInError("where rows do not follow one another, CuPy would compile a kernel that copies them")

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        """Ordinary memory of the host may be read after set has returned (Runtime API, "API synchronization behavior"),
        and cannot be copied in a capture."""
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if self.shape != arr.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        if not arr.flags.c_contiguous:
            raise RuntimeError("Cannot set to non-contiguous array")
        queue = self.data.mem.queue_of(stream)
        queue.gpu.context()
        queue.refuse_in_capture()
        to, block = self.elements(), self.data.mem.block

        def copy() -> None:
            if _reachable(queue.gpu, block):
                to[...] = arr

        queue.add(copy)

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> np.ndarray:
        """blocking: waits for the stream, which a capture does not allow."""
        if not blocking or out is not None:
            raise StandInError("get: not needed so far")
        queue = self.data.mem.queue_of(stream)
        queue.gpu.context()
        queue.refuse_in_capture()
        queue.wait()
        self.emulated().check_guards()
        return self.elements().copy()


def _fill_arrays(cupy: Any, cuda: Any, memory: Any, computer: Computer) -> None:
    class Device:
        """cupy/cuda/device.pyx: current inside `with`; leaving sets the one before, always."""

        def __init__(self, device: int | None = None) -> None:
            self.id = computer.current if device is None else int(device)
            self._stack: list[int] = []

        def use(self) -> None:
            computer.set_current(self.id)

        def __enter__(self) -> Device:
            self._stack.append(computer.current)
            if self.id != computer.current:
                self.use()
            return self

        def __exit__(self, *_: object) -> None:
            computer.set_current(self._stack.pop())

    class Stream:
        """cupy/cuda/stream.pyx. A stream belongs to the device that was current when it was made."""

        def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
            gpu = computer.gpu(computer.current)
            if null:
                self.queue, self.device_id = default_queue(gpu), -1
            else:
                gpu.context()  # where this fails, __del__ finds an object without attributes
                self.queue, self.device_id = gpu.queue(), computer.current
            self._foreign_stream_ref = None
            self._before: list[Any] = []

        def __del__(self) -> None:
            if computer.ended:  # cupy._util.is_shutting_down
                return
            if self._foreign_stream_ref is None and self.device_id != -1:
                self.queue.gpu.context()  # streamDestroy

        def __enter__(self) -> Stream:
            computer.calls["stream entered"] += 1
            current = computer.current
            if self.device_id not in (-1, current):
                raise RuntimeError(
                    f"The device that the stream is created on ({self.device_id}) does not match with the current "
                    f"device ({current})"
                )
            self._before.append((current, computer.streams().get(current)))
            computer.streams()[current] = self
            return self

        def __exit__(self, *_: object) -> None:
            index, stream = self._before.pop()
            computer.streams()[index] = stream

        def synchronize(self) -> None:
            self.queue.gpu.context()
            self.queue.refuse_in_capture()
            self.queue.wait()

        def begin_capture(self, mode: int | None = None) -> None:
            assert mode is None, "CuPy's default, relaxed, is what this stand-in knows"
            self.queue.gpu.context()
            self.queue.begin_capture()

        def end_capture(self) -> Graph:
            self.queue.gpu.context()
            return Graph(self.queue.gpu, self.queue.end_capture())

        def is_capturing(self) -> bool:
            return self.queue.captured is not None

    class Graph:
        """cupy/cuda/graph.pyx: a handle of CUDA's. It keeps no array alive: in it are addresses."""

        def __init__(self, gpu: Gpu, work: list[Any]) -> None:
            self._gpu, self._work = gpu, work

        def upload(self, stream: Any = None) -> None:
            self._gpu.context()

        def launch(self, stream: Any = None) -> None:
            self._gpu.context()
            queue = current_queue(computer) if stream is None else stream.queue
            for work in self._work:
                queue.add(work)

        def __del__(self) -> None:
            if not computer.ended:
                self._gpu.context()  # graphExecDestroy

    def empty(shape: int | Sequence[int], dtype: Any = float) -> ndarray:
        sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        computer.calls["allocation"] += 1
        size = int(np.prod(sizes, dtype=np.int64)) * np.dtype(dtype).itemsize
        index = computer.current
        try:
            memory = PooledMemory(computer, index, size, current_queue(computer))
        except CUDARuntimeError as error:
            if error.status != errors.OUT_OF_MEMORY:
                raise
            raise errors.OutOfMemoryError(size, computer.gpu(index).used) from error
        return ndarray(tuple(map(int, sizes)), dtype, MemoryPointer(memory, 0))

    def asarray(values: Any) -> ndarray:
        """For tests: an array that a user has, made on the current stream."""
        host = np.ascontiguousarray(values)
        array = empty(host.shape, host.dtype)
        array.set(host.copy())
        return array

    def current_stream() -> Any:
        stream = computer.streams().get(computer.current)
        return stream if stream is not None else Stream(null=True)

    bound = type("ndarray", (ndarray,), {"computer": computer, "__module__": "cupy"})
    ndarray.computer = computer
    cupy.ndarray, cupy.empty, cupy.asarray = bound, empty, asarray
    cuda.Device, cuda.Stream, cuda.get_current_stream, cuda.Graph = Device, Stream, current_stream, Graph
    memory.MemoryPointer = MemoryPointer


def _fill_nvrtc(nvrtc: Any, computer: Computer) -> None:
    """cupy_backends/cuda/libs/nvrtc.pyx, of the wheel of 14.2.0. What comes out stands for a cubin: see `_cubin`."""
    programs: dict[int, _Program] = {}
    lock = threading.Lock()

    def create(src: str, name: str, headers: Sequence[str], include_names: Sequence[str]) -> int:
        if not isinstance(src, str) or not isinstance(name, str):
            raise TypeError("Argument 'src' has incorrect type (expected str)")
        if len(headers) or len(include_names):
            raise StandInError("createProgram: headers are not needed so far")
        program = _Program(src, name)
        programs[id(program)] = program
        return id(program)

    def compile_now(prog: int, options: Sequence[str]) -> None:
        program, code_of = programs[prog], "--gpu-architecture=sm_"
        [option.encode() for option in options]
        with lock:
            computer.compiling += 1
            computer.most_at_once = max(computer.most_at_once, computer.compiling)
        try:
            computer.while_compiling()
            architecture = next(int(o.removeprefix(code_of)) for o in options if o.startswith(code_of))
            if architecture not in computer.architectures:
                program.log = "nvrtc: error: invalid value for --gpu-architecture (-arch)"
                raise errors.NVRTCError(errors.INVALID_OPTION)
            if re.search(r"^ *# *include", program.source, re.MULTILINE):  # there are no headers on this computer
                program.log = f'{program.name}(1): catastrophic error: cannot open source file "vector_types.h"'
                raise errors.NVRTCError(errors.COMPILATION)
            kernel = program.name.removesuffix(".cu")
            defines = [option for option in options if option.startswith("-D")]
            try:
                path = build.build(kernel, program.source, None, (*defines, f"-D__CUDA_ARCH__={architecture * 10}"))
            except BuildError as error:
                program.log = str(error)
                raise errors.NVRTCError(errors.COMPILATION) from None
            program.cubin = _cubin(kernel, str(path), architecture, computer.nvrtc[0])
        finally:
            with lock:
                computer.compiling -= 1
                computer.history.append(f"compiled {program.name}")

    def get_cubin(prog: int) -> bytes:
        if programs[prog].cubin is None:
            raise RuntimeError("cubin is requested, but the real arch (sm_XX) is not provided")
        return programs[prog].cubin

    nvrtc.createProgram, nvrtc.compileProgram, nvrtc.getCUBIN = create, compile_now, get_cubin
    nvrtc.getProgramLog = lambda prog: programs[prog].log
    nvrtc.destroyProgram = lambda prog: programs.pop(prog) and None
    nvrtc.getVersion = lambda: computer.nvrtc
    nvrtc.getSupportedArchs = lambda: list(computer.architectures)


class _Program:
    def __init__(self, source: str, name: str) -> None:
        self.source, self.name, self.log = source, name, ""
        self.cubin: bytes | None = None


def _cubin(kernel: str, path: str, architecture: int, cuda: int) -> bytes:
    """What stands for machine code: where the emulator's is, and what it was compiled for."""
    return b"\x7fELF" + json.dumps([kernel, path, architecture, cuda]).encode()


def _fill_kernels(function: Any, driver: Any, computer: Computer) -> None:
    """cupy/cuda/function.pyx, cupy_backends/cuda/api/driver.pyx. A Module of one's own loads what it is given: nothing
    is compiled, and no headers are looked for, as cupy.RawModule does (cupy/_core/raw.pyx, cupy/_core/core.pyx)."""

    class Function:
        def __init__(self, module: Module, kernel: str) -> None:
            self.kept, self.index, self.module, self.name = module, module.index, module.emulated, kernel
            if kernel not in self.module._numbers:
                raise CUDADriverError(errors.NOT_FOUND)
            self.ptr = id(self)
            self.shared_bytes = PLAIN_SHARED_BYTES
            functions[self.ptr] = self

        def __call__(
            self,
            grid: tuple[int, ...],
            block: tuple[int, ...],
            args: Any,
            shared_mem: int = 0,
            stream: Any = None,
            enable_cooperative_groups: bool = False,
        ) -> None:
            if not isinstance(grid, tuple) or not isinstance(block, tuple):
                raise TypeError("Argument 'grid' has incorrect type (expected tuple)")
            gpu, queue = computer.gpu(self.index), current_queue(computer) if stream is None else stream.queue
            computer.gpu(computer.current).context()
            if computer.current != self.index or queue.gpu is not gpu:
                raise CUDADriverError(errors.INVALID_HANDLE)  # kernel and stream must be of the current context
            grid = self._cooperative_grid(gpu, grid, block, shared_mem) if enable_cooperative_groups else grid
            if shared_mem > self.shared_bytes or int(np.prod(block)) > MOST_THREADS:
                raise CUDADriverError(errors.INVALID_VALUE)
            if enable_cooperative_groups and not gpu.cooperative:
                raise CUDADriverError(errors.NOT_SUPPORTED)
            if enable_cooperative_groups and gpu.refuse_cooperative is not None:
                raise CUDADriverError(gpu.refuse_cooperative)
            computer.calls["launch"] += 1
            computer.history.append(f"launched {self.name}")
            most = occupancy(self.ptr, int(np.prod(block)), shared_mem) * gpu.multiprocessors
            # What fits on a GPU runs at once, if nothing else is there. Only a cooperative launch guarantees it; what
            # a GPU without them does is relied upon.
            fits = not gpu.cooperative and not gpu.busy and int(np.prod(grid)) <= most
            at_once = enable_cooperative_groups or fits
            queue.add(self._work(gpu, grid, block, tuple(args), shared_mem, at_once))

        def _cooperative_grid(self, gpu: Gpu, grid: tuple, block: tuple, shared_mem: int) -> tuple:
            """function.pyx, _launch: too large a grid is made smaller, with a warning."""
            most = occupancy(self.ptr, int(np.prod(block)), shared_mem) * gpu.multiprocessors
            if int(np.prod(grid)) <= most:
                return grid
            warnings.warn(f"The grid size will be reduced from {grid[0]} to {most}", stacklevel=2)
            return (most,)

        def _work(self, gpu: Gpu, grid: tuple, block: tuple, args: tuple, shared: int, cooperative: bool) -> Any:
            """Arguments become addresses and numbers now; the arrays themselves are not kept."""
            signature = self.module._signature(self.name)
            for argument in args:
                if not isinstance(argument, ndarray | np.generic):
                    raise StandInError(f"{self.name}: {type(argument).__name__} would be handed on as 8 bytes")
                if isinstance(argument, ndarray) and argument.device.id != self.index:
                    raise StandInError(f"{self.name}: an array of another GPU")
            emulated = tuple(a.emulated() if isinstance(a, ndarray) else a for a in args)
            blocks = [a.data.mem.block for a in args if isinstance(a, ndarray)]
            try:
                signature.slots(emulated)
            except TypeError as error:  # CuPy packs whatever comes
                raise StandInError(str(error)) from None
            grid3, block3 = check_geometry(self.name, grid, block, shared, gpu.shared_bytes)
            emulator, runner = gpu.emulated, self.module._runner
            name, number = self.name, self.module._numbers[self.name]  # a graph keeps no module loaded

            def run() -> None:
                if not all(_reachable(gpu, block) for block in blocks):
                    return
                launch = Launch(
                    grid3, block3, shared, emulator.order_number, emulator.next_seed(), cooperative, number,
                    emulator.timeout,
                )  # fmt: skip
                outcome, message = runner.run(launch, signature, emulated)
                if outcome:
                    raise EmulatorError(f"{name}: {message}")

            return run

    functions: weakref.WeakValueDictionary[int, Function] = weakref.WeakValueDictionary()

    class Module:
        """Unloaded with its last owner, by a call that a broken GPU refuses."""

        def __init__(self) -> None:
            self.ptr = 0

        def __del__(self) -> None:
            if self.ptr and not computer.ended:
                computer.gpu(self.index).context()  # moduleUnload

        def load(self, cubin: bytes) -> None:
            if not isinstance(cubin, bytes):
                raise TypeError(f"Argument 'cubin' has incorrect type (expected bytes, got {type(cubin).__name__})")
            self.index = computer.current
            gpu = computer.gpu(self.index)
            gpu.context()
            if gpu.load_error is not None:
                raise CUDADriverError(gpu.load_error)
            try:
                kernel, path, architecture, cuda = json.loads(cubin.removeprefix(b"\x7fELF"))
            except ValueError:
                raise CUDADriverError(errors.INVALID_IMAGE) from None
            if cuda > computer.driver // 1000:
                raise CUDADriverError(errors.INVALID_IMAGE)  # the code is of a newer CUDA than the driver knows
            major, minor = divmod(architecture, 10)
            if major != gpu.capability[0] or minor > gpu.capability[1]:  # Guide, "Binary Compatibility"
                raise CUDADriverError(errors.NO_BINARY)
            self.emulated = EmulatedModule(gpu.emulated, kernel, Library(Path(path)))
            self.ptr = id(self)
            computer.history.append(f"loaded {kernel}.cu")

        def get_function(self, name: str) -> Function:
            return Function(self, name)

    def found(pointer: int) -> Function:
        computer.calls["attribute"] += 1
        function = functions[pointer]
        computer.gpu(computer.current).context()
        if computer.current != function.index:
            raise CUDADriverError(errors.INVALID_HANDLE)
        return function

    def get_attribute(attribute: int, f: int) -> int:
        """The attribute comes first here, and second where it is set."""
        values = {LOCAL_BYTES: 0, DYNAMIC_SHARED_BYTES: found(f).shared_bytes}
        return values[attribute]

    def set_attribute(f: int, attribute: int, value: int) -> None:
        function = found(f)
        if attribute != DYNAMIC_SHARED_BYTES or value > computer.gpu(function.index).shared_bytes:
            raise CUDADriverError(errors.INVALID_VALUE)
        function.shared_bytes = value

    def occupancy(pointer: int, threads: int, shared_bytes: int) -> int:
        function = functions[pointer]
        gpu = computer.gpu(function.index)
        gpu.context()
        return function.module.resident_blocks(function.name, threads, shared_bytes)

    function.Module, function.Function = Module, Function
    driver.occupancyMaxActiveBlocksPerMultiprocessor = occupancy
    driver.funcGetAttribute, driver.funcSetAttribute = get_attribute, set_attribute
    driver.CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES = LOCAL_BYTES
    driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = DYNAMIC_SHARED_BYTES
