"""Builds a kernel source with g++, together with the emulator's runtime, and keeps the results in a cache folder.

The result of a build is named by a hash of everything that went into it. It is built in a temporary folder and moved
into place in one step, so that processes building at the same time do not disturb each other.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpunet import code_cache

from .errors import BuildError

HERE = Path(__file__).resolve().parent
RUNTIME = HERE / "runtime"
COMMON = (
    "-std=c++17",
    "-g1",
    "-fPIC",
    "-fsigned-char",
    "-fvisibility=hidden",
    "-fno-exceptions",
    "-fno-rtti",
    "-U_FORTIFY_SOURCE",  # it refuses longjmp to another stack
)

TRAP_MISALIGNED = ("-fsanitize=alignment", "-fsanitize-undefined-trap-on-error")  # guard.cpp reports the trap


@dataclass(frozen=True)
class Mode:
    """How kernels are built: flags for the kernel's text, flags for the runtime, flags to link the two."""

    kernel: tuple[str, ...]
    runtime: tuple[str, ...]
    link: tuple[str, ...]
    left_out: tuple[str, ...]  # files of the runtime


MODES = {
    None: Mode(("-O1", *TRAP_MISALIGNED), ("-O2",), ("-shared",), ("race.cpp", "order.cpp", "program.cpp")),
    # The compiler calls a function at every access to memory; race.cpp defines these functions.
    "race": Mode(
        (
            "-O1",
            "-fsanitize=thread",
            *TRAP_MISALIGNED,
            "--param=tsan-distinguish-volatile=1",
            "--param=tsan-instrument-func-entry-exit=0",
            "-DGPUNET_RACE",
        ),
        ("-O2", "-DGPUNET_RACE"),
        ("-shared",),
        ("program.cpp",),
    ),
    # A program of its own: the sanitizer must be in a process from its start.
    "address": Mode(
        ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DGPUNET_ADDRESS"),
        ("-O2", "-DGPUNET_ADDRESS"),
        ("-fsanitize=address,undefined", "-rdynamic"),  # the sanitizers call functions of the runtime
        ("race.cpp", "order.cpp", "library.cpp"),
    ),
}


def missing() -> str | None:
    """Why the emulator cannot work on this machine, in one line; None if it can."""
    if platform.system() != "Linux":
        return f"the emulator needs Linux, this is {platform.system()}"
    if shutil.which("g++") is None:
        return "the emulator needs g++, which is not installed"
    return None


def cache_folder() -> Path:
    """Where builds are kept: $GPUNET_EMULATOR_CACHE, else in the user's cache folder, else in the temporary folder."""
    chosen = os.environ.get("GPUNET_EMULATOR_CACHE")
    if chosen:
        return Path(chosen).resolve()
    return code_cache.folder("emulator") or Path(tempfile.gettempdir()) / f"gpunet-emulator-{os.getuid()}"


def build(name: str, text: str, sanitizer: str | None, defines: Sequence[str]) -> Path:
    """The library (or, with the address sanitizer, the program) of a kernel source; built if it is not in the cache."""
    reason = missing()
    if reason:
        raise BuildError(reason)
    mode = MODES[sanitizer]
    options = (*COMMON, *_machine_options(), *mode.kernel)
    target = cache_folder() / f"{name}-{_hash(text, *defines, *options, _headers(), _runtime_key(sanitizer))}"
    if target.exists():
        return target
    table = ", ".join(f"GPUNET_KERNEL({kernel})" for kernel in _kernel_names(name, text, defines))
    # The defines come after the emulator's header, whose names they must not touch. In an unnamed namespace, static
    # variables of inline functions and templates are ordinary local variables.
    macros = "\n".join("#define " + define[2:].replace("=", " ", 1) for define in defines)
    source = (
        f'#include "emulator.h"\n{macros}\nnamespace {{\n{text}\n}}\n'
        f'#line 1 "table of kernels"\n'
        f"const gpunet::Kernel gpunet::kernels[] = {{{table}}};\n"
        f"const int gpunet::kernel_count = sizeof gpunet::kernels / sizeof *gpunet::kernels;\n"
    )
    runtime = _runtime(sanitizer)
    with _workshop(target) as folder:
        (folder / "kernel.cpp").write_text(source, encoding="utf-8")
        _gxx(
            f"kernel source {name}.cu",
            folder,
            *options,
            f"-I{HERE / 'include'}",
            "-fdata-sections",
            "-ffp-contract=off",
            "-Wno-unknown-pragmas",
            "-Werror=uninitialized",
            "-Werror=return-type",
            f"-Werror=frame-larger-than={64 * 1024}",  # stacks in scheduler.cpp have twice that
            "-c",
            "kernel.cpp",
            "-o",
            "kernel.o",
        )
        _gxx(
            "the link",
            folder,
            *mode.link,
            "kernel.o",
            str(runtime),
            "-T",
            str(RUNTIME / "shared.ld"),
            "-lm",
            "-o",
            "out",
        )
        os.replace(folder / "out", target)
    return target


