"""The benchmark's own code: that it measures what it says, writes what it should, and that the documents follow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import command_environment
from devices import open_device

from gpunet.cuda.diagnosis import cuda_problem
from gpunet.errors import ArgumentError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "bench"))

import batch_speed  # noqa: E402
import gpu_report  # noqa: E402
import kernel_times  # noqa: E402
import measure  # noqa: E402
import readme  # noqa: E402
import run_peers  # noqa: E402
import tables  # noqa: E402
import workload  # noqa: E402


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of the time, and of the patience."""
    monkeypatch.setattr(measure, "SECONDS_A_REPEAT", 0.01)
    monkeypatch.setattr(measure, "REPEATS", 2)
    monkeypatch.setattr(measure, "CHECK_UPDATES", 3)
    monkeypatch.setattr(measure, "LAST_UPDATES", 5)
    monkeypatch.setattr(batch_speed, "_affordable_updates", lambda name, work: 20)
    monkeypatch.setattr(batch_speed, "ACCURACY_BATCH_SIZES", (25_000, 50_000))
    monkeypatch.setattr(batch_speed, "ACCURACY_EPOCHS", 1)


@pytest.mark.usefixtures("quick")
def test_a_run_measures_every_part_and_writes_whole_files(tmp_path: Path, capsys) -> None:
    assert batch_speed.main(["--device", "cpu", "--batch-sizes", "1,1000", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*.json")
    result = json.loads(file.read_text())
    assert [record["batch_size"] for record in result["speed"]] == [1, 1000]
    one, thousand = result["speed"]
    assert one["projected"]
    assert one["epoch_updates"] == 50_000
    assert one["epoch_seconds"] == pytest.approx(one["us_per_update"] / 20)
    assert one["times_faster_than_lecture"] == pytest.approx(166 / one["epoch_seconds"])
    assert thousand["examples_per_second"] == pytest.approx(50_000 / thousand["epoch_seconds"])
    assert [(record["batch_size"], record["updates"]) for record in result["same_updates"]] == [(1, 20), (10, 20)]
    assert [record["updates"] for record in result["batch_accuracy"]] == [2, 1]
    assert result["why"]["operations"] == 2 * 100 * 784 * 500
    assert result["machine"].keys() >= {"device", "date", "revision", "numpy", "Python"}
    markdown = file.with_suffix(".md").read_text()
    for heading in ("### Speed", "### Same time, same updates", "### Too large a batch", "### Why"):
        assert heading in markdown
    assert "1 | 166 | gpunet reference" in markdown
    assert not list(tmp_path.glob("*.part*"))
    assert markdown.split("\n\n", 1)[1] in capsys.readouterr().out


def test_figures_are_drawn_without_a_display(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures need matplotlib: pip install '.[bench]'")
    import figures

    records = [measure.speed_record(name, n, 5, [0.1]) for name in ("gpunet tiled", "other") for n in (1, 10)]
    accuracy = [{"batch_size": n, "epochs": 1, "updates": 5, "test_accuracy": 0.5} for n in (10, 100)]
    result = {"machine": {"device": "x"}, "speed": records, "batch_accuracy": accuracy}
    files = figures.draw(result, tmp_path / "x")
    assert [file.name for file in files] == ["x-speed.png", "x-accuracy.png"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    assert len(list(tmp_path.iterdir())) == 2


BAD = {
    "batch sizes": (["--batch-sizes", "1,x"], "argument --batch-sizes: expected a whole number"),
    "no divisor": (["--batch-sizes", "1,49999"], "expected divisors of 50000, got 49999"),
    "peers": (["--peers", "torch,caffe"], "expected names of torch, jax, keras; got 'caffe'"),
    "parts": (["--parts", "speed,taste"], "got 'taste'"),
    "out": (["--out", "/no/such/folder"], "--out: /no/such/folder: not a folder that can be written to"),
    "device": (["--device", "cpu", "--engine", "tiled"], "engine tiled runs on device cuda"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_options_are_one_line_and_status_2(fault: str, capsys) -> None:
    options, message = BAD[fault]
    try:
        status = batch_speed.main(options)
    except SystemExit as end:  # argparse's own
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_epochs_are_timed_whole_where_they_are_short() -> None:
    assert measure.updates_to_time(1e-3, 1, full=False) == 1500
    assert measure.updates_to_time(1e-3, 1, full=True) == 50_000
    assert measure.updates_to_time(1e-3, 1000, full=False) == 50
    assert measure.updates_to_time(10, 1, full=False) == measure.FEWEST_UPDATES


def test_batches_go_through_the_order_again_and_again() -> None:
    order = np.arange(4, dtype=np.int32)
    work = workload.Workload(*[np.zeros(0)] * 4, order, [])
    assert work.batches(3, 2).tolist() == [0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize("script", [script for scripts in run_peers.PEERS.values() for script in scripts])
def test_peers_do_the_same_work_or_say_why_not(script: str, tmp_path: Path) -> None:
    work = workload.load()
    work.save(tmp_path / "work.npz")
    engine = measure.make_engine("reference", work)
    loss = engine.train_epoch(work.images, work.labels, work.batches(5, 10), 10).loss
    outcome = run_peers.run_peer(script, tmp_path / "work.npz", "cpu", 10, 5, 2, (5, loss))
    if "unavailable" in outcome:
        assert outcome["unavailable"].startswith("not installed (") or script == "torch_graphs", outcome
        pytest.skip(f"{script}: {outcome['unavailable']}")
    assert len(outcome["seconds"]) == 2
    spoilt = run_peers.run_peer(script, tmp_path / "work.npz", "cpu", 10, 5, 2, (5, loss * 1.01))
    assert "does other work" in spoilt["unavailable"]


def test_a_peer_that_is_not_there_is_a_line_in_the_table() -> None:
    result = {"speed": [measure.speed_record("gpunet reference", 1, 5, [1.0])]}
    result["unavailable"] = [{"name": "jax_scan", "unavailable": "not installed (jax)"}] * 2
    assert tables.speed(result).count("jax_scan: not installed (jax).") == 1


def test_the_documents_show_what_the_result_files_say() -> None:
    assert readme.main(["--check"]) == 0


def test_a_run_of_some_parts_does_not_replace_a_whole_one() -> None:
    facts = {"device": "My GPU, 2"}
    assert batch_speed.file_stem(facts) == "my-gpu-2"
    assert batch_speed.file_stem(facts, ("why",)) == "my-gpu-2-why"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_module", "not installed (no_such_module)"),
        ("raise RuntimeError('CUDA out of memory')", "RuntimeError: CUDA out of memory"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
        ("print('nothing')", "ended without a result"),
    ],
)
def test_a_peer_that_fails_is_a_line_with_the_reason(code: str, reason: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "odd.py").write_text(code)
    monkeypatch.setattr(run_peers, "FOLDER", tmp_path)
    outcome = run_peers.run_peer("odd", tmp_path / "x", "cpu", 10, 5, 2, (5, 1.0))
    assert outcome == {"name": "odd", "unavailable": reason}


def test_a_missing_result_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match=r"bench/results/nowhere.json lacks what speed needs"):
        readme.filled("<!-- results: speed nowhere -->\n<!-- end of results -->")


def test_an_unknown_part_of_a_result_is_refused() -> None:
    with pytest.raises(ArgumentError, match="expected a part of machine, speed"):
        readme.filled("<!-- results: taste x -->\n<!-- end of results -->")


def test_kernel_times_go_with_their_kernels_and_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_times, "REPEATS", 1)
    monkeypatch.setattr(kernel_times, "SAMPLES", 1)
    monkeypatch.setattr(kernel_times, "COPY_BYTES", 1000)
    monkeypatch.setattr(kernel_times, "product_operations_rate", lambda: 1e12)
    times = kernel_times.measure(open_device("order-forward"), [1])
    kernels = [(record["kernel"].removesuffix("_vector"), record["layer"]) for record in times["kernels"]]
    assert kernels == [
        ("dense_forward", "784-500"),
        ("dense_forward", "500-500"),
        ("dense_forward", "500-10"),
        ("softmax_cross_entropy", "10"),
        ("dense_backward", "500-10"),
        ("dense_update", "500-10"),
        ("dense_backward", "500-500"),
        ("dense_update", "500-500"),
        ("dense_update", "784-500"),
    ]
    assert all(record["times_bound"] == record["us"] / record["bound_us"] for record in times["kernels"])
    assert "| 1 | softmax_cross_entropy | 10 |" in tables.kernel_times(times)


def test_a_part_of_the_gpu_report_that_fails_or_hangs_leaves_the_others(tmp_path: Path) -> None:
    python = sys.executable
    parts = [
        gpu_report.Part("good", [python, "-c", "print('[1]')"], 60, lambda output: {"kept": json.loads(output)}),
        gpu_report.Part("bad", [python, "-c", "import sys; sys.exit('no')"], 60),
        gpu_report.Part("hanging", [python, "-c", "import time; print('began', flush=True); time.sleep(60)"], 6),
        gpu_report.Part("late", [python, "-c", "1"], 60),
    ]
    lefts = [60, 60, 60, 1]
    records = [gpu_report.run_part(part, left) for part, left in zip(parts, lefts, strict=True)]
    outcomes = [record["outcome"] for record in records]
    assert outcomes == ["passed", "failed", "stopped after 6 s", "not run: no time left"]
    assert "began" in records[2]["output"]
    assert records[0]["kept"] == [1]
    assert "no" in records[1]["output"]
    text = gpu_report.markdown({"machine": {"device": "x"}, "parts": records})
    assert "## bad: failed" in text


def test_without_a_gpu_the_report_says_so_in_one_line() -> None:
    if cuda_problem() is None:
        pytest.skip("this machine has a usable GPU")
    result = subprocess.run(
        [sys.executable, ROOT / "bench" / "gpu_report.py"],
        cwd=ROOT,
        env=command_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("gpu_report.py: device cuda: ")
    assert len(result.stderr.splitlines()) == 1
