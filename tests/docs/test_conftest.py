"""What conftest promises to all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gpunet
from conftest import Command, command_environment, first_on_the_path, hidden
from gpunet.engines import choice
from gpunet.errors import DeviceError


def test_tests_without_the_gpu_mark_do_not_find_a_gpu(request: pytest.FixtureRequest, monkeypatch) -> None:
    assert hidden(lambda index=0: None)() == "the GPU is left to the tests marked gpu"
    assert hidden(lambda index=0: f"no GPU {index}")(1) == "no GPU 1"
    with pytest.raises(DeviceError):
        choice.check_device("cuda", "auto")
    assert command_environment()["CUDA_VISIBLE_DEVICES"] == ""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert command_environment(on_gpu=True)["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_command_of_such_a_test_computes_on_the_cpu(command: Command) -> None:
    result = command("gpunet.doctor")
    assert "engine persistent" not in result.stdout
    assert "engine tiled" not in result.stdout


def test_no_two_test_files_have_the_same_name() -> None:
    """pytest would refuse to collect the second: it imports them as modules without a package."""
    names = [path.name for path in Path(__file__).parents[1].glob("*/test_*.py")]
    assert len(names) > 40
    assert [name for name in sorted(set(names)) if names.count(name) > 1] == []


def test_a_process_finds_the_package_under_test_from_any_folder(tmp_path: Path) -> None:
    """However it is started, even if gpunet is neither installed nor on the path that pytest was started with."""
    found = subprocess.check_output(
        [sys.executable, "-c", "import gpunet; print(gpunet.__file__)"], cwd=tmp_path, text=True
    )
    assert found.strip() == gpunet.__file__
    assert first_on_the_path("a", os.pathsep.join(["b", "a", ""])) == os.pathsep.join(["a", "b"])


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX's pause")
def test_a_test_that_hangs_in_compiled_code_is_named_and_ended(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    assert 0 < float(pytestconfig.getini("faulthandler_timeout")) < 3600
    assert pytestconfig.getini("faulthandler_exit_on_timeout") is True
    # pause() holds Python's lock here, as no compiled code should.
    hangs = "import ctypes\n\ndef test_that_hangs() -> None:\n    ctypes.PyDLL(None).pause()\n"
    (tmp_path / "test_it.py").write_text(hangs)
    options = ["-o", "faulthandler_timeout=0.5", "-p", "no:cacheprovider", "-c", pytestconfig.inipath]
    arguments = [sys.executable, "-m", "pytest", *map(str, options), f"--rootdir={tmp_path}", "test_it.py"]
    run = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert run.returncode == 1
    assert "Timeout" in run.stderr
    assert "in test_that_hangs" in run.stderr
