"""The commands that run compute-sanitizer over the kernel tests."""

from __future__ import annotations

import shutil
import sys

TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")
ERROR_STATUS = 86
KERNEL_TESTS = "matches_float64"
NOT_INSTALLED = "compute-sanitizer is not installed; it comes with the CUDA toolkit"


def command(tool: str) -> list[str] | None:
    """To be run from the root of the checkout; None if compute-sanitizer is not installed."""
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        return None
    tests = ["-m", "pytest", "-q", "-m", "gpu", "-k", KERNEL_TESTS, "-p", "no:cacheprovider"]
    options = ["--tool", tool, "--error-exitcode", str(ERROR_STATUS), "--target-processes", "all"]
    return [sanitizer, *options, sys.executable, *tests, "tests/kernels/test_kernels.py"]
