"""Training longer and better: more epochs, another model's weights, the best epoch's, and an early end."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet
from gpunet import saving, train
from gpunet.callbacks import Callback
from gpunet.callbacks.best_epoch import BestEpoch


@pytest.fixture
def run(small_npz: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`gpunet train` on the blobs in this process: exit status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            status = train.main(["--data", "blobs.npz", "--device", "cpu", *map(str, arguments)])
        except SystemExit as exit_:
            status = exit_.code
        return status, *capsys.readouterr()

    return call


def same_weights(one: str, other: str) -> bool:
    pairs = zip(saving.read(one).weights, saving.read(other).weights, strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


RESTLESS = ["--hidden", 6, "--batch-size", 5, "--learning-rate", 1, "--epochs", 12, "--schedule", "constant"]


def test_a_finished_training_goes_on_to_more_epochs_with_the_same_bits(run: Any) -> None:
    options = ["--hidden", 6, "--batch-size", 9, "--schedule", "constant"]
    run(*options, "--epochs", 5, "--save", "whole.npz")
    run(*options, "--epochs", 2, "--checkpoint", "c.npz")
    assert run("--resume", "c.npz", "--epochs", 5)[0] == 0
    assert same_weights("c.npz", "whole.npz")
    assert saving.read("c.npz").training["settings"]["epochs"] == 5
    status, _, err = run("--resume", "c.npz", "--epochs", 3)
    assert (status, err.count("\n")) == (2, 1)
    assert "--epochs: c.npz has 5 epochs done, got 3; expected as many or more" in err


def test_no_epochs_train_nothing(run: Any) -> None:
    status, out, err = run("--hidden", 6, "--epochs", 0, "--save", "m.npz", "--seed", 3)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].endswith("after 0 epochs")
    model = gpunet.Sequential([gpunet.Dense(6, "sigmoid", input_dim=8), gpunet.Dense(3, "softmax")], seed=3)
    for mine, theirs in zip(gpunet.load("m.npz").get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_plot_of_no_epochs_is_said_to_be_left_out(run: Any) -> None:
    status, _, err = run("--hidden", 6, "--epochs", 0, "--plot", "p.png", "--quiet")
    assert (status, err) == (0, "gpunet train: --plot: no epoch was trained, so p.png is not written\n")
    assert not Path("p.png").exists()


def test_a_large_batch_is_all_of_the_data(run: Any) -> None:
    for size, name in ((50, "a.npz"), (1000, "b.npz")):
        assert run("--hidden", 6, "--epochs", 2, "--batch-size", size, "--save", name)[0] == 0
    assert same_weights("a.npz", "b.npz")


def test_the_best_epoch_is_kept(run: Any) -> None:
    run(*RESTLESS, "--metrics", "m.jsonl", "--save", "last.npz")
    losses = [json.loads(line)["val_loss"] for line in Path("m.jsonl").read_text().splitlines()[:-1]]
    best = int(np.argmin(losses))
    assert best < 11  # otherwise this test shows nothing
    status, out, _ = run(*RESTLESS, "--keep", "best", "--save", "best.npz")
    assert status == 0
    assert f"best    epoch {best + 1}, validation loss {losses[best]:.4f}, is kept" in out
    run(*RESTLESS, "--epochs", best + 1, "--save", "short.npz")
    assert same_weights("best.npz", "short.npz")
    assert saving.read("best.npz").epochs_trained == best + 1
    assert saving.read("best.npz").scale == saving.read("short.npz").scale
    assert not same_weights("best.npz", "last.npz")


class StopAfter(Callback):
    """Ctrl-C at the end of an epoch."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("stop", [1, 2, 4])
@pytest.mark.parametrize("early", [[], ["--early-stopping", 3]], ids=["all", "early"])
def test_the_best_epoch_survives_an_interruption(run: Any, monkeypatch: Any, stop: int, early: list[Any]) -> None:
    options = [*RESTLESS, "--keep", "best", *early]
    run(*options, "--checkpoint", "c0.npz", "--save", "whole.npz")
    with monkeypatch.context() as patch:
        patch.setattr(train, "History", lambda: StopAfter(stop))
        assert run(*options, "--checkpoint", "c.npz")[0] == 130
    assert saving.read("c.npz").epochs_trained == stop
    assert run("--resume", "c.npz", "--save", "resumed.npz")[0] == 0
    assert same_weights("whole.npz", "resumed.npz")
    assert same_weights("c0.npz", "c.npz")  # the last epoch's, from which more could be trained
    assert saving.read("c.npz").training["best"] == saving.read("c0.npz").training["best"]


