"""L2: how a layer is given it, what the losses report, and how files, checkpoints and the command line keep it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import gpunet
from gpunet import L2, ArgumentError, Dense, Sequential
from gpunet.saving import formats as formats_of_files
from gpunet.session import Session

SIZES = {"0.weight": 48, "0.bias": 6, "2.weight": 18, "2.bias": 3}
INTEGER = "sparse_categorical_crossentropy"


def new_model(one: object = 0.01, other: object = 0.1) -> Sequential:
    penalties = [L2(value) if isinstance(value, float) else value for value in (one, other)]
    layers = [
        Dense(6, "tanh", input_dim=8, kernel_regularizer=penalties[0]),
        Dense(3, "softmax", kernel_regularizer=penalties[1]),
    ]
    model = Sequential(layers, seed=0)
    model.compile("sgd", INTEGER, engine="reference")
    return model


def squares(model: Sequential, one: float = 0.01, other: float = 0.1) -> float:
    first, _, second, _ = (array.astype(np.float64) for array in model.get_weights())
    return float(one * (first**2).sum() + other * (second**2).sum())


def test_losses_include_the_penalty_as_in_keras(blobs) -> None:
    x, y = blobs
    model, plain = new_model(), new_model(None, None)
    history = model.fit(x, y, batch_size=60, epochs=1, validation_data=(x, y), verbose=0).history
    plain.set_weights(model.get_weights())
    without = plain.evaluate(x, y)
    assert model.evaluate(x, y) == pytest.approx([without[0] + squares(model), without[1]], rel=1e-6)
    assert history["val_loss"] == [model.evaluate(x, y)[0]]
    first = new_model(None, None).fit(x, y, batch_size=60, epochs=1, verbose=0).history["loss"][0]
    assert history["loss"] == [pytest.approx(first + squares(model), rel=1e-6)]


def test_without_a_penalty_no_weights_are_copied_to_evaluate(blobs, monkeypatch) -> None:
    model = new_model(None, None)
    model.fit(*blobs, verbose=0)
    monkeypatch.setattr(Session, "weights", property(lambda session: pytest.fail("copied")))
    model.evaluate(*blobs)


def test_a_penalty_makes_weights_smaller(blobs) -> None:
    sizes = []
    for penalty in (None, 5.0):
        model = new_model(penalty, penalty)
        model.fit(*blobs, batch_size=10, epochs=5, verbose=0)
        sizes.append(np.abs(model.get_weights()[0]).sum())
    assert sizes[1] < 0.5 * sizes[0]


def test_l2_by_name_and_class_is_keras_default() -> None:
    assert Dense(3, kernel_regularizer="l2").kernel_regularizer == Dense(3, kernel_regularizer=L2()).kernel_regularizer
    assert L2().l2 == 0.01
    assert Dense(3).kernel_regularizer is None
    assert gpunet.layers.network_of([Dense(3, "softmax", input_dim=2, kernel_regularizer=L2(0))]).l2 == ()


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_files_keep_penalties_in_a_format_that_older_versions_refuse(blobs, tmp_path: Path, suffix: str) -> None:
    model = new_model()
    model.fit(*blobs, epochs=1, verbose=0)
    path = tmp_path / f"model{suffix}"
    model.save(path, include_optimizer=True)
    again = gpunet.load(path, engine="reference")
    assert again.network == model.network
    assert again.network.l2 == (0.01, 0.1)
    for one in (model, again):
        one.fit(*blobs, epochs=1, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], again.get_weights()[0])


def test_only_files_with_a_penalty_need_the_new_format(blobs, tmp_path: Path) -> None:
    formats = []
    for penalty in (None, 0.1):
        model = new_model(penalty, penalty)
        model.fit(*blobs, epochs=1, verbose=0)
        model.save(tmp_path / "model.npz")
        text = formats_of_files.read(tmp_path / "model.npz", lambda _: SIZES).text
        formats.append(json.loads(text)["format"])
    assert formats == [1, 2]


FAULTS = {
    "below 0": (lambda: L2(-0.1), r"L2: l2: expected a number from 0 to 1e\+30, got -0.1$"),
    "not finite": (lambda: L2(np.inf), "L2: l2: expected a finite number, got inf$"),
    "text": (lambda: L2("0.1"), "L2: l2: expected a finite number, got '0.1'$"),
    "another name": (lambda: Dense(3, kernel_regularizer="l1"), r"Dense: kernel_regularizer: .* None; got 'l1'$"),
    "a number": (lambda: Dense(3, kernel_regularizer=0.1), r"Dense: kernel_regularizer: .*; got 0.1$"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_penalty_is_one_line(fault: str) -> None:
    call, message = FAULTS[fault]
    with pytest.raises(ArgumentError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_command_line_trains_with_it_and_refuses_what_is_none(in_process, small_npz: Path, tmp_path: Path) -> None:
    common = ["--data", small_npz, "--hidden", "6", "--batch-size", "7", "--device", "cpu", "--engine", "reference"]
    in_process("gpunet", "train", *common, "--epochs", "3", "--l2", "0.01", "--checkpoint", "whole.npz")
    whole = gpunet.load(tmp_path / "whole.npz")
    assert whole.network.l2 == (0.01, 0.01)
    bad = in_process("gpunet", "train", *common, "--l2", "-1")
    assert bad.returncode == 2
    assert bad.stderr.splitlines()[-1].endswith("L2: l2: expected a number from 0 to 1e+30, got -1.0")
