"""Whether CUDA can be used on this machine; if not, one line about what is missing and what to do."""

from __future__ import annotations

import ctypes
import functools
import importlib.metadata
import importlib.util
import re
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gpunet import library_caches
from gpunet.engines.cuda import nvrtc
from gpunet.engines.cuda.device import open_gpu
from gpunet.errors import DeviceError, first_line

DRIVER_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


class System(Protocol):
    """The questions of a diagnosis. Every answer may raise; the machine's own answers are in `Machine`.

    index: which of the GPUs that are visible to CUDA.
    """

    index: int

    def cupy_wheels(self) -> list[str]:
        """Installed distributions that contain a `cupy` package."""

    def import_cupy(self) -> str:
        """CuPy's version."""

    def open_driver(self) -> None:
        """Raises OSError if there is no driver library."""

    def driver_version(self) -> int:
        """The newest CUDA that the driver supports, such as 12090; needs no working GPU."""

    def runtime_version(self) -> int:
        """The CUDA that CuPy was built for, such as 12090."""

    def device_count(self) -> int: ...

    def device(self) -> tuple[str, tuple[int, int], int]:
        """(name, compute capability, multiprocessors) of the GPU."""

    def nvrtc_version(self) -> tuple[int, int]: ...

    def nvrtc_architectures(self) -> list[int]:
        """The architectures that NVRTC compiles for, such as [50, 52, ..., 121]."""

    def nvrtc_path(self) -> str: ...

    def try_out(self) -> None:
        """Open the GPU; compile, launch and read back a kernel. Raises DeviceError if that does not work."""


@dataclass
class Diagnosis:
    """facts: what was found, by name, as far as it could be; problem: why CUDA cannot be used, or None if it can."""

    facts: dict[str, str] = field(default_factory=dict)
    problem: str | None = None


class _UnusableError(Exception):
    """Ends a diagnosis; the message is the problem."""


def cuda_problem(index: int = 0) -> str | None:
    """Why a GPU cannot be used here and now, in one line; None if it can."""
    return cuda_diagnosis(index).problem or open_gpu(index).lost


@functools.cache
def cuda_diagnosis(index: int = 0) -> Diagnosis:
    """The diagnosis of a GPU of this machine, made once per process. Opens the GPU if it can be used."""
    return diagnose(Machine(index))


def diagnose(system: System) -> Diagnosis:
    """Check one component after another. The problem is the first one found; the facts are all that were available."""
    diagnosis = Diagnosis()
    passed: set[str] = set()
    for name, check, needed in (
        ("cupy", _check_cupy, set()),
        ("driver", _check_driver, {"cupy"}),
        ("gpu", _check_gpu, {"driver"}),
        ("compiler", _check_compiler, {"cupy"}),
        ("support", _check_support, {"gpu", "compiler"}),
        ("gpu's use", _check_use, {"support"}),
    ):
        if needed <= passed:
            try:
                check(system, diagnosis.facts)
                passed.add(name)
            except _UnusableError as problem:
                diagnosis.problem = diagnosis.problem or str(problem)
            except Exception as error:  # an unforeseen answer must not end a program that can use the CPU
                diagnosis.problem = diagnosis.problem or f"the {name} cannot be examined ({first_line(error)})"
    return diagnosis


def _check_cupy(system: System, facts: dict[str, str]) -> None:
    wheels = system.cupy_wheels()
    if not wheels:
        raise _UnusableError("CuPy is not installed; pip install cupy-cuda12x")
    facts["CuPy"] = ", ".join(wheels)
    if len(wheels) > 1:
        raise _UnusableError(
            f"{' and '.join(wheels)} are installed side by side and overwrite each other's files; "
            f"pip uninstall {' '.join(wheels)}, then install one of them"
        )
    try:
        facts["CuPy"] = f"{system.import_cupy()} ({wheels[0]})"
    except Exception as error:  # whatever a broken installation raises
        in_the_way = isinstance(error, OSError) and error.filename  # CuPy creates its cache folder when it is imported
        remedy = "set CUPY_CACHE_DIR to a folder that can be written to" if in_the_way else f"reinstall {wheels[0]}"
        raise _UnusableError(f"CuPy cannot be imported ({first_line(error)}); {remedy}") from error
    facts["CUDA runtime"] = _cuda_version(system.runtime_version())


def _check_driver(system: System, facts: dict[str, str]) -> None:
    try:
        system.open_driver()
    except OSError as error:
        raise _UnusableError(
            f"no NVIDIA driver ({first_line(error)}); with an NVIDIA GPU, install its driver"
        ) from error
    driver, runtime = system.driver_version(), system.runtime_version()
    if driver == 0:
        raise _UnusableError("an NVIDIA driver library is there, but no driver that works; reinstall the driver")
    facts["driver"] = f"for CUDA up to {_cuda_version(driver)}"
    if driver // 1000 < runtime // 1000:
        raise _UnusableError(
            f"the NVIDIA driver is too old: it knows CUDA {_cuda_version(driver)}, but CuPy was built for CUDA "
            f"{_cuda_version(runtime)}; update the driver"
        )


