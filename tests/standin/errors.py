"""CUDA's errors under CuPy's names, and what the stand-in itself objects to.

Numbers and words as cupy_backends.cuda.api.runtime.CUDARuntimeError of CuPy 14.2.0 gives them; the driver's are the
same numbers under the names of cuda.h.
"""

from __future__ import annotations

OUT_OF_MEMORY, INVALID_VALUE, NOT_INITIALIZED, INVALID_IMAGE = 2, 1, 3, 200
UNAVAILABLE, NO_DEVICE, INVALID_DEVICE, INSUFFICIENT_DRIVER = 46, 100, 101, 35
NO_BINARY, NOT_FOUND = 209, 500
INVALID_HANDLE, ILLEGAL_STATE, ILLEGAL_ADDRESS, LAUNCH_FAILURE = 400, 401, 700, 719
COOPERATIVE_TOO_LARGE, NOT_SUPPORTED = 720, 801
CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED = 900, 901
INVALID_OPTION, COMPILATION = 5, 6  # NVRTC's own numbers

_RUNTIME = {
    INVALID_VALUE: "cudaErrorInvalidValue: invalid argument",
    OUT_OF_MEMORY: "cudaErrorMemoryAllocation: out of memory",
    NOT_INITIALIZED: "cudaErrorInitializationError: initialization error",
    INSUFFICIENT_DRIVER: "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version",
    UNAVAILABLE: "cudaErrorDevicesUnavailable: CUDA-capable device(s) is/are busy or unavailable",
    NO_DEVICE: "cudaErrorNoDevice: no CUDA-capable device is detected",
    INVALID_DEVICE: "cudaErrorInvalidDevice: invalid device ordinal",
    INVALID_HANDLE: "cudaErrorInvalidResourceHandle: invalid resource handle",
    ILLEGAL_STATE: "cudaErrorIllegalState: the operation cannot be performed in the present state",
    ILLEGAL_ADDRESS: "cudaErrorIllegalAddress: an illegal memory access was encountered",
    LAUNCH_FAILURE: "cudaErrorLaunchFailure: unspecified launch failure",
    CAPTURE_UNSUPPORTED: "cudaErrorStreamCaptureUnsupported: operation not permitted when stream is capturing",
    CAPTURE_INVALIDATED: "cudaErrorStreamCaptureInvalidated: operation failed due to a previous error during capture",
}
_DRIVER = {
    INVALID_VALUE: "CUDA_ERROR_INVALID_VALUE: invalid argument",
    OUT_OF_MEMORY: "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
    NOT_INITIALIZED: "CUDA_ERROR_NOT_INITIALIZED: initialization error",
    UNAVAILABLE: "CUDA_ERROR_DEVICE_UNAVAILABLE: CUDA-capable device(s) is/are busy or unavailable",
    INVALID_IMAGE: "CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid",
    NO_BINARY: "CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available for execution on the device",
    NOT_FOUND: "CUDA_ERROR_NOT_FOUND: named symbol not found",
    INVALID_HANDLE: "CUDA_ERROR_INVALID_HANDLE: invalid resource handle",
    ILLEGAL_ADDRESS: "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered",
    LAUNCH_FAILURE: "CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure",
    COOPERATIVE_TOO_LARGE: "CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE: too many blocks in cooperative launch",
    NOT_SUPPORTED: "CUDA_ERROR_NOT_SUPPORTED: operation not supported",
    CAPTURE_UNSUPPORTED: "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: operation not permitted when stream is capturing",
}


_NVRTC = {INVALID_OPTION: "NVRTC_ERROR_INVALID_OPTION", COMPILATION: "NVRTC_ERROR_COMPILATION"}


class StandInError(AssertionError):
    """CUDA would not notice, or not at once, but the caller is wrong."""


class CUDARuntimeError(RuntimeError):
    """cupy_backends/cuda/api/runtime.pyx, CuPy 14.2.0: a RuntimeError with the attribute status."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(_RUNTIME[status])


class CUDADriverError(RuntimeError):
    """cupy_backends/cuda/api/driver.pyx: another RuntimeError, not related to CUDARuntimeError."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(_DRIVER[status])


class NVRTCError(RuntimeError):
    """cupy_backends/cuda/libs/nvrtc.pyx, CuPy 14.2.0."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"{_NVRTC[status]} ({status})")


class OutOfMemoryError(MemoryError):
    """cupy/cuda/memory.pyx: what the pool raises; a MemoryError, no CUDARuntimeError."""

    def __init__(self, size: int, total: int) -> None:
        super().__init__(f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes).")
