"""NVIDIA's compute-sanitizer over the kernel tests, on a machine with a GPU that has it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness import sanitizer
from support.devices import open_device

TIMEOUT_SECONDS = 150


@pytest.mark.gpu
@pytest.mark.parametrize("tool", sanitizer.TOOLS)
def test_compute_sanitizer_finds_nothing(tool: str) -> None:
    open_device("gpu")
    command = sanitizer.command(tool)
    if command is None:
        pytest.skip(sanitizer.NOT_INSTALLED)
    result = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "GPUNET_REQUIRE_GPU": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
    assert " passed" in result.stdout
    assert " skipped" not in result.stdout
