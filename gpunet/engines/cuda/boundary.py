"""The way into CuPy: one thread at a time, on the right GPU, and errors come out as DeviceErrors.

All that calls CuPy for a device is a method that `crossing` wraps.

After some errors, an illegal address for one, CUDA refuses every call until the process ends; and a process cannot use
what was opened before it was forked. A GPU counts as lost then.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from gpunet.errors import DeviceError, first_line

FORKED = (
    "this process was forked from one that had opened the GPU, and cannot use it; start processes with "
    "multiprocessing.get_context('spawn')"
)
OUT_OF_MEMORY, NOT_INITIALIZED = 2, 3  # numbers that CUDA's runtime and driver share
CANNOT_LOAD = (200, 209, 218, 221, 222)  # images, PTX and kernels that this driver or GPU cannot take


class Boundary:
    """Of one GPU. lock: held by whoever calls CuPy; capturing: work is being captured, and the GPU must not be asked.

    The lock is held by `with` alone, as Ctrl-C may come at any moment (see gpunet/turns.py).
    """

    def __init__(self, cupy: Any, index: int) -> None:
        self.index, self.lock, self.capturing = index, threading.RLock(), False
        self.runtime = cupy.cuda.runtime
        self.errors = (
            cupy.cuda.runtime.CUDARuntimeError,
            cupy.cuda.driver.CUDADriverError,
            cupy.cuda.memory.OutOfMemoryError,
        )
        self._process = os.getpid()
        self._lost: str | None = None

    @property
    def lost(self) -> str | None:
        """Why this process cannot use the GPU any more; None while it can."""
        return self._lost if os.getpid() == self._process else FORKED

    def require_usable(self) -> None:
        """Raise DeviceError if the GPU is lost."""
        if (why := self.lost) is not None:
            raise DeviceError(why)

    def explained(self, error: BaseException) -> BaseException:
        """The DeviceError to raise instead; in a capture the error itself, since whoever captures has to end it."""
        return error if self.capturing else self._explained(error)

    def _explained(self, error: BaseException) -> DeviceError:
        status, line = getattr(error, "status", None), first_line(error)
        if status == OUT_OF_MEMORY or isinstance(error, MemoryError):
            return DeviceError(
                f"not enough GPU memory ({line}); close other programs on the GPU, or use a smaller network or batch"
            )
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
        before = self.runtime.getDevice()
        try:
            self.runtime.setDevice(self.index)
            self.runtime.deviceSynchronize()
        except self.errors as error:
            return first_line(error)
        finally:
            if before != self.index:
                with contextlib.suppress(*self.errors):
                    self.runtime.setDevice(before)
        return None


class HasBoundary(Protocol):
    boundary: Boundary


Owner = TypeVar("Owner", bound=HasBoundary)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Method = Callable[Concatenate[Owner, Arguments], Result]


def crossing(method: Method[Owner, Arguments, Result]) -> Method[Owner, Arguments, Result]:
    """A method that calls CuPy: no other thread does so meanwhile, and its GPU is the current one.

    Such methods may call one another. DeviceError takes the place of CUDA's and CuPy's errors, and reports a lost GPU.
    """

    @functools.wraps(method)
    def inside(self: Owner, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        boundary = self.boundary
        boundary.require_usable()  # before the lock, which another thread may have held at a fork
        with boundary.lock:
            boundary.require_usable()
            try:
                current = boundary.runtime.getDevice()
                if current == boundary.index:
                    return method(self, *args, **kwargs)
                boundary.runtime.setDevice(boundary.index)
                try:
                    return method(self, *args, **kwargs)
                finally:
                    with contextlib.suppress(*boundary.errors):  # it may be the one that fails
                        boundary.runtime.setDevice(current)
            except boundary.errors as error:
                explained = boundary.explained(error)
                if explained is error:
                    raise
                raise explained from error

    return inside


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
    except runtime.CUDARuntimeError as error:  # the driver's errors are the runtime's here
        hint = "see nvidia-smi for what else runs on it"
        if error.status == NOT_INITIALIZED:
            hint = "after a fork this is so: start processes with multiprocessing.get_context('spawn')"
        raise DeviceError(f"the GPU cannot be opened ({first_line(error)}); {hint}") from error