def _check_gpu(system: System, facts: dict[str, str]) -> None:
    try:
        count = system.device_count()
    except Exception as error:  # CuPy's CUDARuntimeError: cudaErrorNoDevice and the like
        raise _UnusableError(
            f"the driver reports no usable NVIDIA GPU ({first_line(error)}); see nvidia-smi and CUDA_VISIBLE_DEVICES"
        ) from error
    if count == 0:
        raise _UnusableError("the driver finds no NVIDIA GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES")
    if system.index >= count:
        there = "1 NVIDIA GPU, cuda:0" if count == 1 else f"{count} NVIDIA GPUs, cuda:0 to cuda:{count - 1}"
        raise _UnusableError(f"the driver finds {there}; see nvidia-smi and CUDA_VISIBLE_DEVICES")
    name, (major, minor), multiprocessors = system.device()
    facts["GPU"] = name
    facts["compute capability"] = f"{major}.{minor}"
    facts["multiprocessors"] = str(multiprocessors)


def _check_compiler(system: System, facts: dict[str, str]) -> None:
    try:
        version = ".".join(map(str, system.nvrtc_version()))
    except Exception as error:  # an ImportError, OSError or RuntimeError, depending on how the library is missing
        facts["NVRTC"] = "not found"
        raise _UnusableError(
            f"CUDA's compiler library libnvrtc cannot be loaded ({first_line(error)}); "
            "pip install 'cuda-toolkit[nvrtc]==12.*' (13.* for CUDA 13)"
        ) from error
    facts["NVRTC"] = version
    facts["NVRTC library"] = system.nvrtc_path()


def _check_support(system: System, facts: dict[str, str]) -> None:
    """CuPy compiles for exactly this GPU. So NVRTC must support the GPU, and the driver NVRTC's output.

    A newer minor version than the driver's is fine (CUDA Compatibility, "Minor Version Compatibility").
    """
    name, (major, minor), _ = system.device()
    architecture, supported = 10 * major + minor, system.nvrtc_architectures()
    compiler = f"{name} (compute capability {major}.{minor}) is {{}} supported by CUDA {facts['NVRTC']}"
    if architecture < min(supported):
        raise _UnusableError(
            f"{compiler.format('no longer')}, which begins with {min(supported) / 10:.1f}; "
            "install an older CUDA, such as cupy-cuda12x with 'cuda-toolkit[nvrtc,cudart]==12.*'"
        )
    if architecture not in supported:
        raise _UnusableError(
            f"{compiler.format('not yet')}, which ends with {max(supported) / 10:.1f}; "
            "install a newer CUDA: pip install --upgrade cuda-toolkit[nvrtc,cudart] and the CuPy wheel for it"
        )
    driver, newest = system.driver_version(), system.nvrtc_version()[0]
    if newest > driver // 1000:
        raise _UnusableError(
            f"CUDA's compiler is of CUDA {facts['NVRTC']} ({system.nvrtc_path()}), which is too new for the NVIDIA "
            f"driver: it knows CUDA {_cuda_version(driver)}; update the driver, or pip install "
            f"'cuda-toolkit[nvrtc,cudart]=={driver // 1000}.*' and use gpunet before PyTorch"
        )


def _check_use(system: System, facts: dict[str, str]) -> None:
    """What only a trial shows: whether other programs leave enough memory, and whether all parts work together."""
    try:
        system.try_out()
    except DeviceError as error:
        raise _UnusableError(str(error)) from error


class Machine:
    """The answers of this machine. See System."""

    def __init__(self, index: int = 0) -> None:
        self.index = index

    def cupy_wheels(self) -> list[str]:
        names = {
            re.sub(r"[-_.]+", "-", str(distribution.metadata["Name"])).lower()
            for distribution in importlib.metadata.distributions()
            if distribution.metadata["Name"]
        }
        wheels = sorted(name for name in names if name == "cupy" or name.startswith(("cupy-cuda", "cupy-rocm")))
        if not wheels and importlib.util.find_spec("cupy"):
            return ["cupy"]  # on the path without being installed as a distribution
        return wheels

    def import_cupy(self) -> str:
        library_caches.ensure("CUPY_CACHE_DIR", "~/.cupy/kernel_cache")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the diagnosis reports in one line what CuPy warns about
            import cupy

        return str(cupy.__version__)

    def open_driver(self) -> None:
        ctypes.CDLL(DRIVER_LIBRARY)

    def driver_version(self) -> int:
        return int(_runtime().driverGetVersion())

    def runtime_version(self) -> int:
        return int(_runtime().runtimeGetVersion())

    def device_count(self) -> int:
        return int(_runtime().getDeviceCount())

    def device(self) -> tuple[str, tuple[int, int], int]:
        properties = _runtime().getDeviceProperties(self.index)
        capability = (properties["major"], properties["minor"])
        return properties["name"].decode(), capability, properties["multiProcessorCount"]

    def nvrtc_version(self) -> tuple[int, int]:
        version: tuple[int, int] = nvrtc.load().getVersion()
        return version

    def nvrtc_architectures(self) -> list[int]:
        return sorted(nvrtc.load().getSupportedArchs())

    def nvrtc_path(self) -> str:
        """The library that is loaded, as the operating system reports it."""
        maps = Path("/proc/self/maps")
        if maps.exists():
            for line in maps.read_text().splitlines():
                path = line.split(maxsplit=5)[-1]
                if "libnvrtc.so" in path:
                    return path
        return "loaded"

    def try_out(self) -> None:
        open_gpu(self.index).try_out()


def _runtime() -> Any:
    from cupy_backends.cuda.api import runtime

    return runtime


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
