"""The choice of an engine for a device, a network and a batch size, from one table of engines."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunet import threads
from gpunet.engines.base import Engine
from gpunet.engines.cuda.crossover import tiled_cycles
from gpunet.engines.cuda.device import Device, open_gpu
from gpunet.engines.cuda.diagnosis import cuda_problem
from gpunet.engines.cuda.persistent_cycles import persistent_cycles
from gpunet.engines.cuda.persistent_plan import DoesNotFitError, make_plan
from gpunet.engines.cuda.shares import Part, part_of
from gpunet.errors import ArgumentError, DeviceError
from gpunet.layers import Network
from gpunet.optimizers import Adam, Optimizer

Objection = Callable[[Network, int, Optimizer, Device], str | None]


class Row(NamedTuple):
    """An engine.

    device:    where it runs, cpu or cuda.
    module, class_name: its class, imported only when needed: Numba takes half a second, or may be missing.
               On cuda, the class takes the GPU as its last argument.
    fallback:  the engine of the same device that replaces this one if it cannot run; None if there is none.
    software:  the software that computes, with versions, for messages.
    problem:   why it cannot run on this machine, in one line; None if it can.
    objection: why the fallback is better for a network, batch size, optimizer and GPU, in words; None if it is not.
    place:     what of a network is stored where on the GPU, in words, if the engine decides that; for those it serves.
    shares:    whether a share of a GPU's multiprocessors is enough for it (cuda/shares.py). The class takes how many.
    """

    device: str
    module: str
    class_name: str
    fallback: str | None = None
    software: Callable[[], str] | None = None
    problem: Callable[[], str | None] = lambda: None
    objection: Objection = lambda network, batch_size, optimizer, gpu: None
    place: Callable[[Network, int, Optimizer, Device], str] = lambda network, batch_size, optimizer, gpu: ""
    shares: bool = False


def _numpy() -> str:
    return f"NumPy {np.__version__}"


def _numba() -> str:
    return f"Numba {importlib.metadata.version('numba')}, threads: {threads.count()}"


@functools.cache
def numba_problem() -> str | None:
    """Why Numba cannot be used here, in one line; None if it can. Checked once per process.

    Raises ArgumentError for a number of threads in the environment that Numba would reject.
    """
    threads.count()
    try:
        import numba  # takes half a second, so only if needed
    except ModuleNotFoundError:
        return "Numba, which compiles the faster engine, is not installed; pip install numba"
    except Exception as error:  # a broken installation, or a NumPy that is too new for it, may raise anything
        return f"Numba cannot be imported ({str(error).splitlines()[0]}); pip install --upgrade numba"
    return "Numba's compiler is switched off (NUMBA_DISABLE_JIT)" if numba.config.DISABLE_JIT else None


def _persistent(network: Network, batch_size: int, optimizer: Optimizer, gpu: Device) -> tuple[str | None, str]:
    """The persistent engine's objection and place: see Row."""
    return _persistent_estimate(network, batch_size, optimizer.rule, part_of(gpu, gpu.multiprocessors))


@functools.lru_cache(maxsize=256)  # asked for by every `fit`, twice; plans and estimates take many milliseconds
def _persistent_estimate(network: Network, batch_size: int, rule: str, gpu: Part) -> tuple[str | None, str]:
    try:
        # With inputs as bytes and targets as classes it would need a little less.
        plan = make_plan(network, rule, batch_size, False, False, gpu)
    except DoesNotFitError as reason:
        return str(reason), ""
    longer = persistent_cycles(plan) / tiled_cycles(network, rule, batch_size, gpu)
    objection = f"{longer:.1f} times as long for batches of {batch_size}, by an estimate" if longer > 1 else None
    return objection, plan.words


TABLE = {
    "reference": Row("cpu", "gpunet.engines.reference", "ReferenceEngine", software=_numpy),
    "compiled": Row("cpu", "gpunet.engines.cpu.engine", "CompiledEngine", "reference", _numba, numba_problem),
    "tiled": Row("cuda", "gpunet.engines.cuda.tiled", "TiledEngine"),
    "persistent": Row(
        "cuda",
        "gpunet.engines.cuda.persistent",
        "PersistentEngine",
        "tiled",
        objection=lambda *arguments: _persistent(*arguments)[0],
        place=lambda *arguments: _persistent(*arguments)[1],
        shares=True,
    ),
}
TRIED_FIRST = {"cpu": "compiled", "cuda": "persistent"}  # then their fallbacks

DEVICE_OF = {name: row.device for name, row in TABLE.items()}  # where each engine runs
DEVICES = ("auto", "cuda", "cpu")
DEVICE_NAMES = "auto, cuda, cuda:1 and so on, cpu"  # "auto" and "cuda" mean the first GPU, as "cuda:0" does
ENGINES = ("auto", *TABLE)


class Share(NamedTuple):
    """Of a GPU, for a training beside others. stream: where its work is handed in, by number; multiprocessors: most."""

    stream: int
    multiprocessors: int


