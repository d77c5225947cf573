"""The devices that kernels and engines are tested on: the emulator in several modes, and the GPU if there is one."""

from __future__ import annotations

import functools
import os

import pytest

from emulator import EmulatedDevice, missing
from gpunet.engines.cuda.device import Device
from gpunet.engines.cuda.diagnosis import cuda_problem
from gpunet.engines.cuda.persistent_plan import DoesNotFitError, make_plan
from gpunet.layers import Network

# A correct kernel gives the same bits in whatever order its threads run.
ORDERS: list[str | int] = ["forward", "reverse", 1, 2, 3]
EMULATED = [f"order-{order}" for order in ORDERS] + ["race", "address"]
ON_GPU = pytest.param("gpu", marks=pytest.mark.gpu)
EVERYWHERE = [*EMULATED, ON_GPU]
PLAIN = ["order-forward", ON_GPU]


def open_device(kind: str, multiprocessors: int = 4, shared_bytes: int = 48 * 1024) -> Device:
    """A device by its name in the lists above. Skips if it is not available; in CI the emulator must be."""
    if kind == "gpu":
        if problem := cuda_problem():
            refuse_or_skip("GPUNET_REQUIRE_GPU", problem)
        return cuda_device()
    if reason := missing():
        refuse_or_skip("CI", reason)
    return emulated_device(kind, multiprocessors, shared_bytes)


def open_device_that_fits(
    kind: str, network: Network, batch_size: int, multiprocessors: int = 4, shared_bytes: int = 48 * 1024
) -> Device:
    """A device for the persistent engine. Skips, in the plan's own words, where a GPU is too small for the network.

    The plan is that of Adam, images as bytes and classes as targets, which differs little from the others. An emulated
    device has the size that it is given, and must do.
    """
    device = open_device(kind, multiprocessors, shared_bytes)
    try:
        make_plan(network, "adam", batch_size, True, True, device)
    except DoesNotFitError as reason:
        if kind == "gpu":
            pytest.skip(f"{device.name}: {reason}")
    return device


def refuse_or_skip(required_by: str, reason: str, allow_module_level: bool = False) -> None:
    """Fail if an environment variable requires the device; otherwise skip its tests."""
    if os.environ.get(required_by, "").lower() not in ("", "0", "false"):
        pytest.fail(f"{required_by} is set, but {reason}")
    pytest.skip(reason, allow_module_level=allow_module_level)


@functools.cache
def emulated_device(kind: str, multiprocessors: int, shared_bytes: int) -> Device:
    size = {"multiprocessors": multiprocessors, "shared_bytes": shared_bytes}
    if kind in ("race", "address"):
        return EmulatedDevice(sanitizer=kind, order=4, **size)
    order = kind.removeprefix("order-")
    return EmulatedDevice(order=int(order) if order.isdigit() else order, **size)


@functools.cache
def cuda_device() -> Device:
    from gpunet.engines.cuda.device import CudaDevice

    return CudaDevice()
