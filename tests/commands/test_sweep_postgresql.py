"""A sweep in PostgreSQL: a real server, workers that are killed, and a database that goes away."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands.test_sweep import SMALL, SWEEPERS, assert_turns_are_kept, count_epochs
from conftest import command_environment
from gpunet import sweep, threads
from support import postgresql
from support.devices import refuse_or_skip

optuna = pytest.importorskip("optuna", reason="gpunet sweep needs Optuna; pip install '.[test]'")
if reason := postgresql.problem():
    refuse_or_skip("CI", reason, allow_module_level=True)


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    with postgresql.running() as server:
        yield server


@pytest.fixture(autouse=True)
def _here(small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_npz.parent)
    monkeypatch.setattr(threads, "_requested", 1)


def trials_of(server: postgresql.Server, study: str) -> list[Any]:
    storage = server.url.replace("postgresql:", "postgresql+psycopg:")
    trials: list[Any] = optuna.load_study(study_name=study, storage=storage).trials
    return trials


def test_of_forty_trials_none_is_lost_and_none_is_twice_though_a_worker_is_killed_five_times(
    server: postgresql.Server,
) -> None:
    values = [f"{0.001 * number:g}" for number in range(1, 21)]
    words = [*SMALL, "--learning-rate", *values, "--activation", "relu", "tanh", "--storage", server.url]
    words += ["--study", "killed", "--takeover", "1", "--quiet"]
    workers = subprocess.run(
        [sys.executable, SWEEPERS, "5", *words],
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert workers.stderr == ""
    statuses = [line for line in workers.stdout.splitlines() if line in ("0", "1")]
    assert statuses == ["0", "0"]
    results = [line for line in workers.stdout.splitlines() if line not in statuses]
    assert len(results) == 2
    assert len(set(results)) == 1
    assert results[0].startswith("test accuracy ")
    trials = trials_of(server, "killed")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 40
    assert len({str(trial.params) for trial in trials}) == 40


def test_workers_take_turns(server: postgresql.Server) -> None:
    assert_turns_are_kept(server.url)


def test_a_database_that_goes_away_is_waited_for(server: postgresql.Server, monkeypatch, capsys) -> None:
    def fail() -> None:
        server.stop()
        threading.Timer(0.3, server.start).start()

    epochs = count_epochs(monkeypatch, at=4, do=fail)
    assert sweep.main([*SMALL, "--batch-size", "5", "10", "25", "--storage", server.url, "--study", "waits"]) == 0
    assert epochs.epochs == 6
    assert capsys.readouterr().err == ""
    assert [trial.state.name for trial in trials_of(server, "waits")] == ["COMPLETE"] * 3


def test_a_database_that_stays_away_is_a_line_and_what_was_finished_is_kept(
    server: postgresql.Server, monkeypatch, capsys
) -> None:
    from gpunet.sweep import storage

    words = [*SMALL, "--batch-size", "5", "10", "25", "--storage", server.url, "--study", "stays", "--takeover", "0.5"]
    with monkeypatch.context() as patch:
        patch.setattr(storage, "PATIENCE", 0.3)
        epochs = count_epochs(patch, at=4, do=server.stop)
        assert sweep.main(words) == 1
    error = capsys.readouterr().err
    name = re.escape(server.url)
    assert re.fullmatch(rf"gpunet sweep: {name}: the database has been away for 0 s \(.*\); what was .*\n", error), (
        error
    )
    server.start()
    again = count_epochs(monkeypatch)
    assert sweep.main(words) == 0
    assert epochs.epochs + again.epochs == 6 + 2  # the training that was not at its end
    assert [trial.state.name for trial in trials_of(server, "stays")] == ["COMPLETE"] * 3


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://gpunet:secret@127.0.0.1:1/postgres", "gpunet:***@127.0.0.1:1/postgres: cannot be opened: conn"),
        ("postgresql://", "cannot be opened: "),
    ],
)
def test_a_server_that_cannot_be_reached_is_a_line(monkeypatch, capsys, url: str, message: str) -> None:
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGPORT", "1")
    assert sweep.main([*SMALL, "--batch-size", "5", "10", "--storage", url]) == 2
    captured = capsys.readouterr()
    assert (captured.out, len(captured.err.splitlines())) == ("", 1)
    assert message in captured.err
    assert "secret" not in captured.err


def test_without_the_driver_there_is_a_line(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert sweep.main([*SMALL, "--batch-size", "5", "10", "--storage", "postgresql://host/database"]) == 2
    assert re.search(r"psycopg cannot be loaded \(.*\); pip install 'gpunet\[postgresql\]'\n", capsys.readouterr().err)
