"""What a result was measured on: device, driver, versions, date, git revision."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

import gpunet
from gpunet.cuda.diagnosis import Machine, diagnose

ROOT = Path(__file__).parents[1]
LIBRARIES = ("numpy", "cupy-cuda12x", "cupy-cuda13x", "torch", "jax", "optax", "keras", "tensorflow", "tensorflow-cpu")


def describe(on_gpu: bool) -> dict[str, str]:
    """Names and versions, as one line each. The first, `device`, names the result file."""
    facts = {"device": gpu_name() if on_gpu else f"{cpu_name()}, {usable_cores()} cores"}
    if on_gpu:
        facts["CPU"] = f"{cpu_name()}, {usable_cores()} cores"
        found = diagnose(Machine()).facts
        facts |= {name: found[name] for name in ("compute capability", "CUDA runtime", "NVRTC") if name in found}
        facts["driver"] = driver_version() or found.get("driver", "unknown")
    facts["system"] = f"{platform.system()} {platform.machine()}"
    facts["Python"] = platform.python_version()
    facts["gpunet"] = gpunet.__version__
    facts |= library_versions()
    facts["date"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    facts["revision"] = git_revision()
    return facts


def file_name(facts: dict[str, str]) -> str:
    """The device's name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", facts["device"].lower()).strip("-")


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.*)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpu_name() -> str:
    return diagnose(Machine()).facts.get("GPU", "GPU")


def driver_version() -> str | None:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.check_output(command, text=True, timeout=30).splitlines()[0].strip()
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def library_versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_revision() -> str:
    """The revision of the checkout, with `+changes` if it has any; `unknown` outside of one."""
    try:
        revision = subprocess.check_output(
            ["git", "describe", "--always", "--dirty=+changes"], cwd=ROOT, text=True, stderr=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return revision.strip()