class Choice(NamedTuple):
    """An engine by name, and in one line for people on what it runs and why.

    gpu:   which one, if it runs on one. share: of it, if not all.
    where: what of the network is stored where on it, in one line, if it was chosen for that.
    """

    engine: str
    reason: str
    gpu: int = 0
    share: Share | None = None
    where: str = ""

    @property
    def can_share(self) -> bool:
        """Whether a share of a GPU is enough for it."""
        return TABLE[self.engine].shares

    def make(self, network: Network, optimizer: Optimizer, weights: Sequence[NDArray[np.floating]]) -> Engine:
        row = TABLE[self.engine]
        make: Callable[..., Engine] = getattr(importlib.import_module(row.module), row.class_name)
        return make(network, optimizer, weights, *self._where(row))

    def _where(self, row: Row) -> tuple[Any, ...]:
        """What the class takes besides."""
        if row.device == "cpu":
            return ()
        if self.share is None:
            return (cuda_device(self.gpu),)
        return open_gpu(self.gpu, self.share.stream), self.share.multiprocessors


def choose(
    network: Network,
    batch_size: int,
    device: str = "auto",
    engine: str = "auto",
    optimizer: Optimizer | None = None,
) -> Choice:
    """Choose the engine for a network and batch size on a device, as far as `device` and `engine` leave it open.

    optimizer: by default Adam, which needs the most memory.

    Raises ArgumentError for an unknown name, DeviceError if what was asked for is not available.
    """
    check_device(device, engine)
    if "cpu" in (device, DEVICE_OF.get(engine)):
        return _on_cpu(engine)
    index = gpu_index(device)
    if problem := cuda_problem(index):
        return _on_cpu("auto", problem)
    if engine != "auto":
        return _on_gpu(engine, index)
    gpu, rule = cuda_device(index), optimizer or Adam()
    name, objections = _serving("cuda", lambda row: row.objection(network, batch_size, rule, gpu))
    why = "".join(f" ({other}: {objection})" for other, objection in objections.items())
    return _on_gpu(name, index, why)._replace(where=TABLE[name].place(network, batch_size, rule, gpu))


def instead_of(choice: Choice, network: Network, device: str, engine: str) -> Choice | None:
    """What to use if a choice turns out not to work: its fallback on the same device, then the CPU.

    device, engine: as they were asked for. Returns None if they leave no other choice.
    """
    row, on_gpu = TABLE[choice.engine], DEVICE_OF[choice.engine] == "cuda"
    gpu_is_lost = on_gpu and cuda_device(choice.gpu).lost is not None
    if row.fallback is not None and engine == "auto" and not gpu_is_lost:
        return _on_gpu(row.fallback, choice.gpu) if on_gpu else _on_cpu(row.fallback)
    if on_gpu and "cuda" not in (_kind(device), DEVICE_OF.get(engine)):
        return choose(network, 1, "cpu")
    return None


def _serving(device: str, against: Callable[[Row], str | None]) -> tuple[str, dict[str, str]]:
    """The first engine of a device without an objection, and the objections to those before it."""
    name, found = TRIED_FIRST[device], dict[str, str]()
    while why := against(TABLE[name]):
        found[name] = why
        fallback = TABLE[name].fallback
        assert fallback is not None
        name = fallback
    return name, found


def _on_gpu(engine: str, index: int, why: str = "") -> Choice:
    return Choice(engine, f"cuda, {cuda_device(index).name}, engine {engine}{why}", index)


def _on_cpu(engine: str, *problems: str) -> Choice:
    """An engine for the CPU. problems: why it is not a GPU."""
    if engine == "auto":
        engine, found = _serving("cpu", lambda row: row.problem())
        problems = (*found.values(), *problems)
    software = TABLE[engine].software
    what = f"cpu, engine {engine}" + (f" ({software()})" if software else "")
    return Choice(engine, f"{what}: {'; '.join(problems)}" if problems else what)


def check_device(device: str, engine: str) -> None:
    """Raise ArgumentError unless both names are known and fit together, DeviceError if CUDA is not available."""
    if not is_device(device):
        raise ArgumentError(f"device: expected one of {DEVICE_NAMES}; got {device!r}")
    if engine not in ENGINES:
        raise ArgumentError(f"engine: expected one of {', '.join(ENGINES)}; got {engine!r}")
    needed = DEVICE_OF.get(engine, _kind(device))
    if _kind(device) not in ("auto", needed):
        raise ArgumentError(f"engine {engine} runs on device {needed}, got device {device}")
    if needed == "cuda" and (problem := cuda_problem(gpu_index(device))):
        raise DeviceError(f"device {device if device != 'auto' else needed}: {problem}")
    if engine in TABLE and (problem := TABLE[engine].problem()):
        raise DeviceError(f"engine {engine}: {problem}")


def is_device(name: object) -> bool:
    """Whether this is the name of a device: one of DEVICES, or cuda: and a GPU's number."""
    return isinstance(name, str) and (name in DEVICES or re.fullmatch(r"cuda:[0-9]{1,4}", name) is not None)


def gpu_index(device: str) -> int:
    """The index of the GPU that a device's name means, among those visible to CUDA."""
    return int(device.partition(":")[2] or 0)


def _kind(device: str) -> str:
    """auto, cuda or cpu."""
    return device.partition(":")[0]


def cuda_device(index: int = 0) -> Device:
    """A GPU, opened at first use."""
    return open_gpu(index)
