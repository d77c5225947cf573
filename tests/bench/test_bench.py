"""The benchmark's own code: that it measures what it says, writes what it should, and that the documents follow."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement

import batch_speed
import bounds
import gpu_report
import kernel_times
import peer
import persistent_times
import standin
import update_docs
from conftest import command_environment
from emulator import EmulatedDevice
from gpunet import engines
from gpunet.engines import reference
from gpunet.engines.cuda.diagnosis import cuda_problem
from gpunet.errors import ArgumentError
from gpunet.layers import Network
from harness import first_layer, learning, machine, processes, records, sanitizer, tables, workload
from harness import passes as speed_passes
from support.devices import PLAIN, open_device, refuse_or_skip

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "bench" / "results").glob("*.json"))
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
EVERYONE = [processes.engine(name) for name in engines.DEVICE_OF]
EVERYONE += [processes.Peer(script) for scripts in processes.PEERS.values() for script in scripts]

SHORT = {"SURE_SECONDS": 0.002, "SECONDS_A_REPEAT": 0.014, "ENOUGH_SECONDS": 1e9}  # in place of peer.py's


def report(us: float = 100.0, batch_size: int = 1, name: str = "gpunet reference", updates: int = 10) -> dict[str, Any]:
    """The report of a process whose repeats took `us` per update."""
    times = {"updates": updates, "calls": 2, "seconds": [2e-6 * updates * us] * 3, "first_run_seconds": 0.5}
    return {"name": name, "batch_size": batch_size, "versions": {}, "check_updates": 5, "check_loss": 1.0, **times}


@pytest.fixture
def short_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Peers repeat for a fiftieth of the time, however slow they are, and what they compile stays for other tests.

    Called with names of peer.py: values that these have in the peers' processes.
    """
    folder, originals = tmp_path / "peers", processes.FOLDER
    folder.mkdir()

    def change(**values: float) -> None:
        for script in originals.glob("*.py"):
            (folder / script.name).write_text(
                f"import runpy, sys\nsys.path.insert(0, {str(originals)!r})\nimport peer\nvars(peer).update({values})\n"
                f"runpy.run_path({str(script)!r}, run_name='__main__')\n"
            )

    change(**SHORT)
    monkeypatch.setattr(processes, "FOLDER", folder)
    monkeypatch.setattr(processes, "CACHES", ())
    return change


