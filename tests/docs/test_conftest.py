"""What conftest promises to all tests."""

from __future__ import annotations

import pytest

from conftest import Command, command_environment, hidden
from gpunet.engines import choice
from gpunet.errors import DeviceError


def test_tests_that_are_not_marked_gpu_do_not_find_one(request: pytest.FixtureRequest, monkeypatch) -> None:
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
