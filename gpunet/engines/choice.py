"""The choice of an engine for a device, a network and a batch size."""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunet import threads
from gpunet.engines.base import Engine
from gpunet.engines.cuda.crossover import persistent_cycles, tiled_cycles
from gpunet.engines.cuda.device import Device, open_gpu
from gpunet.engines.cuda.diagnosis import cuda_problem
from gpunet.engines.cuda.persistent import PersistentEngine
from gpunet.engines.cuda.persistent_plan import DoesNotFitError, make_plan
from gpunet.engines.cuda.tiled import TiledEngine
from gpunet.engines.reference import ReferenceEngine
from gpunet.errors import ArgumentError, DeviceError
from gpunet.layers import Network
from gpunet.optimizers import Adam, Optimizer

DEVICE_OF = {"reference": "cpu", "compiled": "cpu", "tiled": "cuda", "persistent": "cuda"}  # where each engine runs
DEVICES = ("auto", "cuda", "cpu")
DEVICE_NAMES = "auto, cuda, cuda:1 and so on, cpu"  # "auto" and "cuda" mean the first GPU, as "cuda:0" does
ENGINES = ("auto", *DEVICE_OF)
REFERENCE = f"cpu, engine reference (NumPy {np.__version__})"


class Choice(NamedTuple):
    """An engine by name, and in one line for people on what it runs and why. gpu: which one, if it runs on one."""

    engine: str
    reason: str
    gpu: int = 0

    def make(self, network: Network, optimizer: Optimizer, weights: Sequence[NDArray[np.floating]]) -> Engine:
        if self.engine == "tiled":
            return TiledEngine(network, optimizer, weights, cuda_device(self.gpu))
        if self.engine == "persistent":
            return PersistentEngine(network, optimizer, weights, cuda_device(self.gpu))
        if self.engine == "compiled":
            from gpunet.engines.cpu.engine import (
                CompiledEngine,  # here, because Numba takes half a second, or is not there
            )

            return CompiledEngine(network, optimizer, weights)
        return ReferenceEngine(network, optimizer, weights)


def choose(
    network: Network,
    batch_size: int,
    device: str = "auto",
    engine: str = "auto",
    optimizer: Optimizer | None = None,
) -> Choice:
    """The engine for a network and batch size on a device, as far as `device` and `engine` leave it open.

    optimizer: Adam if not given, which needs the most memory.

    Raises ArgumentError for an unknown name, DeviceError if what was asked for cannot be had.
    """
    check_device(device, engine)
    if "cpu" in (device, DEVICE_OF.get(engine)):
        return _cpu_engine(engine)
    index = gpu_index(device)
    if problem := cuda_problem(index):
        return _cpu_engine("auto", problem)
    gpu = cuda_device(index)
    name, why = (engine, "") if engine != "auto" else _cuda_engine(network, batch_size, optimizer or Adam(), gpu)
    return _on_gpu(name, index, why)


def instead_of(choice: Choice, network: Network, device: str, engine: str) -> Choice | None:
    """What to take if a choice turns out not to work: another engine on the GPU, then the CPU, there the reference.

    device, engine: as they were asked for; None if they leave nothing else.
    """
    if choice.engine == "persistent" and engine == "auto" and cuda_device(choice.gpu).lost is None:
        return _on_gpu("tiled", choice.gpu)
    if choice.engine == "compiled" and engine == "auto":
        return Choice("reference", REFERENCE)
    if DEVICE_OF[choice.engine] == "cuda" and "cuda" not in (_kind(device), DEVICE_OF.get(engine)):
        return choose(network, 1, "cpu")
    return None


def _on_gpu(engine: str, index: int, why: str = "") -> Choice:
    return Choice(engine, f"cuda, {cuda_device(index).name}, engine {engine}{why}", index)


def _cpu_engine(engine: str, *problems: str) -> Choice:
    """The engine for the CPU. problems: why it is not a GPU."""
    name = engine
    if engine == "auto":
        name = "reference" if numba_problem() else "compiled"
        problems = (*filter(None, [numba_problem()]), *problems)
    if name == "compiled":
        what = f"cpu, engine compiled (Numba {importlib.metadata.version('numba')}, threads: {threads.count()})"
    else:
        what = REFERENCE
    return Choice(name, f"{what}: {'; '.join(problems)}" if problems else what)


def _cuda_engine(network: Network, batch_size: int, optimizer: Optimizer, device: Device) -> tuple[str, str]:
    """The engine for a GPU, and in words why it is not the persistent one."""
    try:
        # Inputs as bytes and targets as classes would need a little less.
        plan = make_plan(network, optimizer.rule, batch_size, False, False, device)
    except DoesNotFitError as reason:
        return "tiled", f" (persistent: {reason})"
    longer = persistent_cycles(plan) / tiled_cycles(network, optimizer.rule, batch_size, device)
    if longer > 1:
        return "tiled", f" (persistent: {longer:.1f} times as long for batches of {batch_size}, by an estimate)"
    return "persistent", ""


def check_device(device: str, engine: str) -> None:
    """Raise ArgumentError unless both names are known and belong together, DeviceError if CUDA cannot be had."""
    if not is_device(device):
        raise ArgumentError(f"device: expected one of {DEVICE_NAMES}; got {device!r}")
    if engine not in ENGINES:
        raise ArgumentError(f"engine: expected one of {', '.join(ENGINES)}; got {engine!r}")
    needed = DEVICE_OF.get(engine, _kind(device))
    if _kind(device) not in ("auto", needed):
        raise ArgumentError(f"engine {engine} runs on device {needed}, got device {device}")
    if needed == "cuda" and (problem := cuda_problem(gpu_index(device))):
        raise DeviceError(f"device {device if device != 'auto' else needed}: {problem}")
    if engine == "compiled" and (problem := numba_problem()):
        raise DeviceError(f"engine compiled: {problem}")


@functools.cache
def numba_problem() -> str | None:
    """Why Numba cannot be used here, in one line; None if it can. Asked once a process.

    Raises ArgumentError for a number of threads in the environment that Numba would stumble over.
    """
    threads.count()
    try:
        import numba  # half a second, so only where it is needed
    except ModuleNotFoundError:
        return "Numba, which compiles the faster engine, is not installed; pip install numba"
    except Exception as error:  # whatever a broken installation, or a NumPy that is too new for it, raises
        return f"Numba cannot be imported ({str(error).splitlines()[0]}); pip install --upgrade numba"
    return "Numba's compiler is switched off (NUMBA_DISABLE_JIT)" if numba.config.DISABLE_JIT else None


def is_device(name: object) -> bool:
    """Whether this is a device's name: one of DEVICES, or cuda: with a GPU's number."""
    return isinstance(name, str) and (name in DEVICES or re.fullmatch(r"cuda:[0-9]{1,4}", name) is not None)


def gpu_index(device: str) -> int:
    """The GPU that a device's name means, as CUDA counts those that it may use."""
    return int(device.partition(":")[2] or 0)


def _kind(device: str) -> str:
    """auto, cuda or cpu."""
    return device.partition(":")[0]


def cuda_device(index: int = 0) -> Device:
    """A GPU, opened at first use."""
    return open_gpu(index)
