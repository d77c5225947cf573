"""The computer that the stand-in for CuPy pretends to be: GPUs, their contexts, memory and streams, and what is broken.

Rules that are CUDA's own are from the CUDA C++ Programming Guide and the CUDA Runtime API, both of 12.9.
"""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from emulator import EmulatedDevice, EmulatorError
from emulator.arrays import EmulatedArray, allocate

from .errors import (
    CAPTURE_INVALIDATED,
    CAPTURE_UNSUPPORTED,
    ILLEGAL_ADDRESS,
    ILLEGAL_STATE,
    INVALID_DEVICE,
    LAUNCH_FAILURE,
    NO_DEVICE,
    NOT_INITIALIZED,
    OUT_OF_MEMORY,
    CUDARuntimeError,
)

Work = Callable[[], None]


class Block:
    """What one cudaMalloc gave. freed: given back to the driver; who touches it then hits an illegal address."""

    def __init__(self, size: int) -> None:
        self.memory: EmulatedArray = allocate(size, "uint8")
        self.size, self.freed = size, False

    def poison(self) -> None:
        """As if others had written here."""
        self.memory.elements[...] = 0xFF


class Queue:
    """A stream's work. It runs as late as CUDA may run it: when someone waits for it."""

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu
        self.waiting: list[Work] = []
        self.captured: list[Work] | None = None
        self.invalidated = False

    def add(self, work: Work) -> None:
        """A stream that captures takes whatever any thread hands it (capture mode: relaxed)."""
        (self.waiting if self.captured is None else self.captured).append(work)

    def refuse_in_capture(self) -> None:
        """Waiting for a stream that captures is an error, and ends the capture (Guide, "Prohibited Operations")."""
        if self.captured is not None:
            self.invalidated = True
            raise CUDARuntimeError(CAPTURE_UNSUPPORTED)

    def begin_capture(self) -> None:
        if self.captured is not None:
            raise CUDARuntimeError(ILLEGAL_STATE)
        self.captured, self.invalidated = [], False

    def end_capture(self) -> list[Work]:
        captured, self.captured = self.captured, None
        if captured is None:
            raise CUDARuntimeError(ILLEGAL_STATE)
        if self.invalidated:
            raise CUDARuntimeError(CAPTURE_INVALIDATED)
        return captured

    def wait(self) -> None:
        """Run what is waiting. What goes wrong on the GPU is heard of here, and by every call from then on."""
        while self.waiting:
            work = self.waiting.pop(0)
            try:
                work()
            except EmulatorError as error:
                self.gpu.kernel_errors.append(error)
                self.gpu.break_down(LAUNCH_FAILURE)
            if self.gpu.broken is not None:
                self.waiting.clear()
                raise CUDARuntimeError(self.gpu.broken)


