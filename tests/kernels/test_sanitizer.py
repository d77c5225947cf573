"""NVIDIA's compute-sanitizer over the kernel tests, on a machine with a GPU that has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.devices import open_device

TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
KERNEL_TESTS = "matches_float64"
TIMEOUT_SECONDS = 150


@pytest.mark.gpu
@pytest.mark.parametrize("tool", TOOLS)
def test_compute_sanitizer_finds_nothing(tool: str) -> None:
    open_device("gpu")
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        pytest.skip("compute-sanitizer is not installed; it comes with the CUDA toolkit")
    tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-k", KERNEL_TESTS, "tests/kernels/test_kernels.py"]
    result = subprocess.run(
        [sanitizer, "--tool", tool, "--error-exitcode", "86", "--target-processes", "all", *tests],
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
