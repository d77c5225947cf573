"""How many cores a computation on the CPU uses: the requested number, at most what the process may use."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpunet.errors import ArgumentError

VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")  # the first one that is set counts
PROCESS = Path("/proc/self")  # where Linux says which control groups a process is in, and where their files are

_requested: int | None = None  # by `limit`
_here = threading.local()  # most: see `at_most`


def limit(threads: int) -> None:
    """Use this many cores from now on, in NumPy's linear algebra as well.

    Raises ArgumentError for more than the process may use: threads that wait for each other need a core each.
    """
    global _requested
    if threads > usable_cores():
        raise ArgumentError(f"threads: expected at most the {usable_cores()} cores available, got {threads}")
    _requested = threads
    import threadpoolctl  # here, because nothing else needs it

    threadpoolctl.threadpool_limits(threads)


@contextlib.contextmanager
def at_most(threads: int) -> Iterator[None]:
    """Restrict this thread's computations to this many threads meanwhile: others compute at the same time."""
    before: int | None = getattr(_here, "most", None)
    _here.most = threads
    try:
        yield
    finally:
        _here.most = before


def count() -> int:
    """Threads for a computation: as set by `limit`, else by the environment, else all usable cores.

    No more than `at_most` allows. Raises ArgumentError for an environment variable that is not a whole number above 0.
    """
    most: int | None = getattr(_here, "most", None)
    return _count() if most is None else min(most, _count())


def _count() -> int:
    if _requested is not None:
        return _requested
    for name in VARIABLES:
        if text := os.environ.get(name, "").split(",")[0].strip():  # OpenMP's may be a list, the outermost level first
            if not text.isdecimal() or int(text) < 1:
                raise ArgumentError(f"{name}: expected a whole number above 0, got {text!r}")
            return min(int(text), usable_cores())
    return usable_cores()


class _User:
    """One computation that wants a single BLAS thread. It ends with its frame, even where Ctrl-C cuts the end short."""


_alone = threading.RLock()  # a user may end within it, when its frame is collected
_users: weakref.WeakSet[_User] = weakref.WeakSet()
_limited: Any = None  # the limit in force, which knows the numbers of threads of before


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Restrict NumPy's linear algebra to one thread meanwhile, in the whole process.

    With more, the order of its sums depends on their number, and they wait for one another in busy loops: next to
    another busy process that took up to sixty times as long as a single thread.
    """
    global _limited
    user = _User()
    try:
        with _alone:
            if not _users:
                _lift()
                _limited = _blas().limit(limits=1, user_api="blas")
            _users.add(user)
        yield
    finally:
        with _alone:
            _users.discard(user)
            if not _users:
                _lift()


def _lift() -> None:
    """Give back the threads that a limit has taken, if one is in force."""
    global _limited
    if _limited is not None:
        _limited.restore_original_limits()
        _limited = None


@functools.cache
def _blas() -> Any:
    import threadpoolctl

    return threadpoolctl.ThreadpoolController()


def usable_cores() -> int:
    """The cores that the process may use, by its affinity and by the quotas of its control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """The quotas, in cores, of the process' control group and of all its parents: each counts."""
    for folder, top in _control_groups(PROCESS):
        while True:
            if (quota := _quota(folder)) is not None:
                yield quota
            if folder in (top, folder.parent):
                break
            folder = folder.parent


def _quota(folder: Path) -> float | None:
    """A group's limit, from quota and period in one file (version 2) or two (version 1); None if it has none."""
    for files in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = (int(number) for file in files for number in (folder / file).read_text().split())
        except (OSError, ValueError):  # no such file, or no limit: "max"
            continue
        if quota > 0 and period > 0:  # -1 is no limit either
            return quota / period
    return None


@functools.cache  # asked before every epoch and prediction; the limits themselves may change
def _control_groups(process: Path) -> list[tuple[Path, Path]]:
    """The folder of each control group that may limit the process' time, and the topmost visible folder above it."""
    try:
        groups = [line.split(":", 2) for line in (process / "cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    except (OSError, UnicodeDecodeError):  # not Linux, or hidden
        return []
    found = []
    for group in groups:
        if len(group) != 3:
            continue
        _, controllers, path = group
        if controllers and "cpu" not in controllers.split(","):
            continue
        for fields in mounts:
            if "-" not in fields[:-3]:
                continue
            kind, _, options = fields[fields.index("-") + 1 :][:3]
            if kind == ("cgroup" if controllers else "cgroup2") and (not controllers or "cpu" in options.split(",")):
                top = Path(_unescaped(fields[4]))
                found.append((top / _below(path, _unescaped(fields[3])), top))
    return found


def _below(path: str, root: str) -> str:
    """A group's path relative to the mounted one; the mounted one itself if the group is not below it."""
    below = os.path.relpath(path, root)
    return "." if below.startswith("..") else below


def _unescaped(text: str) -> str:
    """Decode a path of mountinfo, which writes \\040 for a space."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
