"""Runs CUDA kernels on the CPU: the same .cu text, built with g++, each CUDA thread a fibre. See README.md."""

from .arrays import EmulatedArray
from .build import missing
from .device import EmulatedDevice, EmulatedModule
from .errors import (
    AddressError,
    BarrierError,
    BuildError,
    DeadlockError,
    EmulatorError,
    RaceError,
    TimeLimitError,
    WarpError,
)

__all__ = [
    "AddressError",
    "BarrierError",
    "BuildError",
    "DeadlockError",
    "EmulatedArray",
    "EmulatedDevice",
    "EmulatedModule",
    "EmulatorError",
    "RaceError",
    "TimeLimitError",
    "WarpError",
    "missing",
]
