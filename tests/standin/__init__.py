"""A stand-in for CuPy, so that what runs on a GPU's host side is tested where there is no GPU.

`install` puts modules in CuPy's place that are strict about what CuPy and CUDA are strict about: types and sizes of
arguments, captures, who keeps memory alive, the pool, devices, threads, processes, errors that stay. Kernels run on the
emulator. Everything that a test may break is in `Computer` and `Gpu`.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest

from gpunet import doctor
from gpunet.engines import choice
from gpunet.engines.cuda import compiler, device, diagnosis

from . import errors
from .errors import CUDADriverError, CUDARuntimeError, StandInError
from .machine import Computer, Gpu
from .modules import make

__all__ = ["CUDADriverError", "CUDARuntimeError", "Computer", "Gpu", "StandInError", "errors", "hide", "install"]

REPLACED = ("cupy", "cupyx", "cupy_backends")


def hide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take CuPy out of sys.modules as a whole: what is left of it would look for the rest in the stand-in."""
    for name in [name for name in sys.modules if name.partition(".")[0] in REPLACED]:
        monkeypatch.delitem(sys.modules, name)


def install(monkeypatch: pytest.MonkeyPatch, cache: Path, computer: Computer | None = None) -> Computer:
    """Until the end of the test. cache: for kernels that were compiled before."""
    computer = computer or Computer()
    monkeypatch.setattr(computer, "ended", False)
    hide(monkeypatch)
    # What is remembered of this machine's GPUs is not the pretended computer's, and the other way round.
    monkeypatch.setattr(device, "_opened", {})
    monkeypatch.setattr(diagnosis, "cuda_diagnosis", functools.cache(diagnosis.cuda_diagnosis.__wrapped__))
    monkeypatch.setattr(choice, "cuda_problem", diagnosis.cuda_problem)  # which tests/conftest.py hides
    monkeypatch.setattr(doctor, "cuda_diagnosis", diagnosis.cuda_diagnosis)
    for name, module in make(computer).items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(compiler, "cache_folder", lambda: cache)
    monkeypatch.setattr(diagnosis.Machine, "cupy_wheels", lambda self: ["cupy-cuda12x"])
    monkeypatch.setattr(diagnosis.Machine, "open_driver", lambda self: None)
    monkeypatch.setattr(diagnosis.Machine, "nvrtc_path", lambda self: f"libnvrtc.so.{computer.nvrtc[0]}")
    return computer