class Pool:
    """cupy/cuda/memory.pyx, SingleDeviceMemoryPool: freed memory is kept for the stream that was current
    when it was allocated, and is given to the next who asks there, at once: the order of the stream makes that safe,
    for its own work only. When the driver has none left, all that is kept goes back to it."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._free: dict[Queue, list[Block]] = collections.defaultdict(list)
        self._lock = threading.RLock()

    def take(self, size: int, queue: Queue) -> Block:
        """Raises CUDARuntimeError."""
        rounded = max(1, -(-size // 512)) * 512
        with self._lock:
            fitting = [block for block in self._free[queue] if block.size >= rounded]
            if fitting:
                block = min(fitting, key=lambda block: block.size)
                self._free[queue].remove(block)
                return block
            try:
                return self._gpu.malloc(rounded)
            except CUDARuntimeError as error:
                if error.status != OUT_OF_MEMORY:
                    raise
                self.free_all_blocks()
                return self._gpu.malloc(rounded)

    def give_back(self, block: Block, queue: Queue) -> None:
        """No call of CUDA: possible in any thread, in a capture, and when the device is broken."""
        with self._lock:
            self._free[queue].append(block)
            queue.waiting.append(block.poison)  # in the stream's order: whoever gets the memory next overwrites it

    def free_all_blocks(self) -> None:
        with self._lock:
            for blocks in self._free.values():
                for block in blocks:
                    self._gpu.free(block)
            self._free.clear()


@dataclass(eq=False)
class Gpu:
    """A GPU. open_error, load_error, refuse_cooperative: a status that opening it, loading a
    kernel, or a cooperative launch ends in. busy: other programs take places, so that blocks of an ordinary launch run
    one after the other."""

    name: str = "NVIDIA Stand-in"
    capability: tuple[int, int] = (9, 0)
    multiprocessors: int = 4
    shared_bytes: int = 99 * 1024
    memory: int = 2**30
    cooperative: bool = True
    busy: bool = False
    open_error: int | None = None
    refuse_cooperative: int | None = None
    load_error: int | None = None
    broken: int | None = None  # the status that every call ends in after a sticky error
    opened_by: int | None = None  # process that has a context here
    used: int = 0
    kernel_errors: list[EmulatorError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queues: list[Queue] = []
        self.pool = Pool(self)
        self.emulated = EmulatedDevice(
            multiprocessors=self.multiprocessors, capability=self.capability, shared_bytes=self.shared_bytes
        )

    def context(self) -> None:
        """Before every call that needs a context, which is made at the first of them.

        After fork a child cannot use what its parent opened (CUDA Runtime API: initialization error). After a sticky
        error every call returns it, until the process ends (Guide, "Error Checking").
        """
        if self.opened_by not in (None, os.getpid()):
            raise CUDARuntimeError(NOT_INITIALIZED)
        if self.opened_by is None:
            if self.open_error is not None:
                raise CUDARuntimeError(self.open_error)
            self.opened_by = os.getpid()
        if self.broken is not None:
            raise CUDARuntimeError(self.broken)

    def break_down(self, status: int = ILLEGAL_ADDRESS) -> None:
        """A sticky error."""
        self.broken = status

    def queue(self) -> Queue:
        self.queues.append(Queue(self))
        return self.queues[-1]

    def malloc(self, size: int) -> Block:
        self.context()
        if self.used + size > self.memory:
            raise CUDARuntimeError(OUT_OF_MEMORY)
        self.used += size
        return Block(size)

    def free(self, block: Block) -> None:
        self.context()
        block.freed = True
        self.used -= block.size

    def synchronize(self) -> None:
        self.context()
        for queue in self.queues:
            queue.refuse_in_capture()
        for queue in self.queues:
            queue.wait()


@dataclass
class Computer:
    """GPUs, driver, CUDA. nvrtc: of the library that CuPy finds. There are no headers of CUDA's.

    while_compiling: called in every compilation; most_at_once: compilations; history: what was compiled, loaded and
    launched, in its order.
    """

    gpus: list[Gpu] = field(default_factory=lambda: [Gpu()])
    driver: int = 12090
    runtime: int = 12090
    nvrtc: tuple[int, int] = (12, 9)
    calls: collections.Counter[str] = field(default_factory=collections.Counter)
    while_compiling: Work = lambda: None
    compiling: int = 0
    most_at_once: int = 0
    history: list[str] = field(default_factory=list)
    ended: bool = True  # outside of a test there is no process on it: what is freed then is of no interest

    def __post_init__(self) -> None:
        self._thread = threading.local()

    @property
    def architectures(self) -> list[int]:
        """What NVRTC compiles for: 13 gave up Maxwell, Pascal and Volta."""
        return [75, 80, 86, 89, 90, 100, 120] if self.nvrtc[0] >= 13 else [50, 52, 61, 70, 75, 80, 86, 89, 90, 100, 120]

    def gpu(self, index: int) -> Gpu:
        if not self.gpus:
            raise CUDARuntimeError(NO_DEVICE)
        if not 0 <= index < len(self.gpus):
            raise CUDARuntimeError(INVALID_DEVICE)
        return self.gpus[index]

    @property
    def current(self) -> int:
        """The current device is a thread's own, and 0 in a new thread (Guide, "Device Selection")."""
        if not self.gpus:
            raise CUDARuntimeError(NO_DEVICE)
        return getattr(self._thread, "device", 0)

    def set_current(self, index: int) -> None:
        """Makes the context, since CUDA 12.0 (CUDA Runtime API, cudaSetDevice)."""
        self.gpu(index).context()
        self._thread.device = index

    def streams(self) -> dict[int, Any]:
        """The thread's current streams by device, where it is not the default one."""
        if not hasattr(self._thread, "streams"):
            self._thread.streams = {}
        streams: dict[int, Any] = self._thread.streams
        return streams