def _runtime(sanitizer: str | None) -> Path:
    """The runtime as one object file."""
    target = cache_folder() / f"runtime-{_runtime_key(sanitizer)}.o"
    if not target.exists():
        sources = _runtime_sources(sanitizer)
        options = (*COMMON, *MODES[sanitizer].runtime, "-c")
        with _workshop(target) as folder:
            # As one text: the headers of the standard library take most of the time.
            includes = "".join(f'#include "{path}"\n' for path in sources if path.suffix == ".cpp")
            (folder / "runtime.cpp").write_text(includes, encoding="utf-8")
            assembly = [str(path) for path in sources if path.suffix == ".S"]
            _gxx("the emulator's runtime", folder, *options, "runtime.cpp", *assembly)
            _gxx("the emulator's runtime", folder, "-r", "-nostdlib", "runtime.o", "context.o", "-o", "out")
            os.replace(folder / "out", target)
    return target


def _runtime_sources(sanitizer: str | None) -> list[Path]:
    files = [*RUNTIME.glob("*.cpp"), *RUNTIME.glob("*.S")]
    return sorted(path for path in files if path.name not in MODES[sanitizer].left_out)


@functools.cache
def _runtime_key(sanitizer: str | None) -> str:
    texts = [path.read_text(encoding="utf-8") for path in sorted(RUNTIME.iterdir()) if path.is_file()]
    kernel_entry = (HERE / "include" / "kernel.h").read_text(encoding="utf-8")
    return _hash(str(sanitizer), repr(MODES[sanitizer]), *COMMON, kernel_entry, *texts, _compiler())


@functools.cache
def _headers() -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted((HERE / "include").glob("*.h")))


@functools.cache
def _compiler() -> str:
    return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout


@functools.cache
def _machine_options() -> tuple[str, ...]:
    """Instructions of this processor; -D of its features keeps the builds of different machines apart in the cache."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    features = next((line for line in lines if line.startswith(("flags", "Features"))), None)
    return () if features is None else ("-march=native", f"-DGPUNET_PROCESSOR=0x{_hash(features)[:8]}")


def _kernel_names(name: str, text: str, defines: Sequence[str]) -> list[str]:
    """The kernels that are left once the preprocessor has dealt with #if and macros."""
    command = ["g++", "-std=c++17", "-E", "-P", "-DGPUNET_EMULATOR=1", *defines, "-x", "c++", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"kernel source {name}.cu: {_shorten(done.stderr)}")
    kernels = re.findall(r"__global__\s+void\s+(\w+)\s*\(", _without_launch_bounds(done.stdout))
    if not kernels:
        raise BuildError(f'kernel source {name}.cu: expected at least one `extern "C" __global__ void ...`, found none')
    return kernels


def _without_launch_bounds(text: str) -> str:
    parts = re.split(r"__launch_bounds__\s*\(", text)
    for i, part in enumerate(parts[1:], start=1):
        depth, end = 1, 0
        while depth and end < len(part):
            depth += {"(": 1, ")": -1}.get(part[end], 0)
            end += 1
        parts[i] = part[end:]
    return "".join(parts)


def _gxx(what: str, folder: Path, *arguments: str) -> None:
    done = subprocess.run(["g++", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{what}: {_shorten(done.stderr)}")


def _shorten(messages: str, lines: int = 30) -> str:
    shown = messages.strip().splitlines()
    return "\n".join([*shown[:lines], "..."] if len(shown) > lines else shown)


@contextlib.contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target, so that the finished file can be moved there in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="building-") as folder:
        yield Path(folder)


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:24]
