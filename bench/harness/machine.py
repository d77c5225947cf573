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
from gpunet.engines.choice import gpu_index
from gpunet.engines.cuda.diagnosis import Machine, diagnose
from gpunet.threads import usable_cores

ROOT = Path(__file__).parents[2]
LIBRARIES = (
    *("numpy", "numba", "cupy-cuda12x", "cupy-cuda13x", "torch", "triton", "jax", "jaxlib"),
    *("jax-cuda12-plugin", "jax-cuda12-pjrt", "jax-cuda13-plugin", "jax-cuda13-pjrt"),
    *("optax", "keras", "tensorflow", "tensorflow-cpu"),
)
GPU_SETTINGS = {  # by nvidia-smi's names
    "driver_version": "driver",
    "power.limit": "power limit",
    "clocks.max.sm": "highest SM clock",
    "clocks.max.mem": "highest memory clock",
    "clocks.sm": "SM clock at the start",
}


def describe(on_gpu: bool) -> dict[str, str]:
    """Names and versions, one line each. The first, `device`, names the result file."""
    facts = {"device": gpu_name() if on_gpu else f"{cpu_name()}, {usable_cores()} cores"}
    if on_gpu:
        facts["CPU"] = f"{cpu_name()}, {usable_cores()} cores"
        found = diagnose(Machine()).facts
        facts |= {name: found[name] for name in ("compute capability", "CUDA runtime", "NVRTC") if name in found}
        facts |= {"driver": found.get("driver", "unknown")} | gpu_settings()
    facts["system"] = f"{platform.system()} {platform.machine()}"
    facts["Python"] = platform.python_version()
    facts["gpunet"] = gpunet.__version__
    facts |= library_versions()
    if (load := load_average()) is not None:
        facts["load average before"] = f"{load:.2f}"
    facts["date"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    facts["revision"] = git_revision()
    return facts


def only_gpu(device: str) -> str:
    """Turn "cuda:1" into "cuda", by leaving only that GPU visible to this process and those that it starts.

    Call it before CUDA is used.
    """
    if not device.startswith("cuda:"):
        return device
    index, visible = gpu_index(device), os.environ.get("CUDA_VISIBLE_DEVICES")
    named = [str(index)] if visible is None else visible.split(",")[index : index + 1]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(named)
    return "cuda"


def file_name(facts: dict[str, str]) -> str:
    """The device's name as part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", facts["device"].lower()).strip("-")


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.*)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def gpu_name() -> str:
    return diagnose(Machine()).facts.get("GPU", "GPU")


def gpu_settings() -> dict[str, str]:
    """What nvidia-smi reports about the GPU's driver, power and clocks; empty if there is no nvidia-smi.

    nvidia-smi numbers GPUs differently from CUDA, and lists those that this process may not use.
    """
    try:
        from cupy_backends.cuda.api import runtime

        which = [f"--id={runtime.deviceGetPCIBusId(0)}"]
    except Exception:  # whatever a machine without CuPy or GPU raises
        which = []
    command = ["nvidia-smi", *which, f"--query-gpu={','.join(GPU_SETTINGS)}", "--format=csv,noheader"]
    try:
        lines = subprocess.check_output(command, text=True, timeout=30).splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    values = [value.strip() for value in lines[0].split(",")] if lines else []
    return {name: value for name, value in zip(GPU_SETTINGS.values(), values, strict=False) if value[:1].isdigit()}


def load_average() -> float | None:
    """How many processes ran or waited for a processor over the last minute; None if the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


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
