"""The engines, and the choice of one for a device, a network and a batch size."""

from gpunet.engines.base import Engine, EpochStatistics, OptimizerState
from gpunet.engines.choice import (
    DEVICE_NAMES,
    DEVICE_OF,
    DEVICES,
    ENGINES,
    Choice,
    Share,
    check_device,
    choose,
    cuda_device,
    instead_of,
    is_device,
    numba_problem,
)

__all__ = [
    "DEVICES",
    "DEVICE_NAMES",
    "DEVICE_OF",
    "ENGINES",
    "Choice",
    "Engine",
    "EpochStatistics",
    "OptimizerState",
    "Share",
    "check_device",
    "choose",
    "cuda_device",
    "instead_of",
    "is_device",
    "numba_problem",
]
