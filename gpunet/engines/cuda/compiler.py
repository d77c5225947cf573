"""NVRTC without a GPU: compiles a kernel for any architecture and reads the compiler's report.

Reports are kept, by source, options and compiler, so that a second run compiles only what has changed.
Used by tests and by `python -m gpunet.kernel_report`. Training compiles through CuPy
(gpunet.engines.cuda.device), with the same source and the same options.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpunet import cache_folders, files
from gpunet.engines.cuda.nvrtc import load as load_nvrtc
from gpunet.engines.cuda.sources import OPTIONS, define_options, read_source
from gpunet.errors import DeviceError, OutputError

CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")  # what CuPy always adds
REPORT_OPTIONS = ("--ptxas-options=-v",)
DIGEST = 64  # bytes in front of a log that is kept: its SHA-256

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


def compile_kernel(name: str, defines: Mapping[str, int | float | str], architecture: int) -> dict[str, Resources]:
    """Compile kernels/<name>.cu for an architecture such as 52 or 90; returns each kernel's resources.

    Raises CompileError for an error, and for a warning as well; DeviceError without NVRTC.
    """
    try:
        nvrtc = load_nvrtc()
        nvrtc.getVersion()
    except Exception as error:  # an ImportError, OSError or RuntimeError, depending on what is missing
        raise DeviceError("CUDA's compiler cannot be loaded; python -m gpunet.doctor says what is missing") from error
    options = (
        *OPTIONS,
        *define_options(defines),
        *CUPY_OPTIONS,
        *REPORT_OPTIONS,
        f"--gpu-architecture=sm_{architecture}",
    )
    source, folder = read_source(name), cache_folders.own("compiler")
    key = hashlib.sha256("\0".join([source, *options, _compiler()]).encode()).hexdigest()
    kept = folder / f"{name}-{key[:32]}.log" if folder else None
    log = kept and _read_log(kept)
    if not log:
        log = _compile(f"{name}.cu", source, options)
        if kept is not None:
            with contextlib.suppress(OutputError):  # a full disk is no reason to fail
                files.write_bytes(kept, _digest(log.encode()) + log.encode())
    return _resources(log)


def _read_log(path: Path) -> str | None:
    """A log that was kept; None if there is none, or if it is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, log = content[:DIGEST], content[DIGEST:]
    return log.decode() if digest == _digest(log) else None


def _digest(log: bytes) -> bytes:
    return hashlib.sha256(log).hexdigest().encode()


def _compile(name: str, source: str, options: Sequence[str]) -> str:
    """The compiler's log; CompileError for an error or a warning."""
    nvrtc = load_nvrtc()
    program = nvrtc.createProgram(source, name, (), ())
    try:
        nvrtc.compileProgram(program, options)
        log: str = nvrtc.getProgramLog(program)
    except nvrtc.NVRTCError as error:
        raise CompileError(f"{name}, {options[-1]}: {error}\n{nvrtc.getProgramLog(program)}") from error
    finally:
        nvrtc.destroyProgram(program)
    if "warning" in _DEPRECATION.sub("", log):
        raise CompileError(f"{name}, {options[-1]}:\n{log}")
    return log


@functools.cache
def _compiler() -> str:
    """Which NVRTC this is: its version, and the version of its wheel, which tells builds of one version apart."""
    found = [str(load_nvrtc().getVersion())]
    for wheel in ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{wheel} {importlib.metadata.version(wheel)}")
    return ", ".join(found)


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