@pytest.fixture
def quick(short_times: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A fiftieth of the time, of the patience, and of the training."""
    short_times(**SHORT, CHECK_UPDATES=2)

    def of_a_few(learn: Callable[..., Any]) -> Callable[..., Any]:
        def learn_little(name: str, batch_size: int, work: workload.Workload, *rest: Any) -> Any:
            few = {field: getattr(work, field)[:1000] for field in ("images", "labels", "test_images", "test_labels")}
            return learn(name, batch_size, dataclasses.replace(work, **few), *rest)

        return learn_little

    for part in ("same_updates", "batch_accuracy"):
        monkeypatch.setattr(learning, part, of_a_few(getattr(learning, part)))
    monkeypatch.setattr(first_layer, "SECONDS", 0.01)
    monkeypatch.setattr(speed_passes, "PASSES", 2)
    monkeypatch.setattr(speed_passes, "EXTRA_PASSES", 0)
    monkeypatch.setattr(learning, "LAST_UPDATES", 5)
    monkeypatch.setattr(batch_speed, "_affordable_updates", lambda names, work: 20)
    assert len(batch_speed.SEEDS) == 5
    monkeypatch.setattr(batch_speed, "SEEDS", (0, 1))
    monkeypatch.setattr(batch_speed, "ACCURACY_BATCH_SIZES", (500, 1000))
    monkeypatch.setattr(batch_speed, "ACCURACY_EPOCHS", 1)


@pytest.mark.usefixtures("quick")
def test_a_run_measures_every_part_and_writes_whole_files(tmp_path: Path, capsys) -> None:
    assert batch_speed.main(["--device", "cpu", "--batch-sizes", "1,1000", "--out", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*.json")
    result = json.loads(file.read_text())
    names = [f"gpunet {name}" for name, device in engines.DEVICE_OF.items() if device == "cpu"]
    timed = [(record["name"], record["batch_size"]) for record in result["speed"]]
    assert timed == [(name, size) for name in names for size in (1, 1000)]
    one, thousand = result["speed"][:2]
    assert [len(record["passes"]) for record in (one, thousand)] == [2, 2]
    assert one["first_run_seconds"] > 0
    assert one["versions"]["matmul precision"] == "float32"
    assert one["projected"]
    assert one["epoch_updates"] == 50_000
    assert one["epoch_seconds"] == pytest.approx(one["us_per_update"] / 20)
    assert one["times_faster_than_lecture"] == pytest.approx(166 / one["epoch_seconds"])
    assert thousand["examples_per_second"] == pytest.approx(50_000 / thousand["epoch_seconds"])
    same_updates = [(record["batch_size"], record["seed"], record["updates"]) for record in result["same_updates"]]
    assert same_updates == [(1, 0, 20), (1, 1, 20), (10, 0, 20), (10, 1, 20)]
    accuracy = [(record["seed"], record["updates"]) for record in result["batch_accuracy"]]
    assert accuracy == [(0, 2), (1, 2), (0, 1), (1, 1)]
    assert result["why"]["operations"] == 2 * 100 * 784 * 500
    assert result["machine"].keys() >= {"device", "date", "revision", "numpy", "Python"}
    markdown = file.with_suffix(".md").read_text()
    for heading in ("### Speed", "### Same time, same updates", "### Too large a batch", "### Why"):
        assert heading in markdown
    assert "1 | 166 | gpunet reference" in markdown
    assert "Means over 2 seeds, with standard deviations. The seeds were trained at once" in markdown
    assert not list(tmp_path.glob("*.part*"))
    assert markdown.split("\n\n", 1)[1] in capsys.readouterr().out


def test_figures_are_drawn_without_a_display(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="figures need matplotlib: pip install '.[bench]'")
    from harness import figures

    records = [speed_passes.record([report(9.0, n, name)]) for name in ("gpunet tiled", "other") for n in (1, 10)]
    accuracy = [{"batch_size": n, "epochs": 1, "updates": 5, "test_accuracy": a} for n in (10, 100) for a in (0.4, 0.5)]
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
    "seconds": (["--seconds", "nan"], "argument --seconds: expected a number of seconds above 0, got nan"),
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


@pytest.mark.parametrize(
    ("us", "epoch", "full", "expected"),
    [
        (1e3, 50_000, False, (700, 1)),
        (1e3, 50_000, True, (50_000, 1)),
        (1e6, 50_000, False, (20, 1)),
        (1e3, 50, False, (50, 14)),  # short epochs: several per repeat, each in its own call
        (100, 5, False, (5, 1400)),
        (10, 50_000, False, (50_000, 1)),
        (10, 50_000, True, (50_000, 1)),
    ],
)
def test_repeats_are_planned_from_sufficiently_long_times(us: float, epoch: int, full: bool, expected) -> None:
    timed: list[int] = []

    def seconds(updates: int) -> float:
        timed.append(updates)
        return updates * us * (50 if timed.count(updates) == 1 else 1) / 1e6  # the first time compiles

    fewest = min(20, epoch)
    seconds(fewest)
    assert peer.plan(seconds, fewest, epoch, full) == expected
    assert timed[-1] == expected[0] or expected[0] in timed  # what a repeat needs has been compiled


def test_each_epoch_has_its_own_order() -> None:
    orders = workload.batches(3, 100_000, 1).reshape(2, -1)
    assert (np.sort(orders) == np.arange(50_000)).all()
    assert (orders[0] != orders[1]).any()
    assert (workload.batches(3, 7, 10) == orders[0, :70]).all()
    assert (workload.batches(4, 7, 10) != orders[0, :70]).any()


def test_a_time_is_the_median_over_passes() -> None:
    record = speed_passes.record([report(us) for us in (110, 100, 105)])
    assert record["us_per_update"] == pytest.approx(105)
    assert record["us_per_update_range"] == pytest.approx([100, 110])
    assert not record["unsteady"]
    assert record["projected"]
    assert speed_passes.record([report(us) for us in (130, 100, 105)])["unsteady"]
    assert not speed_passes.record([report(us) for us in (130, 100, 105, 104, 103)])["unsteady"]
    assert speed_passes.record([report(us) for us in (130, 100, 105, 130, 100)])["unsteady"]
    assert speed_passes.record([{**report(), "seconds": [1.0]}])["unsteady"]
    assert not speed_passes.record([report(us, updates=50_000) for us in (1, 1)])["projected"]


def test_engines_come_before_peers_and_passes_take_turns() -> None:
    calls = []

    def run(who: processes.Peer, batch_sizes: list[int], seconds: float) -> list[dict[str, Any]]:
        calls.append((who.label, batch_sizes))
        if who.label == "gone":
            return [{"name": "gone", "unavailable": "not installed (gone)"}]
        us = 100 if (who.label, calls.count((who.label, [1, 10]))) != ("jumpy", 2) else 200
        return [report(us if size == 10 else 100, size, who.label) for size in batch_sizes]

    ours, others = [processes.engine("mine")], [processes.Peer("gone"), processes.Peer("jumpy")]
    passes = speed_passes.Passes(ours, others, [1, 10], run)
    assert list(passes.run(lambda: 1e3))[:3] == ["mine", "gone", "jumpy"]
    again = [("mine", [1, 10]), ("jumpy", [1, 10])]
    assert calls == [("mine", [1, 10]), ("gone", [1, 10]), ("jumpy", [1, 10]), *again, *again, *[("jumpy", [10])] * 2]
    assert passes.unavailable == [{"name": "gone", "unavailable": "not installed (gone)"}]
    assert [record["unsteady"] for record in passes.records] == [False] * 4  # resolved by the two further passes
    assert [entry["again"] for entry in passes.log] == [False] * 3 + [True] * 2


def test_without_time_for_another_pass_there_is_one() -> None:
    given = []

    def run(who: processes.Peer, batch_sizes: list[int], seconds: float) -> list[dict[str, Any]]:
        given.append(seconds)
        return [report(100, size, who.label) for size in batch_sizes]

    ours, others = [processes.engine("mine")], [processes.Peer("a"), processes.Peer("b")]
    assert list(speed_passes.Passes(ours, others, [1], run).run(lambda: 100 if len(given) < 3 else 0)) == [
        "mine",
        "a",
        "b",
    ]
    assert given == [100, 50, 100]  # engines may take what there is, peers their share


def test_a_peer_without_time_left_is_not_started() -> None:
    given = []

    def run(who: processes.Peer, batch_sizes: list[int], seconds: float) -> list[dict[str, Any]]:
        given.append((who.label, seconds))
        return [report(100, size, who.label) for size in batch_sizes]

    ours, others = [processes.engine("mine")], [processes.Peer("a"), processes.Peer("b")]
    passes = speed_passes.Passes(ours, others, [1], run)
    assert list(passes.run(lambda: 0 if given else 2)) == ["mine", "a", "b"]
    assert given == [("mine", speed_passes.LEAST_SECONDS)]
    assert passes.unavailable == [{"name": name, "unavailable": "no time left"} for name in "ab"]


@pytest.mark.usefixtures("short_times")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("who", EVERYONE, ids=lambda who: who.label)
def test_engines_and_peers_do_the_same_work_or_say_why_not(who: processes.Peer, device: str, tmp_path: Path) -> None:
    if device == "cuda" and (problem := cuda_problem()):
        refuse_or_skip("GPUNET_REQUIRE_GPU", problem)
    work = workload.load()
    work.save(tmp_path / "work.npz")
    losses = []

    def expected(batch_size: int, updates: int) -> float:
        engine = learning.make_engine("reference", work.weights)
        order = work.order[: updates * batch_size]
        losses.append(engine.train_epoch(work.images, work.labels, order, batch_size).loss)
        return losses[-1] * (1.01 if batch_size == 20 else 1)

    outcomes = processes.Runner(tmp_path, device, False, expected).run(who, [10, 20], 900)
    if "unavailable" in outcomes[0]:
        reason = outcomes[0]["unavailable"]
        assert reason != "not installed (gpunet)"
        elsewhere = engines.DEVICE_OF.get(who.label, device) != device or (who.label, device) == ("torch_graphs", "cpu")
        expected_reasons = ("not installed (", "this ", "torch.compile", "engine persistent: ")
        assert elsewhere or reason.startswith(expected_reasons), outcomes
        pytest.skip(f"{who.label}: {reason}")
    good, spoilt = outcomes
    if who.label == "persistent" and spoilt["unavailable"].startswith("engine persistent: "):
        pytest.skip(f"batches of 20: {spoilt['unavailable']}")
    assert len(good["seconds"]) == peer.REPEATS
    assert good["check_loss"] == pytest.approx(losses[0], rel=processes.CHECK_TOLERANCE)
    assert good["first_run_seconds"] > 0
    assert good["versions"]["matmul precision"] in ("float32", "highest")
    assert "does other work" in spoilt["unavailable"]


def test_a_missing_peer_is_a_line_in_the_table() -> None:
    result = {"speed": [speed_passes.record([report(name="JAX")])]}
    result["unavailable"] = [
        *[{"name": "jax_scan", "unavailable": "not installed (jax)"}] * 2,
        *[{"name": "JAX", "batch_size": size, "unavailable": "no time left"} for size in (100, 1000)],
    ]
    table = tables.speed(result)
    assert table.count("jax_scan: not installed (jax).") == 1
    assert "JAX, batch size 100, 1,000: no time left." in table


def test_rows_that_stay_unsteady_are_marked() -> None:
    result = {"speed": [speed_passes.record([report(100), report(200), report(300)])]}
    assert "| 200.0 ~ |" in tables.speed(result)
    assert "~ The passes differ by more than a fifth" in tables.speed(result)


def test_several_seeds_give_a_mean_and_a_deviation() -> None:
    common = {"name": "gpunet tiled", "batch_size": 10, "epochs": 5, "updates": 7, "seconds": 1.0, "train_loss": 0.5}
    records = [{**common, "seed": seed, "test_accuracy": 0.9 + seed / 100} for seed in range(3)]
    table = tables.batch_accuracy(records)
    assert "| 1.00 | 0.5000 | 91.00 ± 1.00 % |" in table
    assert "3 seeds" in table
    assert "± " not in tables.batch_accuracy(records[:1])


@pytest.mark.parametrize("batch_size", [1, 10])
def test_each_seed_learns_what_a_model_alone_learns(batch_size: int, monkeypatch) -> None:
    """The orders are the model's own, and the last updates are those of a model that continues, batch by batch."""
    monkeypatch.setattr(learning, "LAST_UPDATES", 3)
    work, name = workload.load(), "reference"
    monkeypatch.setattr(learning, "_records", lambda name, size, work, models, seeds, seconds: [*map(learnt, models)])

    def learnt(model: Any) -> dict[str, Any]:
        return {"weights": model.get_weights(), "epochs": model.epochs_trained}

    few = dataclasses.replace(work, images=work.images[: 10 * batch_size], labels=work.labels[: 10 * batch_size])
    records = learning.same_updates(name, batch_size, few, 17, (3, 4))
    losses = []
    for seed, record in zip((3, 4), records, strict=True):
        model = workload.lecture_model(seed)
        model.compile(workload.optimizer(), "sparse_categorical_crossentropy", engine=name)
        model.fit(few.images, few.labels, batch_size, verbose=0)
        model.fit(few.images[: 4 * batch_size], few.labels[: 4 * batch_size], batch_size, verbose=0)
        spread = []
        for first in range(4 * batch_size, 7 * batch_size, batch_size):
            batch = slice(first, first + batch_size)
            spread += model.fit(few.images[batch], few.labels[batch], batch_size, verbose=0).history["loss"]
        assert all(map(np.array_equal, model.get_weights(), record["weights"]))
        assert (record["epochs"], record["updates"]) == (17 * batch_size / (10 * batch_size), 17)
        assert record["loss_spread"] == pytest.approx(np.std(spread))
        losses.append(record["loss_spread"])
    assert losses[0] != losses[1]


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_an_update_takes_as_long_in_one_part_as_in_the_other(file: Path) -> None:
    result = json.loads(file.read_text())
    if "passes" not in result or "same_updates" not in result:
        pytest.skip("measured in one pass, or in part")
    if len({record.get("seed", 0) for record in result["same_updates"]}) > 1:
        pytest.skip("its seeds were trained at once, which is another time")
    times = tables.update_times(result)
    assert times
    for name, batch_size, here, there in times:
        assert here == pytest.approx(there, rel=0.3), f"{name}, batch size {batch_size}"


def test_the_documents_show_what_the_result_files_say() -> None:
    assert update_docs.main(["--check"]) == 0


def test_a_run_of_selected_parts_does_not_replace_a_full_one() -> None:
    facts = {"device": "My GPU, 2"}
    assert batch_speed.file_stem(facts) == "my-gpu-2"
    assert batch_speed.file_stem(facts, ("why",)) == "my-gpu-2-why"


def test_a_peer_compiles_what_no_earlier_run_compiled(tmp_path: Path, monkeypatch) -> None:
    """This includes gpunet's own kernels and loops."""
    code = "from gpunet.engines.cpu import compiler as loops; from gpunet.engines.cuda import compiler as kernels"
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/elsewhere")
    command = [sys.executable, "-c", f"{code}; print(kernels.cache_folder()); print(loops.cache_folder())"]
    output, _ = processes.ended(tmp_path, command, "cpu", 60)
    kernels, loops = map(Path, output.split())
    assert kernels.is_relative_to(tmp_path)
    assert loops.is_relative_to(tmp_path)


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
    monkeypatch.setattr(processes, "FOLDER", tmp_path)
    runner = processes.Runner(tmp_path, "cpu", False, lambda batch_size, updates: 1.0)
    assert runner.run(processes.Peer("odd"), [1, 10], 60) == [{"name": "odd", "unavailable": reason}]


def test_a_peer_that_is_stopped_keeps_what_it_reported(tmp_path: Path, monkeypatch) -> None:
    first = json.dumps(report(name="Odd")) + "\n"
    (tmp_path / "odd.py").write_text(f"import time; print({first + first[:40]!r}, end='', flush=True); time.sleep(60)")
    monkeypatch.setattr(processes, "FOLDER", tmp_path)
    monkeypatch.setattr(processes, "GRACE_SECONDS", 2)
    runner = processes.Runner(tmp_path, "cpu", False, lambda batch_size, updates: 1.0)
    assert runner.run(processes.Peer("odd"), [1, 10], 3) == [
        report(name="Odd"),
        {"name": "Odd", "batch_size": 10, "unavailable": "stopped after 3 s"},
    ]


def test_a_peer_reports_each_batch_size_and_what_went_wrong_with_it(tmp_path: Path, capsys) -> None:
    class Odd(peer.Trainer):
        def __init__(self, job: peer.Job) -> None:
            if job.batch_size == 100:
                raise MemoryError("too large\nby far")
            self.on = "cpu" if job.batch_size == 10 else "cuda"

        def train(self, prepared: np.ndarray) -> float:
            time.sleep(len(prepared) / 5000)
            return 1.0

        def device(self) -> str:
            return self.on

    workload.load().save(tmp_path / "work.npz")
    arguments = [str(tmp_path / "work.npz"), "--batch-sizes", "10,100,1000", "--device", "cpu", "--seconds", "60"]
    peer.run("Odd", dict, Odd, arguments)
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(each["seconds"]) for each in reports[: peer.REPEATS]] == [1, 2, 3]
    updates, seconds = reports[0]["updates"], reports[0]["seconds"][0]
    assert seconds == pytest.approx(updates * 10 / 5000, rel=0.5)
    assert [each.get("unavailable") for each in reports[peer.REPEATS :]] == [
        "MemoryError: too large",
        "computes on cuda, not on cpu",
    ]
    peer.run("Odd", dict, Odd, [*arguments[:-1], "0"])
    assert capsys.readouterr().out.count("no time left") == 3


