"""What a machine without a usable GPU is told: one line for each component that can be missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Command, command_environment
from gpunet import library_caches
from gpunet.engines.cuda.diagnosis import Diagnosis, Machine, diagnose
from gpunet.errors import DeviceError


class Complete:
    """A machine with nothing missing. See gpunet.engines.cuda.diagnosis.System."""

    index = 0

    def cupy_wheels(self):
        return ["cupy-cuda12x"]

    def import_cupy(self):
        return "14.2.0"

    def open_driver(self):
        pass

    def driver_version(self):
        return 12040

    def runtime_version(self):
        return 12090

    def device_count(self):
        return 1

    def device(self):
        return "NVIDIA GeForce RTX 3090", (8, 6), 82

    def nvrtc_version(self):
        return (12, 9)

    def nvrtc_architectures(self):
        return [50, 52, 75, 80, 86, 90, 120]

    def nvrtc_path(self):
        return "libnvrtc.so.12"

    def try_out(self):
        pass


def raises(error: Exception):
    def answer(self):
        raise error

    return answer


def answers(value):
    return lambda self: value


def diagnosis_of(**answers_by_name) -> Diagnosis:
    """The diagnosis of a complete machine with other answers to some questions."""
    return diagnose(type("Incomplete", (Complete,), answers_by_name)())


def test_a_complete_machine_has_no_problem() -> None:
    diagnosis = diagnosis_of()
    assert diagnosis.problem is None
    assert diagnosis.facts == {
        "CuPy": "14.2.0 (cupy-cuda12x)",
        "CUDA runtime": "12.9",
        "driver": "for CUDA up to 12.4",
        "GPU": "NVIDIA GeForce RTX 3090",
        "compute capability": "8.6",
        "multiprocessors": "82",
        "NVRTC": "12.9",
        "NVRTC library": "libnvrtc.so.12",
    }


FAULTS = {
    "no CuPy": ({"cupy_wheels": answers([])}, "CuPy is not installed; pip install cupy-cuda12x"),
    "two wheels": (
        {"cupy_wheels": answers(["cupy-cuda12x", "cupy-cuda13x"])},
        "cupy-cuda12x and cupy-cuda13x are installed side by side.*pip uninstall cupy-cuda12x cupy-cuda13x",
    ),
    "broken CuPy": ({"import_cupy": raises(ImportError("no core\nat all"))}, "CuPy cannot be imported .no core.; rein"),
    "unwritable home": (
        {"import_cupy": raises(PermissionError(13, "Permission denied", "/home/a/.cupy"))},
        r"CuPy cannot be imported .*'/home/a/.cupy'\); set CUPY_CACHE_DIR to a folder that can be written to$",
    ),
    "no driver": ({"open_driver": raises(OSError("libcuda.so.1: no"))}, "no NVIDIA driver .*install its driver"),
    "old driver": (
        {"driver_version": answers(11040)},
        r"driver is too old: it knows CUDA 11.4, but CuPy was built for CUDA 12.9; update the driver$",
    ),
    "driver without version": ({"driver_version": answers(0)}, "library is there, but no driver that works; reinst"),
    "ruled message": (
        {"import_cupy": raises(ImportError("=====\n\nFailed to import CuPy.\n"))},
        r"CuPy cannot be imported \(Failed to import CuPy\.\)",
    ),
    "no GPU, by an error": (
        {"device_count": raises(RuntimeError("cudaErrorNoDevice"))},
        "no usable NVIDIA GPU .cudaEr",
    ),
    "no GPU": ({"device_count": answers(0)}, "finds no NVIDIA GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES"),
    "no NVRTC": ({"nvrtc_version": raises(OSError("libnvrtc.so.12"))}, r"libnvrtc cannot be loaded .*\[nvrtc\]==12"),
    "too old a GPU": (
        {"device": answers(("GTX 780", (3, 5), 12))},
        r"GTX 780 \(compute capability 3.5\) is no longer supported by CUDA 12.9, which begins with 5.0",
    ),
    "too new a GPU": (
        {"device": answers(("RTX 9090", (15, 0), 12))},
        r"RTX 9090 \(compute capability 15.0\) is not yet supported by CUDA 12.9, which ends with 12.0; install",
    ),
    "another GPU than there are": ({"index": 1}, r"the driver finds 1 NVIDIA GPU, cuda:0; see nvidia-smi and CUDA_VIS"),
    "too new a compiler": (
        {"nvrtc_version": answers((13, 0)), "nvrtc_path": answers("libnvrtc.so.13")},
        r"CUDA 13.0 \(libnvrtc.so.13\), which is too new for the NVIDIA driver: it knows CUDA 12.4; update",
    ),
    "a GPU in use": (
        {"try_out": raises(DeviceError("the GPU cannot be opened (busy)"))},
        r"cannot be opened \(busy\)$",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_missing_component_is_named_with_its_remedy(fault: str) -> None:
    changed, message = FAULTS[fault]
    problem = diagnosis_of(**changed).problem
    assert problem is not None
    assert "\n" not in problem
    assert re.search(message, problem), problem


def test_components_after_a_missing_driver_are_still_reported() -> None:
    facts = diagnosis_of(open_driver=raises(OSError("no"))).facts
    assert facts["NVRTC"] == "12.9"
    assert "GPU" not in facts


def test_an_unforeseen_error_is_a_problem_and_not_a_crash() -> None:
    diagnosis = diagnosis_of(device=raises(ValueError("no properties")))
    assert diagnosis.problem == "the gpu cannot be examined (no properties)"


def test_the_machine_itself_can_be_diagnosed() -> None:
    diagnosis = diagnose(Machine())
    assert diagnosis.problem is None or "\n" not in diagnosis.problem


def test_doctor_runs_on_any_machine(command: Command) -> None:
    result = command("gpunet.doctor")
    assert (result.returncode, result.stderr) == (0, "")
    assert "gpunet" in result.stdout
    assert "784-500-500-10, batch size 1 " in result.stdout


@pytest.mark.slow
def test_an_unwritable_home_does_not_prevent_diagnosis(tmp_path: Path) -> None:
    """CuPy and matplotlib get temporary folders for the lifetime of the process."""
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.write_text("a file, so that not even root can make a folder in it")
    temporary.mkdir()
    pytest.importorskip("matplotlib", reason="its folder is asked for; pip install '.[test]'")
    code = (
        "import os; from gpunet import plots; from gpunet.engines.cuda.diagnosis import Machine;"
        "plots.write(plots.curves([1], {'loss': [1.0], 'accuracy': [1.0]}), 'a.png');"
        "print(Machine().import_cupy() if Machine().cupy_wheels() else '');"
        f"print(os.listdir({str(temporary)!r}), os.environ['MPLCONFIGDIR'])"
    )
    environment = {**command_environment(), "HOME": str(home), "TMPDIR": str(temporary)}
    for name in ("CUPY_CACHE_DIR", "MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "Matplotlib created" not in result.stderr
    assert "mkdir" not in result.stderr
    assert str(temporary) in result.stdout
    assert not any(temporary.iterdir())


def test_a_writable_home_and_a_set_variable_are_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPUNET_TEST_FOLDER", raising=False)
    library_caches.ensure("GPUNET_TEST_FOLDER", str(tmp_path / "a" / "b"))
    assert "GPUNET_TEST_FOLDER" not in os.environ
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPUNET_TEST_FOLDER", "mine")
    library_caches.ensure("GPUNET_TEST_FOLDER", str(tmp_path / "file"))
    assert os.environ["GPUNET_TEST_FOLDER"] == "mine"
