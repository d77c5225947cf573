"""Kernels from CUDA C++ to machine code, with NVRTC. Needs no GPU: only the number of its architecture.

For training, all that it needs is compiled at once, beside one another on the cores there are, and kept on disk. For
tests and `python -m gpunet.kernel_report`, the compiler's report on a kernel is read, and kept likewise. Both have the
same source and the same options.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gpunet import cache_folders, kept, threads
from gpunet.engines.cuda.nvrtc import load as load_nvrtc
from gpunet.engines.cuda.sources import define_options, read_source
from gpunet.errors import DeviceError

STANDARD = ("--std=c++17",)
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")  # what CuPy always adds
REPORT_OPTIONS = ("--ptxas-options=-v",)

# NVRTC has no option that silences this one; it is about the architecture, not about the kernel.
_DEPRECATION = re.compile(r".*warning: Architectures prior to .* are deprecated.*")
_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_\d+\w?'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(.*)")
_SHARED = re.compile(r"(\d+) bytes smem")


class CompileError(RuntimeError):
    """NVRTC refused a kernel, or warned; the message is its log."""


@dataclass(frozen=True)
class Resources:
    """What a kernel needs, as ptxas reports it: bytes, and registers a thread."""

    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int


class Program(NamedTuple):
    """What is compiled: a kernel source's name and text, and all options."""

    name: str
    source: str
    options: tuple[str, ...]

    @property
    def key(self) -> str:
        """A name for everything that its machine code depends on."""
        return hashlib.sha256("\0".join([self.source, *self.options, _compiler()]).encode()).hexdigest()[:32]


def program(
    name: str, source: str, defines: Mapping[str, int | float | str], architecture: int, extra: Sequence[str] = ()
) -> Program:
    """A kernel source with compile-time parameters, for an architecture such as 52 or 90. The one place for options."""
    options = (*STANDARD, *define_options(defines), *CUPY_OPTIONS, *extra, f"--gpu-architecture=sm_{architecture}")
    return Program(name, source, options)


_compiling = threading.Lock()


def machine_code(programs: Sequence[Program], announce: Callable[[str], None]) -> list[bytes]:
    """Each program's cubin: from disk, or compiled now, as many at a time as there are cores, and kept for the next.

    announce: called with a line before something is compiled.
    Raises CompileError for the first that the compiler refuses; what NVRTC raises where it cannot be had.
    """
    with _compiling:  # who waits here for the same kernels, for a model in another thread, finds them kept
        folder = cache_folder()
        places = [folder / f"{program.name}-{program.key}.cubin" if folder else None for program in programs]
        codes = [kept.read(place) if place else None for place in places]
        missing = [number for number, code in enumerate(codes) if code is None]
        if missing:
            announce("compiling kernels, " + ("first run only" if folder else CANNOT_BE_KEPT))
            compiled = _beside_one_another([programs[number] for number in missing])
            for number, code in zip(missing, compiled, strict=True):
                codes[number] = code
                if (place := places[number]) is not None:
                    kept.write(place, code)
        return [code for code in codes if code is not None]


def cache_folder() -> Path | None:
    """Where machine code is kept; None if it cannot be."""
    return cache_folders.own("kernels")


CANNOT_BE_KEPT = "each time, as they cannot be kept: name a folder in XDG_CACHE_HOME"


def _beside_one_another(programs: Sequence[Program]) -> list[bytes]:
    """Compile on several threads: NVRTC does not hold Python's lock."""
    from concurrent.futures import ThreadPoolExecutor  # here, as it takes 5 ms and is seldom needed

    load_nvrtc().getVersion()  # CuPy opens the library at the first call, which is not for several threads
    with ThreadPoolExecutor(min(len(programs), threads.count()), "compiler") as pool:
        # After an error or Ctrl-C `map` begins nothing more; what has begun cannot be stopped.
        return [code for code, _ in pool.map(_compile, programs)]


def compile_kernel(name: str, defines: Mapping[str, int | float | str], architecture: int) -> dict[str, Resources]:
    """Compile kernels/<name>.cu for an architecture such as 52 or 90; returns each kernel's resources.

    Raises CompileError for an error, and for a warning as well; DeviceError without NVRTC.
    """
    wanted = _to_report(name, defines, architecture)
    folder = cache_folders.own("compiler")
    place = folder / f"{name}-{wanted.key}.log" if folder else None
    log = kept.read(place) if place else None
    if not log:
        log = _reported(wanted)[1].encode()
        if place:
            kept.write(place, log)
    return _resources(log.decode())


def compile_to_cubin(
    name: str, defines: Mapping[str, int | float | str], architecture: int
) -> tuple[dict[str, Resources], bytes]:
    """As compile_kernel, with the machine code; nothing is kept."""
    cubin, log = _reported(_to_report(name, defines, architecture))
    return _resources(log), cubin + b"\0"  # CuPy takes the last byte for the end of a text


def _to_report(name: str, defines: Mapping[str, int | float | str], architecture: int) -> Program:
    """What is to be compiled, with the compiler's report; DeviceError without NVRTC."""
    try:
        load_nvrtc().getVersion()
    except Exception as error:  # an ImportError, OSError or RuntimeError, depending on what is missing
        raise DeviceError("CUDA's compiler cannot be loaded; python -m gpunet.doctor says what is missing") from error
    return program(name, read_source(name), defines, architecture, REPORT_OPTIONS)


def _reported(wanted: Program) -> tuple[bytes, str]:
    """As _compile; CompileError for a warning, too."""
    cubin, log = _compile(wanted)
    if "warning" in _DEPRECATION.sub("", log):
        raise CompileError(f"{wanted.name}.cu, {wanted.options[-1]}:\n{log}")
    return cubin, log


def _compile(wanted: Program) -> tuple[bytes, str]:
    """The cubin, and what the compiler has to say about it. Raises CompileError."""
    nvrtc = load_nvrtc()
    made = nvrtc.createProgram(wanted.source, f"{wanted.name}.cu", (), ())
    try:
        nvrtc.compileProgram(made, wanted.options)
        return nvrtc.getCUBIN(made), nvrtc.getProgramLog(made)
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(made)
        raise CompileError(f"{wanted.name}.cu, {wanted.options[-1]}: {error}\n{log}") from error
    finally:
        nvrtc.destroyProgram(made)


def _compiler() -> str:
    """Which NVRTC this is: its version, and the version of its wheel, which distinguishes builds of one version."""
    return ", ".join([str(load_nvrtc().getVersion()), *_wheels()])


@functools.cache
def _wheels() -> list[str]:
    found = []
    for wheel in ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{wheel} {importlib.metadata.version(wheel)}")
    return found


def _resources(log: str) -> dict[str, Resources]:
    """Each kernel's resources from ptxas' log: a line with its name, one with stack and spills, one with the rest."""
    resources: dict[str, Resources] = {}
    for part in _ENTRY.split(log)[1:]:
        if part.isidentifier():
            kernel = part
            continue
        stack, used = _STACK.search(part), _USED.search(part)
        if stack is None or used is None:
            raise CompileError(f"{kernel}: the compiler's report has another form than expected:\n{part}")
        shared = _SHARED.search(used[2])
        resources[kernel] = Resources(
            registers=int(used[1]),
            shared_bytes=int(shared[1]) if shared else 0,
            stack_bytes=int(stack[1]),
            spill_bytes=int(stack[2]) + int(stack[3]),
        )
    return resources
