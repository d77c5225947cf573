"""How many cores a computation may use, as control groups limit them: files as Linux shows them, in a folder."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import numpy as np
import pytest
import threadpoolctl

from gpunet import threads
from gpunet.engines.reference import ReferenceEngine
from gpunet.optimizers import Adam
from support.engine_cases import SMALL, problem


class System:
    """A process' view of its control groups, with four cores."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.setattr(threads, "PROCESS", folder)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)

    def says(self, groups: str, *mounts: str) -> None:
        (self.folder / "cgroup").write_text(groups)
        (self.folder / "mountinfo").write_text("".join(f"{mount}\n" for mount in mounts))

    def has(self, path: str, content: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def version_2(self, root: str = "/", at: str = "groups") -> str:
        return f"38 31 0:41 {root} {self.folder}/{at} rw,relatime shared:9 - cgroup2 cgroup rw,nsdelegate"

    def version_1(self, root: str = "/") -> str:
        return f"32 31 0:29 {root} {self.folder}/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct"


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 4), ("150000 100000", 2), ("10000 100000", 1), ("odd", 4), ("900000 100000", 4)]
)
def test_the_process_own_group_limits_the_cores(system: System, quota, cores) -> None:
    system.says("0::/user/job\n", system.version_2())
    system.has("groups/user/job/cpu.max", f"{quota}\n")
    assert threads.usable_cores() == cores


def test_its_groups_are_found_once_and_their_limits_read_every_time(system: System) -> None:
    system.says("0::/job\n", system.version_2())
    for limit in (1, 3):
        system.has("groups/job/cpu.max", f"{limit}00000 100000\n")
        assert threads.usable_cores() == limit
        (system.folder / "mountinfo").unlink(missing_ok=True)


def test_every_enclosing_group_limits_them_too(system: System) -> None:
    system.says("0::/user/job/step\n", system.version_2())
    system.has("groups/user/job/step/cpu.max", "300000 100000\n")
    system.has("groups/user/job/cpu.max", "max 100000\n")
    system.has("groups/user/cpu.max", "200000 100000\n")
    assert threads.usable_cores() == 2


def test_a_container_that_sees_its_group_as_the_root_is_limited_by_it(system: System) -> None:
    system.says("0::/\n", system.version_2())
    system.has("groups/cpu.max", "100000 100000\n")
    assert threads.usable_cores() == 1


@pytest.mark.parametrize("path", ["/docker/abc/step", "/docker/abc", "/somewhere/else"])
def test_only_what_is_mounted_of_the_tree_can_be_read(system: System, path) -> None:
    system.says(f"0::{path}\n", system.version_2(root="/docker/abc"))
    system.has("groups/cpu.max", "100000 100000\n")
    system.has("groups/step/cpu.max", "max 100000\n")
    assert threads.usable_cores() == 1


@pytest.mark.parametrize(("quota", "cores"), [("-1", 4), ("150000", 2), ("odd", 4)])
def test_groups_of_version_1_count_too(system: System, quota, cores) -> None:
    system.says("8:pids:/\n3:cpu,cpuacct:/user/job\n2:cpuset:/other\n0::/\n", system.version_1(), system.version_2())
    system.has("cpu/user/job/cpu.cfs_quota_us", f"{quota}\n")
    system.has("cpu/user/job/cpu.cfs_period_us", "100000\n")
    assert threads.usable_cores() == cores


def test_a_mount_with_a_space_in_its_name_is_found(system: System) -> None:
    system.says("0::/job\n", system.version_2(at="control\\040groups"))
    system.has("control groups/job/cpu.max", "100000 100000\n")
    assert threads.usable_cores() == 1


def test_without_groups_the_affinity_counts(system: System) -> None:
    assert threads.usable_cores() == 4
    system.says("nonsense\n", "38 31", "")
    assert threads.usable_cores() == 4


def _blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """No computation of another test counts, not even one that still runs in a thread."""
    monkeypatch.setattr(threads, "_users", weakref.WeakSet())
    monkeypatch.setattr(threads, "_limited", None)
    threads._blas.cache_clear()  # libraries that other tests loaded since


@pytest.mark.usefixtures("nobody_else")
def test_the_reference_engine_computes_with_one_thread_and_gives_the_others_back() -> None:
    images, labels, weights = problem(SMALL, 4)
    engine, seen = ReferenceEngine(SMALL, Adam(), weights), []
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = _blas_threads()
        engine.train_epoch(
            images, labels, np.arange(4, dtype=np.int32), 2, lambda updates: seen.append(_blas_threads())
        )
        assert seen == [{1}, {1}]
        assert _blas_threads() == before


@pytest.mark.usefixtures("nobody_else")
def test_one_blas_thread_lasts_until_the_last_of_two_users_ends() -> None:
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = _blas_threads()
        first, second = threads.one_blas_thread(), threads.one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert _blas_threads() == {1}
        second.__exit__(None, None, None)
        assert _blas_threads() == before


class _InterruptedLock:
    """A lock after whose first release Ctrl-C arrives."""

    def __init__(self) -> None:
        self.released = 0

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        self.released += 1
        if self.released == 1:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("nobody_else")
def test_ctrl_c_at_the_start_of_a_computation_restores_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_alone", _InterruptedLock())
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = _blas_threads()
        with pytest.raises(KeyboardInterrupt), threads.one_blas_thread():
            pass
        assert _blas_threads() == before
        with threads.one_blas_thread():
            assert _blas_threads() == {1}
        assert _blas_threads() == before
