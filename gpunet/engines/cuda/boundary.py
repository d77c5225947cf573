"""The boundary to CuPy: one thread at a time calls it, on the right GPU, and its errors become DeviceErrors.

Every method that calls CuPy for a device is wrapped by `crossing`.

After some errors, such as an illegal address, CUDA refuses every call until the process ends. A process that was forked
cannot use a GPU that its parent had opened. In both cases the GPU counts as lost.
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
OUT_OF_MEMORY, NOT_INITIALIZED = 2, 3  # error codes that CUDA's runtime and driver share
CANNOT_LOAD = (200, 209, 218, 221, 222)  # images, PTX and kernels that this driver or GPU cannot load


class Boundary:
    """The boundary of one GPU, or of one of its streams.

    first:     that of the GPU's first stream, for another one: a GPU that is lost is lost for all.
    lock:      held by the thread that calls CuPy; only ever taken by `with`, because Ctrl-C may come at any moment (see
               gpunet/turns.py).
    capturing: work is being captured, so the GPU must not be queried.
    """

    def __init__(self, cupy: Any, index: int, first: Boundary | None = None) -> None:
        self.index, self.lock, self.capturing = index, threading.RLock(), False
        self.runtime = cupy.cuda.runtime
        self.errors = (
            cupy.cuda.runtime.CUDARuntimeError,
            cupy.cuda.driver.CUDADriverError,
            cupy.cuda.memory.OutOfMemoryError,
        )
        self._process = os.getpid()
        self._first = first or self
        self._lost: str | None = None  # of the first one

    @property
    def lost(self) -> str | None:
        """Why this process can no longer use the GPU; None while it can."""
        return self._first._lost if os.getpid() == self._process else FORKED

    def require_usable(self) -> None:
        """Raise DeviceError if the GPU is lost."""
        if (why := self.lost) is not None:
            raise DeviceError(why)

    def explained(self, error: BaseException) -> BaseException:
        """The DeviceError to raise instead; during a capture the error itself, since that must end first."""
        return error if self.capturing else self._explained(error)

    def _explained(self, error: BaseException) -> DeviceError:
        status, line = getattr(error, "status", None), first_line(error)
        if status == OUT_OF_MEMORY or isinstance(error, MemoryError):
            return DeviceError(
                f"not enough GPU memory ({line}); close other programs on the GPU, or use a smaller network or batch"
            )
        if failure := self._failure():
            self._first._lost = (
                f"the GPU failed ({failure}) and cannot be used any more by this process; restart it, or compute with "
                "device='cpu'"
            )
            return DeviceError(self._first._lost)
        if status in CANNOT_LOAD:
            return DeviceError(
                f"the driver cannot load a kernel that CUDA compiled for this GPU ({line}); update the NVIDIA driver"
            )
        return DeviceError(f"the GPU refuses what it was asked for ({line})")

    def _failure(self) -> str | None:
        """What CUDA answers to every call after an error that persists; None if the GPU works."""
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
    """For methods that call CuPy: no other thread calls it meanwhile, and the method's GPU is the current one.

    Such methods may call one another. CUDA's and CuPy's errors become DeviceErrors, and so does the use of a lost GPU.
    """

    @functools.wraps(method)
    def inside(self: Owner, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        boundary = self.boundary
        boundary.require_usable()  # before taking the lock, which another thread may have held during a fork
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
                    with contextlib.suppress(*boundary.errors):  # this call may be the one that fails
                        boundary.runtime.setDevice(current)
            except boundary.errors as error:
                explained = boundary.explained(error)
                if explained is error:
                    raise
                raise explained from error

    return inside


def open_gpu_context(cupy: Any, index: int) -> None:
    """Open a GPU, by making it current once. Raises DeviceError if that fails.

    Calls only the runtime: a CuPy Stream that could not be created prints an error when it is freed.
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
    except runtime.CUDARuntimeError as error:  # here the driver's errors arrive as the runtime's
        hint = "see nvidia-smi for what else runs on it"
        if error.status == NOT_INITIALIZED:
            hint = "this happens after a fork: start processes with multiprocessing.get_context('spawn')"
        raise DeviceError(f"the GPU cannot be opened ({first_line(error)}); {hint}") from error
