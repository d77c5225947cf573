"""The measurement next to a busy process: the load is real, and ends; passes take turns; what is written."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import loaded
import update_docs
from gpunet import engines
from harness import loaded_table, loads, processes
from harness.loads import LOADS, QUIET, Load
from support.devices import refuse_or_skip

if reason := engines.numba_problem():
    refuse_or_skip("CI", reason, allow_module_level=True)

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on."""
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()


@linux
@pytest.mark.parametrize("load", LOADS[1:], ids=lambda load: load.label)
def test_a_load_is_busy_at_its_niceness_and_gone_afterwards(load: Load, monkeypatch) -> None:
    started: list[int] = []
    popen = loads.subprocess.Popen

    def noted(*arguments: Any, **options: Any) -> Any:
        process = popen(*arguments, **options)
        started.append(process.pid)
        return process

    monkeypatch.setattr(loads.subprocess, "Popen", noted)
    with loads.making(load):
        (process,) = started
        usable = os.sched_getaffinity(0)
        assert os.sched_getaffinity(process) == ({max(usable)} if load.held else usable)
        until = time.monotonic() + 30
        while int(_stat(process)[11]) < 2:  # hundredths of a second of computing
            assert time.monotonic() < until
        assert int(_stat(process)[16]) == os.nice(0) + load.nice
    assert not Path(f"/proc/{process}").exists()


def test_a_quiet_machine_is_left_alone(monkeypatch) -> None:
    monkeypatch.setattr(loads.subprocess, "Popen", None)
    with loads.making(QUIET):
        pass


def test_a_load_ends_after_an_error_too(monkeypatch) -> None:
    ended: list[Any] = []
    popen = loads.subprocess.Popen
    monkeypatch.setattr(loads.subprocess, "Popen", lambda *a, **o: ended.append(popen(*a, **o)) or ended[-1])
    with pytest.raises(ZeroDivisionError), loads.making(Load(5)):
        raise ZeroDivisionError
    assert ended[0].returncode is not None


def test_trainings_run_at_once_and_say_how_long_they_took() -> None:
    with contextlib.ExitStack() as stack:
        two = [stack.enter_context(loads.training([4], 10, threads)) for threads in (0, 1)]
        seconds = loads.together(two, 30)
        assert 0 < seconds < 60
        two[0].start(10)
        assert 0 < two[0].wait() < 60


def _fake_run(self: processes.Runner, peer: processes.Peer, batch_sizes, seconds: float) -> list[dict[str, Any]]:
    CALLS.append((peer.label, os.environ.get(loaded.ONE_THREAD)))
    if peer.script == "jax_scan":
        return [{"name": "jax", "unavailable": "not installed (jax)"}]
    return [{"batch_size": size, "updates": 10, "calls": 1, "seconds": [0.001, 0.003, 0.002]} for size in batch_sizes]


class _FakeTraining:
    def start(self, updates: int) -> None:
        self.updates = updates

    def wait(self) -> float:
        return 1e-3 * self.updates


@contextlib.contextmanager
def _fake_training(hidden: list[int], batch_size: int, number: int) -> Iterator[_FakeTraining]:
    yield _FakeTraining()


CALLS: list[tuple[str, str | None]] = []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.delenv(loaded.ONE_THREAD, raising=False)
    monkeypatch.setattr(processes.Runner, "run", _fake_run)
    monkeypatch.setattr(loaded, "training", _fake_training)
    monkeypatch.setattr(loaded, "_updates_for", lambda wanted, timed: 20)
    monkeypatch.setattr(loaded, "LOADS", (QUIET, Load(5)))
    monkeypatch.setattr(loaded, "MOST_PASSES", 2)


@pytest.mark.usefixtures("quick")
def test_a_run_makes_passes_in_turn_and_writes_whole_files(tmp_path: Path, capsys) -> None:
    options = ["--batch-sizes", "10,100", "--peers", "jax", "--seconds", "900", "--out", str(tmp_path)]
    assert loaded.main(options) == 0
    assert CALLS == 4 * [("compiled", None), ("compiled", "1"), ("jax_scan", None)]  # twice quiet, twice loaded
    (file,) = tmp_path.glob("*-loaded.json")
    result = json.loads(file.read_text())
    assert {record["load"] for record in result["batches"]} == {"quiet", "nice 5, on any core"}
    assert all(record["us"] == pytest.approx([200, 200]) for record in result["batches"])
    assert [record["us"] for record in result["small"]] == 4 * [pytest.approx([1000, 1000])]
    assert [len(record["seconds"]) for record in result["four"]] == [2, 2]
    assert result["unavailable"] == [{"name": "jax_scan", "unavailable": "not installed (jax)"}]
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, file.with_suffix(".md").name]
    shown = capsys.readouterr().out
    assert "| quiet | 10 | 200 (200 to 200) | 200 (200 to 200) |" in shown
    assert "jax_scan: not installed (jax)." in shown
    for part in ("loaded", "loaded-small", "loaded-four"):
        assert "|" in update_docs.PARTS[part](result)


def test_updates_are_planned_from_a_sufficiently_long_time() -> None:
    tried: list[int] = []

    def timed(updates: int) -> float:
        tried.append(updates)
        return updates / 1000

    assert loaded._updates_for(1.0, timed) == 1000
    assert tried == [20, 80, 320]


@pytest.mark.usefixtures("quick")
def test_without_time_for_another_pass_there_is_one(tmp_path: Path) -> None:
    assert loaded.main(["--batch-sizes", "10", "--seconds", "1e-6", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*-loaded.json")
    assert [len(record["us"]) for record in json.loads(file.read_text())["batches"]] == [1, 1, 1, 1]


def test_a_table_has_a_row_per_load_and_a_column_per_name() -> None:
    records = [
        {"load": load, "name": name, "batch_size": 10, "us": [3.0, 1.0, 2.5]}
        for load in ("a", "b")
        for name in ("x", "y")
    ]
    table = loaded_table.batches({"batches": records}).splitlines()
    assert table[0] == "| beside | batch size | x, us | y, us |"
    assert table[2:] == [f"| {load} | 10 | 2.50 (1.00 to 3.00) | 2.50 (1.00 to 3.00) |" for load in ("a", "b")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-sizes", "3"], "expected divisors of 50000, got 3"),
        (["--seconds", "0"], "expected a number of seconds above 0, got 0"),
        (["--peers", "caffe"], "got 'caffe'"),
        (["--out", "/no/such/folder"], "--out: /no/such/folder: not a folder that can be written to"),
    ],
)
def test_bad_options_are_one_line_and_status_2(options: list[str], message: str, capsys) -> None:
    try:
        status = loaded.main(options)
    except SystemExit as end:  # argparse's own
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
