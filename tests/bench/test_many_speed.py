"""bench/many.py: all contestants train the same networks, and what it reports is what was measured."""

from __future__ import annotations

import dataclasses
import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import many
import many_gpunet
import many_peer
from harness import many_runs, many_table
from harness.many_runs import CASES, OURS, PEERS, ManyRunner
from harness.processes import Peer

CASE = "small-32-16"


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> ManyRunner:
    return ManyRunner(tmp_path_factory.mktemp("many"), [CASE])


@pytest.fixture
def job(runner: ManyRunner) -> many_peer.Job:
    return many_peer.read_job(np.load(runner._folder / "networks.npz"), CASE)


def trainer_of(name: str, job: many_peer.Job) -> many_peer.Trainer:
    if name in ("many", "alone"):
        return many_gpunet.GpunetTrainer(job, name == "many")
    package, trainer = {"many_jax": ("jax", "VmapTrainer"), "many_torch": ("torch", "EnsembleTrainer")}[name]
    pytest.importorskip(package, reason=f"compares with another framework; pip install '.[bench]', here {package}")
    if package == "jax":
        pytest.importorskip("optax", reason="JAX' optimizers; pip install '.[bench]'")
    return getattr(importlib.import_module(name), trainer)(job)


@pytest.mark.parametrize("name", ["many", "alone", "many_jax", "many_torch"])
def test_every_network_reaches_its_loss(runner: ManyRunner, job: many_peer.Job, name: str) -> None:
    report = {"name": name, "case": CASE, "check_updates": 20, "check_losses": trainer_of(name, job).train(20)}
    assert runner._checked(report) is report
    assert len(set(report["check_losses"])) == 16  # each has its own start and rate


def test_training_goes_on_from_call_to_call(job: many_peer.Job) -> None:
    trainer = trainer_of("many", job)
    assert max(trainer.train(200)) > max(trainer.train(200))


@pytest.mark.parametrize("change", ["rates", "weights", "labels"])
def test_a_peer_that_does_different_work_is_noticed(runner: ManyRunner, job: many_peer.Job, change: str) -> None:
    """In one network of sixteen, for everything that differs between networks."""
    values: Any = [array.copy() for array in job.weights] if change == "weights" else getattr(job, change).copy()
    (values[0] if change == "weights" else values)[3] *= 0
    other = dataclasses.replace(job, **{change: values if change != "labels" else (job.labels + 1) % 5})
    report = {"name": "x", "case": CASE, "check_updates": 20, "check_losses": trainer_of("alone", other).train(20)}
    outcome = runner._checked(report)
    number = 0 if change == "labels" else 3
    loss = report["check_losses"][number]
    assert outcome["unavailable"].startswith(f"does other work: loss {loss:.6f} of network {number} after 20 updates")


def test_nan_counts_as_different_work(runner: ManyRunner) -> None:
    report = {"name": "x", "case": CASE, "check_updates": 1, "check_losses": [float("nan")] * 16}
    assert "other work" in runner._checked(report)["unavailable"]


def test_learning_rates_differ_and_match_those_of_the_check() -> None:
    data = {"small_arrays": 0, "small_images": np.zeros((1, 20)), "small_labels": np.zeros(1)}
    assert len(set(many_peer.read_job(data, "small-32-256").rates)) == 256
    assert many_peer.read_job(data, "small-32-1").rates == np.float32(1e-3)


def test_scikit_learns_processes_train(job: many_peer.Job) -> None:
    pytest.importorskip("sklearn", reason="compares with scikit-learn; pip install scikit-learn")
    import many_sklearn

    few = dataclasses.replace(job, rates=job.rates[:2])
    losses = many_sklearn.ProcessesTrainer(few).train(20)
    assert len(losses) == 2
    assert all(0 < loss < 10 for loss in losses)


def test_a_process_reports_times_and_what_is_missing(runner: ManyRunner) -> None:
    (report,) = runner.run(OURS[0], [CASE], 200)
    assert (report["name"], report["networks"], report["case"]) == ("gpunet fit_many", 16, CASE)
    us = many_runs.us_a_network_update(report)
    assert us == pytest.approx(1e6 * np.median(report["seconds"]) / (16 * report["updates"] * report["calls"]))
    (missing,) = runner.run(Peer("no_such_script"), [CASE], 30)
    assert missing["case"] == CASE
    assert "unavailable" in missing


