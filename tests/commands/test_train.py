"""`python -m gpunet.train`, as a user meets it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpunet
from conftest import Command, command_environment
from gpunet import commandline, files, train, training_options
from gpunet.engines.reference import ReferenceEngine
from gpunet.errors import OutputError
from support.commands import interrupted, on_a_terminal

RESULT = re.compile(
    r"test accuracy ([\d.]+) %, loss [\d.]+, after (\d+) epochs?: "
    r"([\d.]+) s of training, ([\d,]+) updates, ([\d,.]+) us per update"
)


def test_defaults_reach_98_percent_on_mnist(command: Command, tmp_path: Path) -> None:
    result = command("gpunet.train", "--metrics", "metrics.jsonl", timeout=900)
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("device  cpu") or lines[0].startswith("device  cuda")
    assert "50,000 training, 10,000 validation, 10,000 test examples" in lines[1]
    assert "784-500-500-10" in lines[2]
    assert "648,010 parameters" in lines[2]
    assert len(lines) == 3 + 20 + 1
    accuracy, epochs, _, updates, _ = RESULT.fullmatch(lines[-1]).groups()
    assert float(accuracy) >= 98.0
    assert (epochs, updates) == ("20", "10,000")
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == 21
    assert records[-1].keys() == {"test_loss", "test_accuracy"}
    assert round(100 * records[-1]["test_accuracy"], 2) == float(accuracy)


def test_metrics_have_the_promised_fields(in_process: Command, small_npz: Path, tmp_path: Path) -> None:
    result = in_process(
        "gpunet.train", "--data", small_npz, "--epochs", 2, "--batch-size", 20, "--metrics", "m", "--quiet"
    )
    assert result.returncode == 0, result.stderr
    assert RESULT.fullmatch(result.stdout.strip())
    first, second, last = (json.loads(line) for line in (tmp_path / "m").read_text().splitlines())
    assert first.keys() == {
        *("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds", "updates", "us_per_update")
    }
    assert (first["epoch"], second["epoch"], second["updates"]) == (1, 2, 3)
    assert second["us_per_update"] == pytest.approx(1e6 * second["seconds"] / 3)
    assert last.keys() == {"test_loss", "test_accuracy"}


def test_the_command_does_what_the_same_model_does_in_python(command: Command, tmp_path: Path, blobs) -> None:
    """Three different parts, so that none can be mistaken for another; every option has its effect."""
    x, y = blobs
    rng = np.random.default_rng(5)
    test_x = (x + rng.normal(size=x.shape)).astype(np.float32)[:30]
    np.savez(tmp_path / "a.npz", x_train=x[:55], y_train=y[:55], x_test=test_x, y_test=y[:30])
    options = [
        "--hidden",
        7,
        5,
        "--activation",
        "relu",
        "--optimizer",
        "sgd",
        "--learning-rate",
        0.03,
        "--momentum",
        0.8,
    ]
    options += ["--batch-size", 9, "--epochs", 2, "--seed", 4, "--metrics", "m", "--device", "cpu"]
    options += ["--schedule", "constant"]
    result = command("gpunet.train", "--data", "a.npz", *options)
    assert (
        "model   8-7-5-3, relu relu softmax; 121 parameters; SGD(learning_rate=0.03, momentum=0.8, nesterov=False)"
        in result.stdout
    )
    records = [json.loads(line) for line in (tmp_path / "m").read_text().splitlines()]

    layers = [gpunet.Dense(7, "relu", input_dim=8), gpunet.Dense(5, "relu"), gpunet.Dense(3, "softmax")]
    model = gpunet.Sequential(layers, seed=4)
    model.compile(gpunet.SGD(0.03, 0.8), "sparse_categorical_crossentropy", device="cpu")
    validation = (x[46:55], y[46:55])
    history = model.fit(x[:46], y[:46], 9, 2, 0, validation_data=validation).history
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "updates"):
        assert [record[name] for record in records[:2]] == pytest.approx(history[name], rel=1e-6), name
    expected = model.evaluate(test_x, y[:30])
    assert [records[2]["test_loss"], records[2]["test_accuracy"]] == pytest.approx(expected, rel=1e-6)
    assert f"test accuracy {100 * expected[1]:.2f} %, loss {expected[0]:.4f}, after 2 epochs" in result.stdout
    assert "12 updates" in result.stdout


def test_the_learning_rate_falls_in_equal_steps_to_zero(
    in_process: Command, small_npz: Path, tmp_path: Path, blobs
) -> None:
    options = ["--data", small_npz, "--hidden", "--optimizer", "sgd", "--learning-rate", "0.4", "--batch-size", "10"]
    assert in_process("gpunet.train", *options, "--epochs", 4, "--device", "cpu", "--metrics", "m").returncode == 0
    x, y = blobs
    model = gpunet.Sequential([gpunet.Dense(3, "softmax", input_dim=8)], seed=0)
    model.compile(gpunet.SGD(0.4), "sparse_categorical_crossentropy", device="cpu")
    losses = []
    for rate in (0.4, 0.3, 0.2, 0.1):
        model.optimizer.learning_rate = rate
        losses += model.fit(x[:50], y[:50], 10, 1, 0).history["loss"]
    records = [json.loads(line) for line in (tmp_path / "m").read_text().splitlines()]
    assert [record["loss"] for record in records[:4]] == pytest.approx(losses, rel=1e-6)


def test_same_seed_gives_the_same_result(command: Command, small_npz: Path) -> None:
    def outcome(seed: int) -> str:
        output = command("gpunet.train", "--data", small_npz, "--epochs", 2, "--batch-size", 9, "--seed", seed).stdout
        return re.sub(r"[\d.,]+ (s|us)\b", "", output.split(f"seed {seed}\n")[1])

    assert outcome(3) == outcome(3) != outcome(4)


@pytest.mark.parametrize(
    "options",
    [
        ["--hidden", "7", "5", "3", "--activation", "relu"],
        ["--hidden"],
        ["--optimizer", "sgd", "--learning-rate", "0.5", "--momentum", "0.9"],
        ["--device", "cpu", "--engine", "reference"],
    ],
    ids=lambda options: " ".join(options),
)
def test_options_are_used(in_process: Command, small_npz: Path, options: list[str]) -> None:
    result = in_process("gpunet.train", "--data", small_npz, "--epochs", 1, "--batch-size", 10, *options)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", gpunet.Adam(0.002)),
        ("--optimizer adamw", gpunet.AdamW(0.002)),
        ("--optimizer adamw --weight-decay 0.01 --learning-rate 0.1", gpunet.AdamW(0.1, 0.01)),
        ("--optimizer sgd", gpunet.SGD(0.01)),
        ("--optimizer sgd --momentum 0.9 --nesterov", gpunet.SGD(0.01, 0.9, nesterov=True)),
    ],
)
def test_an_option_named_after_an_optimizers_field_sets_it(words: str, expected: gpunet.optimizers.Optimizer) -> None:
    parser = commandline.Parser("gpunet train", "")
    parser.add_options(*training_options.OPTIONS)
    assert training_options.optimizer_of(parser.parse_args(words.split())) == expected


FAULTS = {
    "no such data": (["--data", "nowhere"], "nowhere: no such file or folder"),
    "batch 0": (["--batch-size", "0"], "argument --batch-size: expected a whole number, 1 or above; got '0'"),
    "epochs": (["--epochs", "many"], "argument --epochs: expected a whole number"),
    "hidden": (["--hidden", "5", "-1"], "hidden"),
    "hidden commas": (["--hidden", "10,20"], "expected whole numbers, got '10,20'; separate widths by spaces"),
    "activation": (["--activation", "swish"], "argument --activation: invalid choice: 'swish'"),
    "rate": (["--learning-rate", "-1"], "Adam: learning_rate: expected a number from 0 on, got -1.0"),
    "rate nan": (["--learning-rate", "nan"], "Adam: learning_rate: expected a finite number, got nan"),
    "momentum": (["--momentum", "0.9"], "--momentum: expected with --optimizer sgd, got --optimizer adam"),
    "nesterov of adamw": (["--nesterov", "--optimizer", "adamw"], "--nesterov: expected with --optimizer sgd"),
    "nesterov alone": (["--nesterov", "--optimizer", "sgd"], "--nesterov: expected with --momentum above 0"),
    "weight decay": (
        ["--weight-decay", "0.01"],
        "--weight-decay: expected with --optimizer adamw, got --optimizer adam",
    ),
    "decay below 0": (
        ["--optimizer", "adamw", "--weight-decay=-1"],
        "AdamW: weight_decay: expected a number from 0 on",
    ),
    "seed": (["--seed", "-1"], "argument --seed: expected a whole number, 0 or above"),
    "metrics": (["--metrics", "no/such/folder/m"], "--metrics: no/such/folder/m: no such folder"),
    "huge layer": (["--hidden", "99999999999999999999"], "expected at most 16777216"),
    "metrics on data": (["--metrics", "blobs.npz"], "--metrics: blobs.npz is also the file of --data"),
    "metrics empty": (["--metrics", ""], "--metrics: expected a path, got ''"),
    "data empty": (["--data", ""], "--data: expected a path, got ''"),
    "engine and device": (["--engine", "tiled", "--device", "cpu"], "engine tiled runs on device cuda, got device cpu"),
    "option": (["--colour"], "unrecognized arguments: --colour"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_command_line_is_one_clear_line_and_status_2(in_process: Command, small_npz: Path, fault: str) -> None:
    options, message = FAULTS[fault]
    result = in_process("gpunet.train", "--data", small_npz, "--batch-size", "9", *options)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("gpunet train: ")


def test_damaged_data_is_one_clear_line_and_status_2(in_process: Command, small_npz: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.npz").write_bytes(small_npz.read_bytes()[:-100])
    result = in_process("gpunet.train", "--data", "cut.npz")
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"gpunet train: cut.npz: not an .npz file, or truncated; .*\n", result.stderr)


def test_diverging_training_is_one_clear_line_and_status_1(in_process: Command, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 4)) * 1e30
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(60) % 3, x_test=x, y_test=np.arange(60) % 3)
    options = ["--hidden", "--optimizer", "sgd", "--learning-rate", "1e30", "--batch-size", "10", "--quiet"]
    result = in_process("gpunet.train", "--data", "a.npz", *options)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"gpunet train: the loss became NaN or infinite at update \d of epoch 1; .*\n", result.stderr)


@pytest.mark.parametrize("rate", ["1e30", "1e39"])  # in the middle of an epoch, and by its last update
def test_a_diverging_training_says_that_nothing_was_saved(
    small_npz: Path, rate: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(small_npz.parent)
    options = ["--hidden", "5", "--activation", "relu", "--optimizer", "sgd", "--learning-rate", rate, "--epochs", "1"]
    common = ["--data", "blobs.npz", "--batch-size", "50", "--engine", "reference", "--quiet"]
    assert train.main([*common, *options, "--save", "s.npz"]) == 1
    line = r"gpunet train: the loss became NaN or infinite at .*smaller learning rate\. Nothing was saved to s\.npz\.\n"
    assert re.fullmatch(line, capsys.readouterr().err)
    assert not Path("s.npz").exists()
    assert train.main([*common, *options]) == 1
    assert capsys.readouterr().err.endswith("Try a smaller learning rate.\n")


def test_a_last_update_that_ruins_the_weights_is_a_failure(
    in_process: Command, small_npz: Path, tmp_path: Path
) -> None:
    options = ["--hidden", "--optimizer", "sgd", "--learning-rate", "1e39", "--batch-size", "50", "--epochs", "1"]
    result = in_process("gpunet.train", "--data", small_npz, *options, "--metrics", "m", "--quiet")
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"gpunet train: the loss became NaN or infinite at update 1 of epoch 1; .*\n", result.stderr)
    assert not (tmp_path / "m").exists()  # no epoch, no line


def test_full_disk_names_the_metrics_file(in_process: Command, small_npz: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    result = in_process(
        *("gpunet.train", "--data", small_npz, "--batch-size", "9", "--epochs", 3, "--metrics", "/dev/full"),
        *("--quiet", "--save", "s.npz"),
    )
    assert result.returncode == 1
    assert RESULT.fullmatch(result.stdout.strip())[2] == "3"  # training went on
    assert gpunet.load(tmp_path / "s.npz").epochs_trained == 3
    assert result.stderr == "gpunet train: --metrics: /dev/full: cannot be written: No space left on device\n"


def test_the_result_is_printed_even_if_files_cannot_be_written(small_npz: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(small_npz.parent)

    def full(path: Path, content: bytes) -> None:
        raise OutputError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(files, "write_bytes", full)
    options = ["--data", "blobs.npz", "--batch-size", "9", "--epochs", "2", "--hidden", "5", "--device", "cpu"]
    status = train.main([*options, "--save", "s.npz", "--plot", "p.png", "--metrics", "m", "--quiet"])
    out, err = capsys.readouterr()
    assert status == 1
    assert RESULT.fullmatch(out.strip())
    assert err.splitlines() == [
        "gpunet train: --save: s.npz: cannot be written: No space left on device; the model could not be saved "
        "elsewhere either",
        "gpunet train: --plot: p.png: cannot be written: No space left on device",
    ]
    assert len(Path("m").read_text().splitlines()) == 3


def test_a_closed_output_does_not_lose_the_model(small_npz: Path, tmp_path: Path) -> None:
    line = f"{sys.executable} -m gpunet.train --data {small_npz} --batch-size 9 --quiet --save s.npz > /dev/full"
    result = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=command_environment(), capture_output=True, text=True, check=False
    )
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1)
    assert gpunet.load(tmp_path / "s.npz").epochs_trained == 20


def test_output_that_cannot_be_encoded_does_not_stop_training(tmp_path: Path, small_npz: Path) -> None:
    path = tmp_path / "ünï côde.npz"
    path.write_bytes(small_npz.read_bytes())
    line = f"'{sys.executable}' -m gpunet.train --data '{path}' --batch-size 9 --epochs 1"
    for redirection, encoding in ((">&-", "utf-8"), (">out", "ascii"), ("2>&- >&-", "utf-8")):
        environment = {**command_environment(), "PYTHONIOENCODING": encoding}
        result = subprocess.run(
            ["bash", "-c", f"{line} {redirection}"], cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert (result.returncode, result.stderr) == (0, b""), redirection


def test_ctrl_c_ends_cleanly_with_the_results_so_far(tmp_path: Path) -> None:
    files = ["--metrics", "m.jsonl", "--plot", "p.png", "--save", "s.npz"]
    words = ["gpunet.train", "--epochs", 1000, "--hidden", 20, *files]
    status, rest, errors, _ = interrupted(words, signal.SIGINT, "epoch    2", tmp_path, pause=0.1)
    assert (status, errors) == (130, "")
    epochs = int(re.search(r"^interrupted after (\d+) epochs: .* updates", rest, re.MULTILINE).group(1))
    assert epochs >= 2
    records = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, epochs + 1))
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    assert rest.splitlines()[-1].endswith("; the model as of then is in s.npz")
    assert gpunet.load(tmp_path / "s.npz").epochs_trained == epochs


def test_a_closed_pipe_ends_without_a_traceback(tmp_path: Path, small_npz: Path) -> None:
    line = f"{sys.executable} -u -m gpunet.train --data {small_npz} --batch-size 9 --epochs 300 | head -n 1"
    result = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=command_environment(), capture_output=True, text=True, check=False
    )
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == ""


@pytest.mark.parametrize("redirection", ["| head -n 1", "2>&1 | head -n 1"])
def test_a_closed_pipe_stops_only_the_printing(tmp_path: Path, small_npz: Path, redirection: str) -> None:
    options = "--batch-size 9 --epochs 300 --hidden 5 --save s.npz --engine reference"
    line = f"{sys.executable} -u -m gpunet.train --data {small_npz} {options} {redirection}; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=command_environment(), capture_output=True, text=True, check=False
    )
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 1)
    told = "gpunet train: standard output cannot be written: its reader has gone; the work continues\n"
    assert result.stderr == ("" if "2>" in redirection else told)
    assert gpunet.load(tmp_path / "s.npz").epochs_trained == 300


def test_a_full_output_stops_only_the_printing(tmp_path: Path, small_npz: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    line = f"{sys.executable} -m gpunet.train --data {small_npz} --batch-size 9 --epochs 3 --save s.npz > /dev/full"
    result = subprocess.run(
        ["bash", "-c", line], cwd=tmp_path, env=command_environment(), capture_output=True, text=True, check=False
    )
    told = "gpunet train: standard output cannot be written: No space left on device; the work continues\n"
    assert (result.returncode, result.stderr) == (1, told)
    assert gpunet.load(tmp_path / "s.npz").epochs_trained == 3


QUICK = ["--data", "blobs.npz", "--batch-size", "9", "--hidden", "5", "--engine", "reference", "--quiet"]


def test_a_model_that_cannot_be_written_in_the_end_is_written_beside_it(small_npz: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(small_npz.parent)
    evaluate = gpunet.Sequential.evaluate

    def protect_then_evaluate(*arguments: object) -> list[float]:
        Path("s.npz").touch(mode=0o444)
        return evaluate(*arguments)

    monkeypatch.setattr(gpunet.Sequential, "evaluate", protect_then_evaluate)
    assert train.main([*QUICK, "--epochs", "2", "--save", "s.npz"]) == 1
    out, err = capsys.readouterr()
    assert RESULT.fullmatch(out.strip())
    told = (
        r"gpunet train: --save: s\.npz: cannot be written: the file is write-protected; the model is in (\S+) instead\n"
    )
    place = Path(re.fullmatch(told, err).group(1))
    assert place.parent == Path()
    assert gpunet.load(place).epochs_trained == 2


def test_a_model_whose_folder_went_away_is_among_the_temporary_files(small_npz: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(small_npz.parent)
    evaluate = gpunet.Sequential.evaluate
    Path("folder").mkdir()

    def remove_then_evaluate(*arguments: object) -> list[float]:
        shutil.rmtree("folder")  # with the lock that the training keeps in it
        return evaluate(*arguments)

    monkeypatch.setattr(gpunet.Sequential, "evaluate", remove_then_evaluate)
    monkeypatch.setattr(files.tempfile, "gettempdir", os.getcwd)
    assert train.main([*QUICK, "--epochs", "2", "--save", "folder/s.npz"]) == 1
    told = r"gpunet train: --save: folder/s\.npz: cannot be written: No such file or directory; the model is in (\S+) "
    place = Path(re.match(told, capsys.readouterr().err).group(1))
    assert place.parent == Path.cwd()
    assert gpunet.load(place).epochs_trained == 2


def test_a_disk_without_space_for_the_model_is_refused_before_training(small_npz: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(small_npz.parent)
    usage = files.shutil.disk_usage(".")
    for room, status in ((4 * (8 * 5 + 5 + 5 * 3 + 3) - 1, 2), (10**6, 0)):
        monkeypatch.setattr(files.shutil, "disk_usage", lambda _, room=room: usage._replace(free=room))
        assert train.main([*QUICK, "--epochs", "1", "--save", "s.npz"]) == status
        out, err = capsys.readouterr()
        assert bool(out) == (status == 0)
        told = "gpunet train: --save: s.npz: needs 252 bytes, but the disk has 251 free"
        assert err.startswith(told if status else "")


def test_only_metrics_go_to_standard_output(small_npz: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(small_npz.parent)
    assert train.main([*QUICK[:-1], "--epochs", "2", "--metrics", "-"]) == 0
    out, err = capsys.readouterr()
    assert [json.loads(line).get("epoch") for line in out.splitlines()] == [1, 2, None]
    assert [line.split()[0] for line in err.splitlines()] == ["device", "data", "model", "epoch", "epoch", "test"]
    assert os.listdir() == ["blobs.npz"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(("updates", "epochs"), [(3, 0), (9, 1), (13, 2)])
def test_a_signal_saves_the_model_of_the_last_complete_epoch(
    small_npz: Path, monkeypatch, capsys, number: int, status: int, updates: int, epochs: int
) -> None:
    monkeypatch.chdir(small_npz.parent)
    update, made = ReferenceEngine.update, []

    def counting_update(*arguments: object) -> object:
        made.append(1)
        if len(made) == updates:
            signal.raise_signal(number)
        return update(*arguments)

    monkeypatch.setattr(ReferenceEngine, "update", counting_update)
    constant = ["--schedule", "constant"]  # the first epochs are then the same, however many follow
    assert train.main([*QUICK, *constant, "--epochs", "5", "--save", "s.npz"]) == status
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"interrupted after {epochs} epoch")
    if not epochs:
        assert out.endswith("; nothing was saved: no epoch finished\n")
        assert os.listdir() == ["blobs.npz"]
        return
    assert out.endswith("; the model as of then is in s.npz\n")
    saved = gpunet.load("s.npz")
    assert saved.epochs_trained == epochs
    monkeypatch.setattr(ReferenceEngine, "update", update)
    assert train.main([*QUICK, *constant, "--epochs", str(epochs), "--save", "whole.npz"]) == 0
    whole = gpunet.load("whole.npz")
    assert all(np.array_equal(a, b) for a, b in zip(saved.get_weights(), whole.get_weights(), strict=True))


def test_progress_bar_on_a_terminal_and_none_elsewhere(tmp_path: Path, small_npz: Path) -> None:
    words = ["gpunet.train", "--data", small_npz, "--batch-size", 1, "--epochs", 2]
    status, text = on_a_terminal(words, tmp_path)
    assert status == 0
    assert "0/50" in text
    assert "%|" in text
    assert "test accuracy" in text


def test_version_and_help(command: Command) -> None:
    assert command("gpunet.train", "--version").stdout == f"gpunet {gpunet.__version__}\n"
    assert "--batch-size" in command("gpunet.train", "--help").stdout


def test_cuda_without_a_gpu_is_one_clear_line_and_status_2(command: Command, small_npz: Path) -> None:
    result = command("gpunet.train", "--data", small_npz, "--batch-size", 9, "--device", "cuda", "--quiet")
    if result.returncode == 0:
        pytest.skip("this machine has a usable GPU")
    assert (result.returncode, result.stdout) == (2, "")
    assert re.fullmatch(r"gpunet train: device cuda: .*\n", result.stderr)