def test_an_interrupted_training_says_which_epoch_is_saved(run: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(train, "History", lambda: StopAfter(3))
    status, out, _ = run(*RESTLESS, "--keep", "best", "--save", "m.npz")
    assert status == 130
    assert f"; the model as of epoch {saving.read('m.npz').epochs_trained}, the best one, is in m.npz\n" in out


def test_early_stopping_ends_training_and_a_resumed_one_stays_ended(run: Any) -> None:
    status, out, _ = run(*RESTLESS, "--early-stopping", 2, "--checkpoint", "c.npz")
    assert status == 0
    saved = saving.read("c.npz")
    best = saved.training["best"]
    assert saved.epochs_trained == best["epochs"] + 2 < 12
    assert f"best    epoch {best['epochs']}; ended early: 2 epochs without a lower one" in out.replace(
        f", validation loss {best['loss']:.4f}", ""
    )
    assert saved.best_weights is None
    status, out, _ = run("--resume", "c.npz")
    assert (status, saving.read("c.npz").epochs_trained) == (0, saved.epochs_trained)
    assert "ended early" in out


def test_training_starts_from_another_model(run: Any) -> None:
    first = gpunet.Sequential(
        [gpunet.Dense(4, "relu", use_bias=False, input_dim=8), gpunet.Dense(5, "tanh"), gpunet.Dense(3, "softmax")],
        seed=1,
    )
    first.save("first.npz")
    assert run("--from", "first.npz", "--epochs", 0, "--save", "same.npz")[0] == 0
    assert same_weights("first.npz", "same.npz")
    options = ["--epochs", 3, "--batch-size", 9, "--seed", 4]
    assert run("--from", "first.npz", *options, "--save", "m.npz")[0] == 0
    assert saving.read("m.npz").network == first.network
    assert run("--from", "first.npz", *options, "--checkpoint", "c.npz")[0] == 0
    assert same_weights("m.npz", "c.npz")
    assert run("--resume", "c.npz", "--epochs", 4)[0] == 0  # without first.npz
    with np.load("blobs.npz") as data:
        x, y = data["x_train"], data["y_train"]
    model = gpunet.Sequential(
        [gpunet.Dense(4, "relu", use_bias=False), gpunet.Dense(5, "tanh"), gpunet.Dense(3, "softmax")], seed=4
    )
    model.load_weights("first.npz")
    model.compile(gpunet.Adam(0.002), "sparse_categorical_crossentropy", device="cpu")

    class Linear(Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.model.optimizer.learning_rate = 0.002 * (1 - epoch / 3)

    model.fit(x[:50], y[:50], batch_size=9, epochs=3, verbose=0, callbacks=[Linear()])
    for mine, theirs in zip(saving.read("m.npz").weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_classes_keep_the_numbers_of_the_model_to_start_from(run: Any, blobs: Any) -> None:
    x, y = blobs
    first = gpunet.Sequential([gpunet.Dense(3, "softmax", input_dim=8)], seed=1)
    first.class_names = ["c", "a", "b"]
    first.save("first.npz")
    names = np.array(["a", "b", "c"])[y]
    np.savez("blobs.npz", x_train=x, y_train=names, x_test=x[:9], y_test=names[:9])
    assert (
        run("--from", "first.npz", "--epochs", 9, "--learning-rate", 0.3, "--batch-size", 5, "--save", "m.npz")[0] == 0
    )
    loaded = gpunet.load("m.npz")
    assert loaded.class_names == ("c", "a", "b")
    assert loaded.evaluate(x, names)[1] > 0.9
    np.savez("blobs.npz", x_train=x, y_train=np.char.add(names, "x"), x_test=x[:9], y_test=np.char.add(names[:9], "x"))
    status, _, err = run("--from", "first.npz")
    assert (status, err.count("\n")) == (2, 1)
    assert "--from: first.npz: there is no class 'ax' in the model; its classes are c, a, b" in err


REFUSED = {
    "hidden": (["--from", "m.npz", "--hidden", "3"], "--hidden: not with --from, which takes the network of m.npz"),
    "activation": (["--from", "m.npz", "--activation", "relu"], "--activation: not with --from"),
    "resume": (["--from", "m.npz", "--resume", "m.npz"], "--from: not with --resume, which has its own weights"),
    "nothing": (["--from", "none.npz"], "none.npz: no such file"),
    "inputs": (["--from", "other.npz"], "--from: other.npz has 7 inputs and 3 classes, but the data has 8 and 3"),
    "itself": (["--from", "m.npz", "--save", "m.npz"], "--save: m.npz is also the file of --from; choose another"),
    "patience": (["--early-stopping", "0"], "argument --early-stopping: expected a whole number, 1 or above"),
    "keep": (["--keep", "worst"], "argument --keep: invalid choice: 'worst'"),
    "epochs": (["--epochs", "-1"], "argument --epochs: expected a whole number, 0 or above"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_line(run: Any, case: str) -> None:
    for inputs, name in ((8, "m.npz"), (7, "other.npz")):
        gpunet.Sequential([gpunet.Dense(3, "softmax", input_dim=inputs)]).save(name)
    before = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    status, out, err = run(*REFUSED[case][0])
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert REFUSED[case][1] in err
    assert {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()} == before


def test_a_checkpoint_whose_best_epoch_is_damaged_is_refused(run: Any) -> None:
    run("--hidden", 3, "--epochs", 1, "--keep", "best", "--checkpoint", "c.npz")
    saved = saving.read("c.npz")
    saving.write("c.npz", dataclasses.replace(saved, training={**saved.training, "best": {"loss": "low"}}))
    status, _, err = run("--resume", "c.npz")
    assert (status, err.count("\n")) == (2, 1)
    assert "--resume: c.npz: its best epoch cannot be read: " in err


def test_the_state_of_a_best_epoch_is_what_it_was() -> None:
    best = BestEpoch(False, 2)
    for epoch, loss in enumerate((0.5, 0.4, 0.6)):
        best.set_model(gpunet.Sequential())
        best.on_epoch_end(epoch, {"val_loss": loss})
    other = BestEpoch(False, 2)
    other.take(best.state, None)
    assert other.state == {"loss": 0.4, "epochs": 2, "waited": 1}
    assert (other.ended, BestEpoch(True, None).state) == (False, None)