def fake_run(us: dict[str, float]) -> Any:
    """Each contestant takes the given us; one that is not in the dictionary cannot run."""

    def run(peer: Peer, cases: Sequence[str], seconds: float) -> list[dict[str, Any]]:
        names = {"many": many_table.OURS, "alone": many_table.ALONE}
        name = names.get(peer.label, peer.label)
        outcomes = []
        for case in cases:
            networks = int(case.split("-")[2])
            report = {"name": name, "case": case, "networks": networks, "updates": 10, "calls": 1, "versions": {}}
            report |= {"check_updates": 10, "first_run_seconds": 1.0, "check_losses": [1.0] * networks}
            report["seconds"] = [10 * networks * us.get(name, 0) / 1e6] * 3
            outcomes.append(report if name in us else {"name": name, "case": case, "unavailable": "not installed (x)"})
        return outcomes

    return run


def test_a_run_says_who_is_how_many_times_faster_and_writes_whole_files(tmp_path: Path, capsys, monkeypatch) -> None:
    us = {many_table.OURS: 10.0, many_table.ALONE: 12.0, "many_jax": 35.0, "many_torch": 50.0}
    monkeypatch.setattr(many, "ManyRunner", lambda folder, cases: type("", (), {"run": staticmethod(fake_run(us))}))
    assert many.main(["--out", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*-many.json")
    result = json.loads(file.read_text())
    assert result["passes"] == many.MOST_PASSES
    assert [len(record["us"]) for record in result["records"]] == [many.MOST_PASSES] * 4 * len(CASES)
    markdown = file.with_suffix(".md").read_text()
    assert "| 784-500-500-10, batch 10, 16 networks | 3.50 (many_jax; aim 3) | 1.20 (aim 1.15) |" in markdown
    assert "| 784-500-500-10, batch 100, 1 network | 3.50 (many_jax; aim 3) | 1.20 |" in markdown
    assert "10.0 (10.0 to 10.0)" in markdown
    assert "many_sklearn, 20-64-64-5, batch 32, 256 networks: not installed (x)." in markdown
    assert len(result["unavailable"]) == len(CASES)  # once, not in every pass
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".md"]
    assert markdown.split("\n\n", 1)[1] in capsys.readouterr().out


def test_passes_end_with_the_time_and_the_first_is_made_in_any_case() -> None:
    seconds = iter(np.arange(100, -1000, -20.0).tolist())
    result: dict[str, Any] = {"passes": 0, "records": [], "unavailable": []}
    list(many.measure(fake_run({}), OURS, [CASE], result, lambda: next(seconds)))
    assert result["passes"] == 1
    result["passes"] = 0
    list(many.measure(fake_run({}), OURS, [CASE], result, lambda: -5.0))
    assert result["passes"] == 1


def test_the_short_run_has_fewer_cases_a_total_time_and_files_of_its_own(tmp_path: Path, monkeypatch) -> None:
    seen: list[Sequence[str]] = []

    def make(folder: Path, cases: Sequence[str]) -> Any:
        seen.append(cases)
        return type("", (), {"run": staticmethod(fake_run({many_table.OURS: 1.0}))})

    monkeypatch.setattr(many, "ManyRunner", make)
    assert many.main(["--short", "--peers", "none", "--out", str(tmp_path)]) == 0
    assert seen == [many.SHORT_CASES]
    assert set(many.SHORT_CASES) <= set(CASES)
    assert len(list(tmp_path.glob("*-many-short.json"))) == 1
    assert many.SHORT_SECONDS < many.SECONDS


BAD = {
    "peers": (["--peers", "keras"], f"argument --peers: expected names of {', '.join(PEERS)}; got 'keras'"),
    "cases": (["--cases", "lecture-1-1"], "argument --cases: expected names of lecture-10-1"),
    "seconds": (["--seconds", "0"], "argument --seconds: expected a number of seconds above 0, got 0"),
    "out": (["--out", "/no/such/folder"], "--out: /no/such/folder: not a folder that can be written to"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_options_are_one_line_and_status_2(fault: str, capsys) -> None:
    options, message = BAD[fault]
    try:
        status = many.main(options)
    except SystemExit as end:  # argparse's own
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
