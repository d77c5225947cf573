"""CUDA's compiler library NVRTC, in the version that CuPy was built for."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import sys
from pathlib import Path
from typing import Any


def load() -> Any:
    """CuPy's module for NVRTC, before its first use. Without NVRTC, raises CuPy's own error.

    If two CUDA versions are installed (PyTorch brings its own), CuPy takes the newest that it finds, unless one is
    already loaded (cuda-pathfinder 1.9, load_nvidia_dynamic_lib). A newer NVRTC may no longer support this GPU, and the
    driver may not support its code. So the right one is loaded first.
    """
    from cupy_backends.cuda.api import runtime
    from cupy_backends.cuda.libs import nvrtc

    _preload(int(runtime.runtimeGetVersion()) // 1000)
    return nvrtc


@functools.cache
def _preload(major: int) -> None:
    """Load the NVRTC of this version if pip has installed it; otherwise CuPy looks for one."""
    path = wheel_library(major)
    if path is not None:
        with contextlib.suppress(OSError):
            ctypes.CDLL(str(path))


def wheel_library(major: int) -> Path | None:
    """The path of the NVRTC that pip has installed for a CUDA version."""
    windows = sys.platform == "win32"
    library = f"nvrtc64_{major}0_0.dll" if windows else f"libnvrtc.so.{major}"
    folders = ("bin", "bin/x86_64") if windows else ("lib",)
    try:
        spec = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        return None
    places = spec.submodule_search_locations or () if spec else ()
    paths = [
        Path(place) / package / folder / library
        for place in places
        for package in ("cuda_nvrtc", f"cu{major}")
        for folder in folders
    ]
    return next((path for path in paths if path.exists()), None)
