"""How many cores a computation on the CPU uses: as many as it was told, and no more than the process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from gpunet.errors import ArgumentError

VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")  # the first one that is set counts
# A container's share of the cores' time: quota and period, in one file (cgroups version 2) or in two (version 1).
CGROUP = Path("/sys/fs/cgroup")
QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))

_told: int | None = None  # by `limit`


def limit(threads: int) -> None:
    """From here on use so many cores, also in NumPy's linear algebra.

    Raises ArgumentError for more than the process may use: threads that wait for each other need a core each.
    """
    global _told
    if threads > usable_cores():
        raise ArgumentError(f"threads: expected at most the {usable_cores()} cores that may be used, got {threads}")
    _told = threads
    import threadpoolctl  # here, because nothing else needs it

    threadpoolctl.threadpool_limits(threads)


def count() -> int:
    """Threads for a computation: what `limit` was told, else what the environment says, else all usable cores.

    Raises ArgumentError for an environment variable that is not a whole number above 0.
    """
    if _told is not None:
        return _told
    for name in VARIABLES:
        if text := os.environ.get(name, "").split(",")[0].strip():  # OpenMP's may be a list, the outermost level first
            if not text.isdecimal() or int(text) < 1:
                raise ArgumentError(f"{name}: expected a whole number above 0, got {text!r}")
            return min(int(text), usable_cores())
    return usable_cores()


def usable_cores() -> int:
    """The cores that the process may use: by its affinity, and by its container's share of their time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in QUOTAS:
        try:
            quota, period = (int(number) for file in files for number in (CGROUP / file).read_text().split())
        except (OSError, ValueError):  # no such file, or no limit: "max"
            continue
        if quota > 0:  # -1 is no limit either
            cores = max(1, min(cores, math.ceil(quota / period)))
    return cores