@pytest.mark.parametrize("kind", PLAIN)
def test_the_first_layer_on_a_gpu_is_the_layer_and_is_timed(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    device, work = open_device(kind), workload.load()
    monkeypatch.setattr(engines, "cuda_device", lambda: device)
    monkeypatch.setattr(first_layer, "LAYER_EXAMPLES", 3)
    images = work.images[:3]
    truth = reference.dense_forward(images.astype(np.float64) / 255, *work.weights[:2], "sigmoid")
    for rows in (1, 3):
        layer = first_layer.LayerOnGpu(device, images, work.weights)
        layer.graph(rows)()
        np.testing.assert_allclose(device.download(layer.y)[:, :500], truth, rtol=1e-5)
    record = first_layer.why("cuda", work)
    assert record["one_at_a_time_us"] > 0
    assert record["ratio"] == record["one_at_a_time_us"] / record["at_once_us"]


def test_what_nvidia_smi_says_is_part_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(command: list[str], **options: Any) -> str:
        assert command[0] == "nvidia-smi"
        return "580.65, 700.00 W, 1980 MHz, 2619 MHz, [N/A]\n"

    monkeypatch.setattr(machine.subprocess, "check_output", answer)
    expected = {"driver": "580.65", "power limit": "700.00 W", "highest SM clock": "1980 MHz"}
    assert machine.gpu_settings() == {**expected, "highest memory clock": "2619 MHz"}


def test_of_several_gpus_the_one_asked_for_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_device("order-forward")
    standin.install(monkeypatch, tmp_path)
    asked: list[list[str]] = []
    monkeypatch.setattr(machine.subprocess, "check_output", lambda command, **options: asked.append(command) or "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # restored at the end
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert batch_speed.parser().parse_args(["--device", "cuda:1"]).device == "cuda:1"
    assert (machine.only_gpu("cuda"), os.environ.get("CUDA_VISIBLE_DEVICES")) == ("cuda", None)
    assert (machine.only_gpu("cuda:1"), os.environ["CUDA_VISIBLE_DEVICES"]) == ("cuda", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert (machine.only_gpu("cuda:1"), os.environ["CUDA_VISIBLE_DEVICES"]) == ("cuda", "6")
    assert (machine.only_gpu("cuda:1"), os.environ["CUDA_VISIBLE_DEVICES"]) == ("cuda", "")
    machine.gpu_settings()
    assert asked[0][:2] == ["nvidia-smi", "--id=0000:01:00.0"]


def test_a_missing_result_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match=r"bench/results/nowhere.json lacks what speed needs"):
        update_docs.filled("<!-- results: speed nowhere -->\n<!-- end of results -->")


def test_an_unknown_part_of_a_result_is_refused() -> None:
    with pytest.raises(ArgumentError, match="expected a part of headline, machine, speed"):
        update_docs.filled("<!-- results: taste x -->\n<!-- end of results -->")


def test_persistent_times_are_compared_with_the_plan_and_name_what_is_unavailable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(persistent_times, "SAMPLES", 1)
    monkeypatch.setattr(persistent_times, "PHASES", ("LOSS",))
    monkeypatch.setattr(persistent_times, "THREADS", (64, 4096))
    small = Network((784, 12, 9, 10), ("sigmoid", "sigmoid", "softmax"))
    monkeypatch.setattr(workload, "NETWORK", small)
    weights = [np.zeros(shape, np.float32) for shape in small.weight_shapes]
    work = dataclasses.replace(workload.load(), weights=weights)
    monkeypatch.setattr(workload, "load", lambda: work)
    device = open_device("order-forward", shared_bytes=100 * 1024)
    found = list(persistent_times.measure(device, batch_sizes=[2], examples=3))
    by_variant = {record["variant"]: record for record in found}
    assert len(by_variant) == len(list(persistent_times.variants())) == len(found)
    assert all(record["us"] > 0 for name, record in by_variant.items() if name != "4096 threads")
    assert "bytes of shared memory, has 102400" in by_variant["4096 threads"]["unavailable"]
    table = tables.persistent_times(found)
    assert "| 2 | loss twice |" in table
    assert "| 2 | 4096 threads | engine persistent: " in table


def test_a_failing_variant_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def one(device: Any, work: Any, batch_size: int, examples: int, adjust: Any) -> dict[str, Any]:
        if batch_size == 1:
            raise ValueError("nobody thought of this")
        return {"us": 1.0, "samples": [1.0]}

    monkeypatch.setattr(persistent_times, "_variant", one)
    found = list(persistent_times.measure(None, batch_sizes=[1, 2]))
    assert [record.get("us") for record in found] == [None, 1.0] * len(list(persistent_times.variants()))
    assert found[0]["unavailable"] == "ValueError: nobody thought of this"


def test_kernel_times_go_with_their_kernels_and_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_times, "REPEATS", 1)
    monkeypatch.setattr(kernel_times, "SAMPLES", 1)
    monkeypatch.setattr(kernel_times, "COPY_BYTES", 1000)
    monkeypatch.setattr(kernel_times, "product_operations_rate", lambda: 1e12)
    empty = EmulatedDevice(folder=kernel_times.KERNELS)
    times = kernel_times.collected(kernel_times.measure(open_device("order-forward"), empty, [1]))
    kernels = [(record["kernel"].removesuffix("_vector"), record["layer"]) for record in times["kernels"]]
    assert kernels == [
        ("dense_forward", "784-500"),
        ("dense_forward", "500-500"),
        ("dense_output", "500-10"),
        ("dense_backward_update", "500-500+500-10"),
        ("dense_update_pair", "500-500+784-500"),
    ]
    assert all(record["times_bound"] == record["us"] / record["bound_us"] for record in times["kernels"])
    assert [(record["batch_size"], record["launches"]) for record in times["updates"]] == [(1, 5)]
    table = tables.kernel_times(times)
    assert "| 1 | dense_output | 500-10 |" in table
    assert "| 1 | 5 | " in table
    assert "DRAM bound, us" in table
    assert f"an empty kernel takes {times['empty_kernel_us']:,.2f} us" in table


def test_interrupted_kernel_measurements_keep_earlier_results(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> float:
        raise RuntimeError("an illegal memory access was encountered")

    for rate in ("copy_rate", "product_operations_rate", "empty_kernel_us"):
        monkeypatch.setattr(kernel_times, rate, broken)
    monkeypatch.setattr(kernel_times, "microseconds", broken)
    device = open_device("order-forward")
    times = kernel_times.collected(kernel_times.measure(device, device, [1, 2]))
    assert [record["batch_size"] for record in times["unavailable"]] == [1, 2]
    table = tables.kernel_times(times)
    assert "No rate of a copy was measured" in table
    assert "Batch size 2: RuntimeError: an illegal memory access was encountered" in table
    assert "| batch size |" in tables.kernel_times(kernel_times.collected([]))


@pytest.mark.parametrize("script", [kernel_times, persistent_times])
def test_records_are_printed_one_per_line_as_they_come(script, monkeypatch, capsys) -> None:
    def measured(*arguments: Any):
        yield {"a": 1}
        assert capsys.readouterr().out == '{"a": 1}\n'
        yield {"b": 2}

    monkeypatch.setattr(script, "measure", measured)
    monkeypatch.setattr(engines, "check_device", lambda *names: None)
    monkeypatch.setattr(engines, "cuda_device", lambda: None)
    monkeypatch.setattr(kernel_times, "CudaDevice", lambda **options: None)
    assert script.main([]) == 0
    assert records.told(capsys.readouterr().out) == [{"b": 2}]


def test_without_a_rate_of_operations_only_bounds_from_memory_are_given() -> None:
    small, large = bounds.Cost("x 1-1", 1000, 1000), bounds.Cost("x 1-1", 1000, 100_000)
    assert kernel_times.bound_us(small, 1e9, None) == pytest.approx(1)
    assert kernel_times.bound_us(large, 1e9, None) is None
    assert kernel_times.bound_us(large, 1e9, 1e9) == pytest.approx(100)


def python_part(name: str, code: str, seconds: float | None = 60, **options: Any) -> gpu_report.Part:
    return gpu_report.Part("proof", name, [sys.executable, "-c", code], seconds, **options)


def test_a_failing_or_hanging_part_of_the_gpu_report_does_not_stop_the_others(tmp_path: Path) -> None:
    told = """print('{"a": 1}\\n{"a": NaN}\\nword\\n{"a"', flush=True);"""
    parts = [
        python_part("good", told, read=lambda output: {"kept": records.told(output)}),
        python_part("bad", "import sys; sys.exit('no')"),
        python_part("hanging", told + "import time; time.sleep(60)", 1, read=lambda o: {"kept": records.told(o)}),
        python_part("odd", "print(1)", read=lambda output: {}["missing"]),
        python_part("poor", "print(1)", read=lambda output: {"problem": "97 %"}),
        gpu_report.Part("proof", "absent", None, None, lambda output: {"problem": "not installed"}),
    ]
    report = gpu_report.Report(tmp_path / "x", {"device": "x"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_report, "LEAST_SECONDS", 0)
        assert not gpu_report.run_parts(parts, report, 60)
    found = {part["name"]: part for part in json.loads((tmp_path / "x.json").read_text())["parts"]}
    assert [part["outcome"] for part in found.values()] == [
        *("passed", "failed", "stopped after 1 s", "passed", "failed: 97 %", "not run: not installed")
    ]
    assert found["good"]["kept"] == found["hanging"]["kept"] == [{"a": 1}, {"a": None}]
    assert found["odd"]["unread"] == "KeyError: 'missing'"
    assert "no" in found["bad"]["output"]
    assert "## bad: failed" in (tmp_path / "x.md").read_text()
    log = (tmp_path / "x.log").read_text()
    assert [log.index(f"=== {name}: ") for name in ("good", "bad", "hanging", "odd")] == sorted(
        log.index(f"=== {name}: ") for name in ("good", "bad", "hanging", "odd")
    )


def test_without_time_left_a_part_of_the_gpu_report_is_not_run(tmp_path: Path) -> None:
    report = gpu_report.Report(tmp_path / "x", {"device": "x"})
    assert not gpu_report.run_parts([python_part("late", "1")], report, 1)
    assert json.loads((tmp_path / "x.json").read_text())["parts"][0]["outcome"] == "not run: no time left"


def test_a_gpu_report_that_is_cut_off_keeps_earlier_parts_and_the_output_so_far(tmp_path: Path) -> None:
    report = gpu_report.Report(tmp_path / "x", {"device": "x"})

    def cut_off(output: str) -> dict[str, Any]:
        raise KeyboardInterrupt

    parts = [python_part("whole", "print('all of it')"), python_part("cut", "print('some of it')", read=cut_off)]
    with pytest.raises(KeyboardInterrupt):
        gpu_report.run_parts(parts, report, 60)
    found = {part["name"]: part["outcome"] for part in json.loads((tmp_path / "x.json").read_text())["parts"]}
    assert found == {"whole": "passed", "cut": "running, or cut off"}
    assert "some of it" in (tmp_path / "x.log").read_text()


def test_a_later_gpu_report_keeps_other_parts_of_an_earlier_one(tmp_path: Path) -> None:
    for name, code in (("one", "1"), ("two", "import sys; sys.exit(1)"), ("two", "2")):
        gpu_report.run_parts([python_part(name, code)], gpu_report.Report(tmp_path / "x", {"device": "x"}), 60)
    found = {part["name"]: part["outcome"] for part in json.loads((tmp_path / "x.json").read_text())["parts"]}
    assert found == {"one": "passed", "two": "passed"}
    (tmp_path / "x.json").write_text("{")
    assert gpu_report.run_parts([python_part("three", "3")], gpu_report.Report(tmp_path / "x", {"device": "x"}), 60)


def test_parts_without_a_limit_share_the_time_that_is_left(tmp_path: Path, monkeypatch) -> None:
    limits = []

    def run(part: gpu_report.Part, limit: float, log: Path) -> dict[str, Any]:
        limits.append(limit)
        return {"name": part.name, "outcome": "passed", "seconds": 0.0, "output": ""}

    monkeypatch.setattr(gpu_report, "run_part", run)
    parts = [python_part("fixed", "1", 40), *(python_part(str(number), "1", None) for number in range(4))]
    assert gpu_report.run_parts(parts, gpu_report.Report(tmp_path / "x", {"device": "x"}), 100)
    assert limits == pytest.approx([40, 25, 100 / 3, 50, 100], rel=0.05)  # none of them took any time


def test_every_group_of_the_gpu_report_ends_in_time_and_every_peer_is_tried(tmp_path: Path) -> None:
    parts = gpu_report.parts(tmp_path, {"device": "x"})
    assert [part.group for part in parts] == sorted((part.group for part in parts), key=gpu_report.GROUPS.index)
    for group in gpu_report.GROUPS:
        assert sum(part.seconds or 0 for part in parts if part.group == group) <= gpu_report.GROUP_SECONDS < 9 * 60
    by_name = {part.name: part for part in parts}
    speed_part = by_name["batch speed"]
    assert speed_part.command[speed_part.command.index("--peers") + 1] == "torch,jax,keras"
    batch_speed.parser().parse_args(speed_part.command[2:])
    assert speed_part.seconds > gpu_report.SPEED_SECONDS + processes.GRACE_SECONDS
    assert [part.name for part in parts if part.group == "sanitizer"] == list(sanitizer.TOOLS)
    assert f"def {gpu_report.PEER_TESTS.split('::')[1]}(" in Path(__file__).read_text()


def test_the_gpu_report_requires_98_percent_of_trainings() -> None:
    assert gpu_report._accuracy("x\ntest accuracy 98.10 % after 10 epochs\n") == {"test_accuracy": 98.1}
    assert gpu_report._accuracy("test accuracy 97.99 %\n")["problem"] == "97.99 %"
    assert gpu_report._accuracy("killed")["problem"] == "no test accuracy in its output"


def test_on_linux_the_bench_extra_brings_a_jax_that_can_use_a_gpu() -> None:
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml with Python's own reader, from 3.11 on")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [Requirement(line) for line in project["optional-dependencies"]["bench"]]
    for platform, extras in (("linux", {"cuda12"}), ("darwin", set())):
        found = [one for one in requirements if not one.marker or one.marker.evaluate({"sys_platform": platform})]
        assert [one.extras for one in found if one.name == "jax"] == [extras]


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
