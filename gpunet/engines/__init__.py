"""The engines, and the choice of one for a device, a network and a batch size."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunet.cuda.device import CudaDevice, Device
from gpunet.cuda.diagnosis import cuda_problem
from gpunet.engines.base import Engine, EpochStatistics, OptimizerState
from gpunet.engines.reference import ReferenceEngine
from gpunet.engines.resident import ResidentEngine
from gpunet.engines.resident_plan import DoesNotFitError, make_plan
from gpunet.engines.tiled import TiledEngine
from gpunet.errors import ArgumentError, DeviceError
from gpunet.layers import Network
from gpunet.optimizers import Optimizer

__all__ = ["DEVICES", "ENGINES", "Choice", "Engine", "EpochStatistics", "OptimizerState", "check_device", "choose"]

DEVICE_OF = {"reference": "cpu", "tiled": "cuda", "resident": "cuda"}  # where each engine runs
DEVICES = ("auto", "cuda", "cpu")
ENGINES = ("auto", *DEVICE_OF)
RESIDENT_BATCH = 32  # up to here the resident engine is expected to be the faster one; not measured yet


class Choice(NamedTuple):
    """An engine by name, and in one line for people on what it runs and why."""

    engine: str
    reason: str

    def make(self, network: Network, optimizer: Optimizer, weights: Sequence[NDArray[np.floating]]) -> Engine:
        if self.engine == "tiled":
            return TiledEngine(network, optimizer, weights, cuda_device())
        if self.engine == "resident":
            return ResidentEngine(network, optimizer, weights, cuda_device())
        return ReferenceEngine(network, optimizer, weights)


def choose(network: Network, batch_size: int, device: str = "auto", engine: str = "auto") -> Choice:
    """The engine for a network and batch size on a device, as far as `device` and `engine` leave it open.

    Raises ArgumentError for an unknown name, DeviceError if what was asked for cannot be had.
    """
    check_device(device, engine)
    reference = f"cpu, engine reference (NumPy {np.__version__})"
    if "cpu" in (device, DEVICE_OF.get(engine)):
        return Choice("reference", reference)
    if problem := cuda_problem():
        return Choice("reference", f"{reference}: {problem}")
    name, why = (engine, "") if engine != "auto" else _cuda_engine(network, batch_size, cuda_device())
    return Choice(name, f"cuda, {cuda_device().name}, engine {name}{why}")


def _cuda_engine(network: Network, batch_size: int, device: Device) -> tuple[str, str]:
    """The engine for a GPU, and in words why it is not the resident one."""
    if batch_size > RESIDENT_BATCH:
        return "tiled", f" (batches of more than {RESIDENT_BATCH})"
    try:
        make_plan(network, "adam", batch_size, False, False, device)  # nothing needs more room than these
    except DoesNotFitError as reason:
        return "tiled", f" (resident: {reason})"
    return "resident", ""


def check_device(device: str, engine: str) -> None:
    """Raise ArgumentError unless both names are known and belong together, DeviceError if CUDA cannot be had."""
    if device not in DEVICES:
        raise ArgumentError(f"device: expected one of {', '.join(DEVICES)}; got {device!r}")
    if engine not in ENGINES:
        raise ArgumentError(f"engine: expected one of {', '.join(ENGINES)}; got {engine!r}")
    needed = DEVICE_OF.get(engine, device)
    if device not in ("auto", needed):
        raise ArgumentError(f"engine {engine} runs on device {needed}, got device {device}")
    if needed == "cuda" and (problem := cuda_problem()):
        raise DeviceError(f"device cuda: {problem}")


@functools.cache
def cuda_device() -> Device:
    """The GPU, opened at first use."""
    return CudaDevice()
