"""The engines, and the choice of one for a device, a network and a batch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunet.engines.base import Engine, EpochStatistics, OptimizerState
from gpunet.engines.reference import ReferenceEngine
from gpunet.errors import ArgumentError, DeviceError
from gpunet.layers import Network
from gpunet.optimizers import Optimizer

__all__ = ["DEVICES", "ENGINES", "Choice", "Engine", "EpochStatistics", "OptimizerState", "choose"]

DEVICES = ("auto", "cuda", "cpu")
ENGINES = ("auto", "reference")


class Choice(NamedTuple):
    """An engine, and in one line for people on what it runs and why."""

    engine: str
    reason: str

    def make(self, network: Network, optimizer: Optimizer, weights: Sequence[NDArray[np.floating]]) -> Engine:
        return ReferenceEngine(network, optimizer, weights)


def check_names(device: str, engine: str) -> None:
    """Raise ArgumentError unless both are known and belong together."""
    if device not in DEVICES:
        raise ArgumentError(f"device: expected one of {', '.join(DEVICES)}; got {device!r}")
    if engine not in ENGINES:
        raise ArgumentError(f"engine: expected one of {', '.join(ENGINES)}; got {engine!r}")


def choose(network: Network, batch_size: int, device: str = "auto", engine: str = "auto") -> Choice:
    """The engine for a network and batch size on a device, as far as `device` and `engine` leave it open.

    Raises ArgumentError for an unknown name, DeviceError if what was asked for cannot be had.
    """
    check_names(device, engine)
    problem = "gpunet has no CUDA engine yet"
    if device == "cuda":
        raise DeviceError(f"device cuda: {problem}; use device cpu or auto")
    return Choice("reference", f"cpu, engine reference (NumPy {np.__version__}): {problem}")
