"""The way into CuPy: one thread at a time, on the right GPU, and errors come out as DeviceErrors.

After some errors, an illegal address for one, CUDA refuses every call until the process ends; and a process cannot use
what was opened before it was forked. A GPU counts as lost then.
"""

from __future__ import annotations

import contextlib
import os
import threading
from types import TracebackType
from typing import Any

from gpunet.errors import DeviceError, first_line

FORKED = (
    "this process was forked from one that had opened the GPU, and cannot use it; start processes with "
    "multiprocessing.get_context('spawn')"
)
OUT_OF_MEMORY, NOT_INITIALIZED = 2, 3  # numbers that CUDA's runtime and driver share
CANNOT_LOAD = (200, 209, 218, 221, 222)  # images, PTX and kernels that this driver or GPU cannot take


class Boundary:
    """Inside `with boundary:` the GPU is current, and no other thread is inside. May be entered again inside.

    Raises DeviceError instead of CUDA's and CuPy's errors, and where the GPU is lost.
    """

    def __init__(self, cupy: Any, index: int) -> None:
        from cupy_backends.cuda.libs import nvrtc

        self.index = index
        self._runtime = cupy.cuda.runtime
        self._errors = (
            cupy.cuda.runtime.CUDARuntimeError,
            cupy.cuda.driver.CUDADriverError,
            cupy.cuda.memory.OutOfMemoryError,
            cupy.cuda.compiler.CompileException,
            nvrtc.NVRTCError,
        )
        self._lock = threading.RLock()
        self._before: list[int] = []  # what was current, one for every time that it was entered
        self._process = os.getpid()
        self._lost: str | None = None

    @property
    def lost(self) -> str | None:
        """Why this process cannot use the GPU any more; None while it can."""
        return self._lost if os.getpid() == self._process else FORKED

    def __enter__(self) -> None:
        if os.getpid() != self._process:  # before the lock, which another thread may have held at the fork
            raise DeviceError(FORKED)
        self._lock.acquire()
        try:
            if self._lost is not None:
                raise DeviceError(self._lost)
            current = self._runtime.getDevice()
            if current != self.index:
                self._runtime.setDevice(self.index)
            self._before.append(current)
        except BaseException as error:
            self._lock.release()
            if isinstance(error, self._errors):
                raise self._explained(error) from error
            raise

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        before = self._before.pop()
        try:
            if isinstance(error, self._errors) and not self._before:  # else whoever is outside may have to clean up
                raise self._explained(error) from error
        finally:
            if before != self.index:
                with contextlib.suppress(self._errors[0]):  # CuPy's own `with Device` opens that GPU as well
                    self._runtime.setDevice(before)
            self._lock.release()

    def _explained(self, error: BaseException) -> DeviceError:
        status, line = getattr(error, "status", None), first_line(error)
        if status == OUT_OF_MEMORY or isinstance(error, MemoryError):
            return DeviceError(
                f"not enough GPU memory ({line}); close other programs on the GPU, or use a smaller network or batch"
            )
        if status is None:
            return DeviceError(f"CUDA's compiler refuses a kernel ({line}); gpunet doctor says what is installed")
        if failure := self._failure():
            self._lost = (
                f"the GPU failed ({failure}) and cannot be used any more by this process; restart it, or compute with "
                "device='cpu'"
            )
            return DeviceError(self._lost)
        if status in CANNOT_LOAD:
            return DeviceError(
                f"the driver cannot load a kernel that CUDA compiled for this GPU ({line}); update the NVIDIA driver"
            )
        return DeviceError(f"the GPU refuses what it was asked for ({line})")

    def _failure(self) -> str | None:
        """What CUDA answers to every call since an error that stays; None if it works."""
        try:
            self._runtime.deviceSynchronize()
        except self._errors as error:
            return first_line(error)
        return None


def open_gpu_context(cupy: Any, index: int) -> None:
    """Make a GPU current once, which opens it. Raises DeviceError where that cannot be.

    With nothing but calls of the runtime: a Stream of CuPy's that could not be made complains when it is freed.
    """
    runtime = cupy.cuda.runtime
    try:
        before = runtime.getDevice()
        runtime.setDevice(index)
        try:
            runtime.deviceSynchronize()
        finally:
            if before != index:
                with contextlib.suppress(runtime.CUDARuntimeError):
                    runtime.setDevice(before)
    except runtime.CUDARuntimeError as error:
        hint = "see nvidia-smi for what else runs on it"
        if error.status == NOT_INITIALIZED:
            hint = "after a fork this is so: start processes with multiprocessing.get_context('spawn')"
        raise DeviceError(f"the GPU cannot be opened ({first_line(error)}); {hint}") from error
