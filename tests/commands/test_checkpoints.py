"""`--checkpoint` and `--resume`: training that ends early continues as if it had not."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet
from conftest import Command, command_environment
from gpunet import files, interruption, resume, saving, train, training_options
from gpunet.commandline import Option
from gpunet.engines.reference import ReferenceEngine
from gpunet.errors import OutputError
from gpunet.interruption import Interruption
from support.commands import interrupted

model_of = training_options.model_of

OPTIONS = {
    "adam-linear": ["--hidden", "6", "5"],
    "adam-constant": ["--schedule", "constant", "--activation", "tanh", "--hidden", "6", "--seed", "3"],
    "momentum": ["--optimizer", "sgd", "--momentum", "0.9", "--learning-rate", "0.05", "--hidden"],
    "sgd": ["--optimizer", "sgd", "--hidden", "6"],
    "nesterov": ["--optimizer", "sgd", "--momentum", "0.9", "--nesterov", "--hidden", "6"],
    "adamw": ["--optimizer", "adamw", "--weight-decay", "0.05", "--hidden", "6"],
    "regularized": ["--dropout", "0.3", "--l2", "0.001", "--hidden", "6", "5"],
}


@pytest.fixture
def run(small_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> Any:
    """The command in this process: exit status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, data: bool = True) -> tuple[int, str, str]:
        given = ["--data", "blobs.npz", "--batch-size", "9", "--device", "cpu"] if data else []
        try:
            status = train.main([*map(str, arguments), *given])
        except SystemExit as exit_:
            status = exit_.code
        return status, *capsys.readouterr()

    return call


def same_training(one: str | Path, other: str | Path) -> bool:
    """Weights, optimizer state, position and settings; all but the path of the data."""
    first, second = saving.read(one), saving.read(other)
    for saved in (first, second):
        saved.data = dataclasses.replace(saved.data, path=None)
    slots = first.optimizer_state.slots
    assert slots.keys() == second.optimizer_state.slots.keys()
    arrays = [*zip(first.weights, second.weights, strict=True)]
    for slot in slots:
        arrays += zip(slots[slot], second.optimizer_state.slots[slot], strict=True)
    for saved in (first, second):
        saved.weights, saved.optimizer_state.slots = [], {}
    return first == second and all(np.array_equal(a, b) for a, b in arrays)


