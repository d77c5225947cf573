"""How a thread of the compiled engine sleeps until another one wakes it: system calls, by their addresses."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys

FUTEX, WAIT_ON_ADDRESS, SHORT_SLEEP = range(3)
NAP_MILLISECONDS = 5  # the longest sleep: then a thread checks whether it has to stop
# The number of Linux' futex call, on little-endian processors: it reads the lower half of an int64
_FUTEX_CALLS = {"x86_64": 202, "aarch64": 98}

FUTEX_CALL = _FUTEX_CALLS.get(platform.machine(), 0) if sys.platform == "linux" and sys.maxsize > 2**32 else 0
KIND_OF_WAITING = FUTEX if FUTEX_CALL else WAIT_ON_ADDRESS if sys.platform == "win32" else SHORT_SLEEP


@functools.cache
def addresses() -> tuple[int, int]:
    """The C functions for waiting and for waking."""
    if KIND_OF_WAITING == FUTEX:
        return (_address(ctypes.CDLL(None).syscall),) * 2
    if KIND_OF_WAITING == WAIT_ON_ADDRESS:
        library = ctypes.WinDLL("api-ms-win-core-synch-l1-2-0")  # type: ignore[attr-defined,unused-ignore]
        return _address(library.WaitOnAddress), _address(library.WakeByAddressAll)
    return (_address(ctypes.CDLL(None).usleep),) * 2


def _address(function: object) -> int:
    return int(ctypes.cast(function, ctypes.c_void_p).value or 0)  # type: ignore[arg-type]
