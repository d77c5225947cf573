"""Compiles kernels from CUDA C++ to machine code with NVRTC. Needs no GPU, only the number of its architecture.

For training, all the kernels that it needs are compiled together, in parallel on the available cores, and cached on
disk. For tests and `python -m gpunet.kernel_report`, the compiler's report on a kernel is read, and cached too. Both
use the same source and the same options.
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

from gpunet import code_cache, threads
from gpunet.engines.cuda.nvrtc import load as load_nvrtc
from gpunet.engines.cuda.sources import define_options, read_source
from gpunet.errors import DeviceError

STANDARD = ("--std=c++17",)
CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")  # what CuPy always adds
REPORT_OPTIONS = ("--ptxas-options=-v",)

# NVRTC has no option to silence this warning, which is about the architecture, not about the kernel.
_DEPRECATION = re.compile(r".*warning: Architectures prior to .* are deprecated.*")
_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_\d+\w?'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(.*)")
_SHARED = re.compile(r"(\d+) bytes smem")


class CompileError(RuntimeError):
    """NVRTC refused a kernel or warned about it; the message is its log."""


@dataclass(frozen=True)
class Resources:
    """What a kernel needs, as ptxas reports it: bytes, and registers per thread."""

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
        """A hash of everything that the machine code depends on."""
        return hashlib.sha256("\0".join([self.source, *self.options, _compiler()]).encode()).hexdigest()[:32]


def program(
    name: str, source: str, defines: Mapping[str, int | float | str], architecture: int, extra: Sequence[str] = ()
) -> Program:
    """A kernel source with compile-time parameters, for an architecture such as 52 or 90. All options are set here."""
    options = (*STANDARD, *define_options(defines), *CUPY_OPTIONS, *extra, f"--gpu-architecture=sm_{architecture}")
    return Program(name, source, options)


_compiling = threading.Lock()


def machine_code(programs: Sequence[Program], announce: Callable[[str], None]) -> list[bytes]:
    """Each program's cubin: from the cache, or compiled now, as many at a time as there are cores, and cached.

    announce: called with a line before anything is compiled.
    Raises CompileError for the first program that the compiler refuses, and NVRTC's own error if it is not available.
    """
    with _compiling:  # another thread that waits here for the same kernels then finds them in the cache
        folder = cache_folder()
        places = [folder / f"{program.name}-{program.key}.cubin" if folder else None for program in programs]
        codes = [code_cache.read(place) if place else None for place in places]
        missing = [number for number, code in enumerate(codes) if code is None]
        if missing:
            announce("compiling kernels, " + ("first run only" if folder else CANNOT_BE_KEPT))
            compiled = _compile_in_parallel([programs[number] for number in missing])
            for number, code in zip(missing, compiled, strict=True):
                codes[number] = code
                if (place := places[number]) is not None:
                    code_cache.write(place, code)
        return [code for code in codes if code is not None]


def cache_folder() -> Path | None:
    """Where machine code is cached; None if it cannot be."""
    return code_cache.folder("kernels")


CANNOT_BE_KEPT = "each time, as they cannot be kept: name a folder in XDG_CACHE_HOME"


def _compile_in_parallel(programs: Sequence[Program]) -> list[bytes]:
    """Compile in several threads: NVRTC releases Python's lock."""
    from concurrent.futures import ThreadPoolExecutor  # here, because it takes 5 ms and is seldom needed

    load_nvrtc().getVersion()  # CuPy opens the library in the first call, which is not thread-safe
    with ThreadPoolExecutor(min(len(programs), threads.count()), "compiler") as pool:
        # After an error or Ctrl-C, `map` starts nothing more; compilations that have started cannot be stopped.
        return [code for code, _ in pool.map(_compile, programs)]


def compile_kernel(name: str, defines: Mapping[str, int | float | str], architecture: int) -> dict[str, Resources]:
    """Compile kernels/<name>.cu for an architecture such as 52 or 90; returns each kernel's resources.

    Raises CompileError for an error or a warning; DeviceError without NVRTC.
    """
    return compile_to_cubin(name, defines, architecture)[0]


def compile_to_cubin(
    name: str, defines: Mapping[str, int | float | str], architecture: int
) -> tuple[dict[str, Resources], bytes]:
    """As compile_kernel, with the machine code."""
    wanted = _to_report(name, defines, architecture)
    folder = code_cache.folder("compiler")
    place = folder / f"{name}-{wanted.key}.report" if folder else None
    found = code_cache.read(place) if place else None
    if found is None:
        cubin, log = _reported(wanted)
        found = log.encode().rstrip(b"\0") + b"\0" + cubin
        if place:
            code_cache.write(place, found)
    text, _, cubin = found.partition(b"\0")
    return _resources(text.decode()), cubin + b"\0"  # CuPy takes the last byte for a string's terminator


def _to_report(name: str, defines: Mapping[str, int | float | str], architecture: int) -> Program:
    """The program to compile for the compiler's report. Raises DeviceError without NVRTC."""
    try:
        load_nvrtc().getVersion()
    except Exception as error:  # an ImportError, OSError or RuntimeError, depending on what is missing
        raise DeviceError("CUDA's compiler cannot be loaded; python -m gpunet.doctor says what is missing") from error
    return program(name, read_source(name), defines, architecture, REPORT_OPTIONS)


def _reported(wanted: Program) -> tuple[bytes, str]:
    """As _compile, but with a CompileError for a warning too."""
    cubin, log = _compile(wanted)
    if "warning" in _DEPRECATION.sub("", log):
        raise CompileError(f"{wanted.name}.cu, {wanted.options[-1]}:\n{log}")
    return cubin, log


def _compile(wanted: Program) -> tuple[bytes, str]:
    """The cubin and the compiler's log. Raises CompileError."""
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
    """Identifies this NVRTC: its version, and that of its wheel, which tells builds of the same version apart."""
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
            raise CompileError(f"{kernel}: the compiler's report does not have the expected form:\n{part}")
        shared = _SHARED.search(used[2])
        resources[kernel] = Resources(
            registers=int(used[1]),
            shared_bytes=int(shared[1]) if shared else 0,
            stack_bytes=int(stack[1]),
            spill_bytes=int(stack[2]) + int(stack[3]),
        )
    return resources