def signal_after(updates: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process gets a signal after this many updates."""
    update, made = ReferenceEngine.update, []

    def counting_update(self: ReferenceEngine, *batch: Any) -> Any:
        made.append(1)
        if len(made) == updates:
            signal.raise_signal(number)
        return update(self, *batch)

    monkeypatch.setattr(ReferenceEngine, "update", counting_update)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("updates", [3, 18, 25])  # in the first epoch, at the end of the third, in the fifth
def test_resumed_training_ends_with_the_same_bits(run, monkeypatch, options: str, updates: int) -> None:
    engine = ["--engine", "reference"]  # it comes up after every update
    words = [*OPTIONS[options], "--epochs", 7, *engine]
    status, whole, _ = run(*words, "--checkpoint", "whole.npz")
    assert status == 0
    with monkeypatch.context() as patch:
        signal_after(updates, signal.SIGTERM, patch)
        status, out, err = run(*words, "--checkpoint", "part.safetensors", "--checkpoint-every", 3)
    assert (status, err) == (143, "")
    assert out.splitlines()[-1].endswith("; continue with --resume part.safetensors")
    epochs = (updates - 1) // 6  # without the unfinished epoch, unless it was at its last update
    position = gpunet.load("part.safetensors").epochs_trained
    assert position in (epochs, epochs + 1)
    status, out, err = run("--resume", "part.safetensors", *engine, data=False)
    assert (status, err) == (0, "")
    assert f"resume  part.safetensors: {position} of 7 epochs are done" in out
    assert out.splitlines()[-1].split(", after")[0] == whole.splitlines()[-1].split(", after")[0]
    assert same_training("whole.npz", "part.safetensors")


def test_options_that_agree_may_be_repeated(run) -> None:
    run("--epochs", 2, "--hidden", 6, "--checkpoint", "a.npz")
    assert run("--resume", "a.npz", "--epochs", 2, "--hidden", 6, "--learning-rate", 0.002)[0] == 0


def test_a_checkpoint_holds_exactly_the_options_that_affect_the_weights(run) -> None:
    """`gpunet train` has no other options except these, which do not affect them."""
    others = "data target device engine threads metrics save plot checkpoint checkpoint_every resume from quiet"
    deciding = {option.name for option in training_options.of_a_training()}
    assert {action.dest for action in train._parser()._actions} == deciding | {*others.split(), "help", "version"}
    run("--epochs", 2, "--checkpoint", "a.npz")
    assert saving.read("a.npz").training["settings"].keys() == deciding


def test_an_option_is_added_in_one_place(run, monkeypatch) -> None:
    """A checkpoint older than the option continues as it began: without it."""
    run("--epochs", 2, "--checkpoint", "old.npz")
    newcomer = Option("--noise", type=float, metavar="SHARE", help="of the hidden units")
    monkeypatch.setattr(training_options, "OPTIONS", (*training_options.OPTIONS, newcomer))
    run("--epochs", 2, "--checkpoint", "a.npz", "--noise", "0.25")
    assert saving.read("a.npz").training["settings"]["noise"] == 0.25
    taken = []
    monkeypatch.setattr(
        training_options, "model_of", lambda options, data: (taken.append(options.noise), model_of(options, data))[1]
    )
    assert run("--resume", "a.npz", data=False)[0] == 0
    assert run("--resume", "old.npz", data=False)[0] == 0
    assert taken == [0.25, None]
    assert "--noise: 0.5 contradicts a.npz, which was started with 0.25" in run("--resume", "a.npz", "--noise=0.5")[2]


def test_a_finished_training_only_reports_its_result_again(run) -> None:
    _, first, _ = run("--epochs", 2, "--checkpoint", "a.npz", "--quiet")
    Path("before.npz").write_bytes(Path("a.npz").read_bytes())
    status, second, _ = run("--resume", "a.npz", "--quiet", data=False)
    assert (status, second.split(", after")[0]) == (0, first.split(", after")[0])
    assert ", after 2 epochs (0 now)\n" in second
    assert Path("a.npz").read_bytes() == Path("before.npz").read_bytes()


def test_a_finished_training_is_not_written_again(run, monkeypatch) -> None:
    run("--epochs", 2, "--checkpoint", "a.npz")
    monkeypatch.setattr(saving, "write", None)  # a folder that is read only would refuse it
    assert run("--resume", "a.npz")[0] == 0


def test_resuming_with_another_engine_is_reported(run) -> None:
    run("--epochs", 2, "--checkpoint", "a.npz", "--engine", "reference")
    saved = saving.read("a.npz")
    assert saved.training["engine"] == "reference"
    assert resume.another_engine(saved, "reference") is None
    assert resume.another_engine(saved, "tiled") == "reference"
    saving.write("b.npz", dataclasses.replace(saved, training={**saved.training, "engine": "tiled"}))
    assert "started with engine tiled, continues with" in run("--resume", "b.npz")[1]
    assert "continues with" not in run("--resume", "a.npz", "--engine", "reference")[1]


def test_checkpoints_are_saved_every_few_epochs_and_at_the_end(run, monkeypatch) -> None:
    saved, write = [], saving.write
    monkeypatch.setattr(saving, "write", lambda path, model: (saved.append(model.epochs_trained), write(path, model)))
    run("--epochs", 7, "--checkpoint", "a.npz", "--checkpoint-every", 3)
    assert saved == [0, 3, 6, 7]


def test_resume_can_save_elsewhere(run) -> None:
    run("--epochs", 2, "--checkpoint", "a.npz")
    content = Path("a.npz").read_bytes()
    assert run("--resume", "a.npz", "--checkpoint", "b.npz")[0] == 0
    assert Path("a.npz").read_bytes() == content
    assert same_training("a.npz", "b.npz")


def test_metrics_are_appended(run) -> None:
    run("--epochs", 2, "--checkpoint", "a.npz", "--metrics", "m")
    run("--resume", "a.npz", "--metrics", "m")
    assert len(Path("m").read_text().splitlines()) == 2 + 1 + 1


def test_a_checkpoint_is_a_model_like_any_other(run, blobs) -> None:
    run("--epochs", 2, "--checkpoint", "a.npz")
    model = gpunet.load("a.npz", device="cpu")
    assert model.optimizer_state.updates == 2 * 6
    model.fit(*blobs, verbose=0)
    assert model.epochs_trained == 3


FAULTS = {
    "epochs": (["--resume", "a.npz", "--epochs", 1], "--epochs: a.npz has 2 epochs done, got 1; expected as"),
    "hidden": (["--resume", "a.npz", "--hidden"], "--hidden: none contradicts a.npz, which was started with 500 500"),
    "rate": (["--resume", "a.npz", "--learning-rate", 0.1], "--learning-rate: 0.1 contradicts a.npz, .* with 0.002"),
    "exists": (["--checkpoint", "a.npz"], "--checkpoint: a.npz exists; resume it with --resume a.npz, or choose"),
    "elsewhere": (["--resume", "a.npz", "--checkpoint", "m.npz"], "--checkpoint: m.npz exists"),
    "suffix": (["--checkpoint", "a.ckpt"], r"a.ckpt: expected a name that ends in \.safetensors"),
    "empty": (["--checkpoint", ""], r"expected a name that ends in \.safetensors"),
    "every": (["--checkpoint-every", 2], "--checkpoint-every: expected with --checkpoint or --resume"),
    "every-0": (["--checkpoint", "b.npz", "--checkpoint-every", 0], "--checkpoint-every: expected a whole number"),
    "nesterov": (["--resume", "a.npz", "--nesterov"], "--nesterov: yes contradicts a.npz, which was started with none"),
    "missing": (["--resume", "none.npz"], "none.npz: no such file"),
    "model": (["--resume", "m.npz"], "--resume: m.npz holds a model, but no training to resume"),
    "cut": (["--resume", "cut.npz"], "cut.npz: damaged, truncated or not an .npz file"),
    "data": (["--resume", "a.npz", "--data", "other.npz"], "a.npz was trained on other data than other.npz"),
    "metrics": (["--resume", "a.npz", "--metrics", "./a.npz"], "--metrics: ./a.npz is also the file of --resume"),
    "same": (["--checkpoint", "b.npz", "--metrics", "b.npz"], "--checkpoint: b.npz is also the file of --metrics"),
    "folder": (["--checkpoint", "none/b.npz"], "--checkpoint: none/b.npz: no such folder"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_unusable_checkpoints_and_options_are_one_clear_line(run, blobs, fault: str) -> None:
    run("--epochs", 2, "--checkpoint", "a.npz", "--quiet")
    gpunet.Sequential([gpunet.Dense(3, "softmax", input_dim=8)]).save("m.npz")
    whole = Path("a.npz").read_bytes()
    Path("cut.npz").write_bytes(whole[:-50])
    x, y = blobs
    np.savez("other.npz", x_train=x + 1, y_train=y, x_test=x[:12], y_test=y[:12])
    options, message = FAULTS[fault]
    status, out, err = run("--quiet", "--device", "cpu", *options, data="--resume" not in options)
    assert (status, out) == (2, "")
    assert re.match(f"gpunet train: .*{message}", err)
    assert len(err.splitlines()) == 1
    assert Path("a.npz").read_bytes() == whole


def test_settings_edited_by_hand_are_refused(run) -> None:
    run("--epochs", 2, "--checkpoint", "a.npz")
    good = saving.read("a.npz")
    settings = good.training["settings"]
    for changes, message in (
        ({"epochs": 1}, "the training's position is missing or beyond its end"),
        ({"activation": "--version"}, "argument --activation: invalid choice"),
        ({"hidden": ["--quiet"]}, "no training to resume"),
        ({"epochs": {}}, "argument --epochs: expected a whole number"),
    ):
        good.training["settings"] = {**settings, **changes}
        saving.write("a.npz", good)
        status, _, err = run("--resume", "a.npz", data=False)
        assert (status, len(err.splitlines())) == (2, 1)
        assert message in err
    good.data = None
    for data in ({"path": 5, "sha256": ""}, {"path": None}, {}, 3, None):
        good.training = {"settings": settings, "data": data}
        saving.write("a.npz", good)
        assert "no training to resume" in run("--resume", "a.npz", data=False)[2]


def test_the_data_is_in_a_checkpoint_once_and_an_older_one_can_be_resumed(run) -> None:
    for epochs, name in ((3, "whole.npz"), (2, "a.npz")):
        run("--epochs", epochs, "--checkpoint", name, "--schedule", "constant")
    assert saving.read("whole.npz").training.keys() == {"settings", "engine"}
    saved = saving.read("a.npz")
    saved.training["settings"]["epochs"] = 3
    saved.training["data"] = {"path": saved.data.path, "sha256": saved.data.sha256}
    saving.write("older.npz", dataclasses.replace(saved, data=None))
    assert run("--resume", "older.npz", data=False)[0] == 0
    assert same_training("older.npz", "whole.npz")


def test_missing_data_that_the_checkpoint_names_is_one_clear_line(run, monkeypatch, tmp_path: Path) -> None:
    run("--epochs", 2, "--checkpoint", "a.npz")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    status, _, err = run("--resume", "../a.npz", data=False)
    assert status == 2
    assert "blobs.npz: no such file" in err
    assert err.endswith("the path is from ../a.npz, --data gives another one\n")


def test_a_checkpoint_that_another_training_owns_is_refused(run) -> None:
    run("--epochs", 2, "--checkpoint", "a.npz", "--quiet")
    for option, path, others in (
        ("--resume", "a.npz", []),
        ("--checkpoint", "b.npz", ["--resume", "a.npz"]),
        ("--save", "a.npz", []),  # would take the checkpoint's place
        ("--save", "c.npz", ["--resume", "a.npz"]),
    ):
        with files.owned(option, path):
            status, out, err = run(option, path, *others, "--quiet", data=False)
        assert (status, out) == (2, "")
        assert (
            err == f"gpunet train: {option}: {path}: another training is saving to it; wait until it ends, "
            "or choose another name\n"
        )
    assert run("--resume", "a.npz", "--checkpoint", "b.npz", "--quiet")[0] == 0
    assert sorted(os.listdir()) == ["a.npz", "b.npz", "blobs.npz"]


def test_a_protected_checkpoint_is_refused_before_training(run, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        signal_after(3, signal.SIGTERM, patch)
        run("--epochs", 2, "--checkpoint", "a.npz", "--engine", "reference")
    os.chmod("a.npz", 0o444)
    status, out, err = run("--resume", "a.npz", "--quiet")
    assert (status, out) == (2, "")
    assert err == "gpunet train: --resume: a.npz: the file is write-protected; choose another name\n"


def test_a_checkpoint_that_cannot_be_written_in_the_end_is_saved_beside_it(run, monkeypatch) -> None:
    write = saving.write

    def protected_later(path: Any, saved: saving.Saved) -> None:
        if str(path) == "a.npz" and saved.epochs_trained == 2:
            raise OutputError(f"{path}: cannot be written: No space left on device")
        write(path, saved)

    monkeypatch.setattr(saving, "write", protected_later)
    status, _, err = run("--epochs", 2, "--checkpoint", "a.npz", "--quiet")
    assert status == 1
    place = re.fullmatch(
        r"gpunet train: --checkpoint: a\.npz: cannot be written: No space left on device; "
        r"continue with --resume (\S+)\n",
        err,
    ).group(1)
    assert saving.read(place).epochs_trained == 2
    assert run("--resume", place, "--quiet")[0] == 0


# Signals, to real processes.


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"])
def test_a_signal_saves_first(small_npz: Path, tmp_path: Path, command: Command, number: int, status: int) -> None:
    words = ["gpunet.train", "--data", small_npz, "--batch-size", 9, "--epochs", 100000, "--hidden", 6]
    words += ["--checkpoint", "a.npz", "--checkpoint-every", 50000]
    ended = interrupted(words, number, "epoch    200", tmp_path)
    assert (ended.status, ended.errors) == (status, "")
    epochs = int(
        re.search(r"^interrupted after (\d+) epochs: .*; continue with --resume .*$", ended.output, re.MULTILINE).group(
            1
        )
    )
    assert 200 <= epochs == gpunet.load(tmp_path / "a.npz").epochs_trained


def test_two_signals_at_once_count_as_one(run, monkeypatch) -> None:
    """A later one ends the command at once: what was not saved by then is lost."""
    for gap, position in ((0, 2), (60, 0)):
        clock = iter([0.0, float(gap)])
        with monkeypatch.context() as patch:
            signal_after(14, signal.SIGTERM, patch)
            patch.setattr(interruption.time, "monotonic", lambda clock=clock: next(clock))
            patch.setattr(Interruption, "heed", heed_after_another(signal.SIGTERM))
            status, _, err = run(
                "--epochs", 7, "--engine", "reference", "--checkpoint", f"{gap}.npz", "--checkpoint-every", 7
            )
        assert (status, err) == (143, "")
        assert gpunet.load(f"{gap}.npz").epochs_trained == position


def test_a_signal_does_not_wait_for_the_end_of_the_epoch(run, monkeypatch) -> None:
    updates, update = [], ReferenceEngine.update
    monkeypatch.setattr(ReferenceEngine, "update", lambda *a: (updates.append(1), update(*a))[1])
    signal_after(8, signal.SIGTERM, monkeypatch)  # the second of the second epoch's six
    run("--epochs", 7, "--checkpoint", "a.npz", "--engine", "reference")
    assert len(updates) == 8
    assert gpunet.load("a.npz").epochs_trained == 1


def heed_after_another(number: int) -> Any:
    heed = Interruption.heed

    def another_then_heed(self: Interruption) -> None:
        if self.signal is not None and not self.at_once:
            signal.raise_signal(number)
        heed(self)

    return another_then_heed


def test_killed_at_any_moment_the_checkpoint_always_loads(small_npz: Path, tmp_path: Path, command: Command) -> None:
    """SIGKILL fifty times; training resumed after each ends with the same bits as an undisturbed training."""
    path = tmp_path / "a.safetensors"
    driver = Path(__file__).parents[1] / "support" / "killed_often.py"
    result = subprocess.run(
        [sys.executable, driver, small_npz, path, "50"],
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    positions = [int(line) for line in result.stdout.split()]
    assert positions == sorted(positions)
    assert len(positions) == 50
    assert 0 < positions[-1] < 4000
    assert (
        command(
            "gpunet.train", "--resume", path, "--checkpoint-every", 1000, "--quiet", "--engine", "reference"
        ).returncode
        == 0
    )
    words = [
        "--data",
        small_npz,
        "--batch-size",
        9,
        "--epochs",
        4000,
        "--hidden",
        16,
        "--quiet",
        "--engine",
        "reference",
    ]
    result = command("gpunet.train", *words, "--checkpoint", "whole.npz", "--checkpoint-every", 1000)
    assert result.returncode == 0
    assert same_training(path, tmp_path / "whole.npz")
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "blobs.npz", "whole.npz"]
