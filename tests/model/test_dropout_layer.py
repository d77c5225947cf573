"""Dropout as a layer: where it is allowed, what it does to training, and how files and commands keep it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

import gpunet
from gpunet import Activation, ArgumentError, Dense, Dropout, Sequential
from gpunet.layers import network_of

INTEGER = "sparse_categorical_crossentropy"
ENGINES = ["reference", "compiled"]


def new_model(rate: float = 0.4, engine: str = "reference", seed: int = 0) -> Sequential:
    layers = [
        Dense(16, "tanh", input_dim=8),
        Dropout(rate),
        Dense(12),
        Activation("relu"),
        Dropout(0.2),
        Dense(3, "softmax"),
    ]
    model = Sequential(layers, seed=seed)
    model.compile(gpunet.Adam(0.01), INTEGER, engine=engine)
    return model


def assert_same(one: Sequential, other: Sequential) -> None:
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("engine", ENGINES)
def test_same_seed_same_bits_and_every_epoch_drops_others(blobs, engine: str) -> None:
    x, y = blobs
    whole, parts, other = new_model(engine=engine), new_model(engine=engine), new_model(engine=engine, seed=1)
    other.set_weights(whole.get_weights())
    whole.fit(x, y, 7, 3, 0, shuffle=False)
    for _ in range(3):
        parts.fit(x, y, 7, 1, 0, shuffle=False)
    assert_same(whole, parts)
    other.fit(x, y, 7, 3, 0, shuffle=False)
    assert not np.array_equal(whole.get_weights()[0], other.get_weights()[0])
    losses = []
    for epoch in range(2):  # a rate of 0: the weights do not change, and the loss shows what was dropped
        still = new_model(engine=engine)
        still.optimizer.learning_rate = 0.0
        still.epochs_trained = epoch
        losses.append(still.fit(x, y, 7, 1, 0, shuffle=False).history["loss"][0])
    assert losses[0] != losses[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_dropped_in_predict_and_evaluate(blobs, engine: str) -> None:
    x, y = blobs
    model = new_model(engine=engine)
    model.fit(x, y, 7, 2, 0)
    plain = Sequential([Dense(16, "tanh", input_dim=8), Dense(12, "relu"), Dense(3, "softmax")])
    plain.compile("adam", INTEGER, engine=engine)
    plain.set_weights(model.get_weights())
    np.testing.assert_array_equal(model.predict(x), plain.predict(x))
    assert model.evaluate(x, y) == plain.evaluate(x, y)


def test_a_rate_of_0_is_no_dropout(blobs) -> None:
    layers = [Dense(4, "tanh", input_dim=8), Dropout(0), Dense(3, "softmax")]
    assert network_of(layers) == network_of([layers[0], layers[2]])


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_a_file_keeps_it_and_training_goes_on_with_the_same_bits(blobs, tmp_path: Path, suffix: str) -> None:
    x, y = blobs
    model = new_model()
    model.fit(x, y, 7, 2, 0)
    path = tmp_path / f"model{suffix}"
    model.save(path, include_optimizer=True)
    again = gpunet.load(path, engine="reference")
    assert again.network.dropout == (0.4, 0.2, 0.0)
    assert [repr(layer) for layer in again.layers if isinstance(layer, Dropout)] == ["Dropout(0.4)", "Dropout(0.2)"]
    copied = copy.deepcopy(model)
    for one in (model, again, copied):
        one.fit(x, y, 7, 2, 0)
        assert_same(one, model)


def test_weights_of_a_network_without_dropout_fit_one_with(blobs, tmp_path: Path) -> None:
    plain = Sequential([Dense(16, "tanh", input_dim=8), Dense(12, "relu"), Dense(3, "softmax")], seed=3)
    plain.save(tmp_path / "plain.npz")
    model = new_model()
    model.load_weights(tmp_path / "plain.npz")
    assert_same(model, plain)


def test_many_models_drop_what_each_alone_drops(blobs) -> None:
    models = [new_model(rate) for rate in (0.1, 0.6)]
    gpunet.fit_many(models, *blobs, 7, 2, 0)
    for rate, model in zip((0.1, 0.6), models, strict=True):
        alone = new_model(rate)
        alone.fit(*blobs, 7, 2, 0)
        assert_same(model, alone)


def test_summary_shows_it() -> None:
    lines: list[str] = []
    new_model().summary(lines.append)
    assert lines[2].split() == ["Dropout", "0.4", "(None,", "16)", "0"]


def dense(units: int = 3, activation: str = "softmax") -> Dense:
    return Dense(units, activation, input_dim=8)


FAULTS = {
    "1": (lambda: Dropout(1), "Dropout: rate: expected a share from 0 to below 1, got 1$"),
    "below 0": (lambda: Dropout(-0.1), "Dropout: rate: expected a share from 0 to below 1, got -0.1$"),
    "text": (lambda: Dropout("half"), "Dropout: rate: expected a finite number, got 'half'$"),
    "first": (lambda: network_of([Dropout(0.1), dense()]), r"Dropout\(0.1\): expected after a hidden Dense layer"),
    "last": (lambda: network_of([dense(), Dropout(0.1)]), r"Dropout\(0.1\): expected after a hidden layer, not"),
    "twice": (
        lambda: network_of([dense(4, "relu"), Dropout(0.1), Dropout(0.2), Dense(3, "softmax")]),
        r"Dropout\(0.2\): the Dense layer before it already has a Dropout\(0.1\)$",
    ),
    "before activation": (
        lambda: network_of([dense(4, "linear"), Dropout(0.1), Activation("relu"), Dense(3, "softmax")]),
        r"Activation\('relu'\): expected before the Dropout",
    ),
    "no layer": (lambda: Sequential().add(0.5), "add: expected an Input, Dense, Activation or Dropout layer, got 0.5$"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_is_one_line(fault: str) -> None:
    call, message = FAULTS[fault]
    with pytest.raises(ArgumentError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_the_command_line_trains_with_it_and_refuses_what_is_no_rate(command, small_npz: Path, tmp_path: Path) -> None:
    common = ["train", "--data", small_npz, "--hidden", "6", "5", "--engine", "reference", "--epochs", "2", "--quiet"]
    done = command("gpunet", *common, "--batch-size", "7", "--dropout", "0.3", "--save", "whole.npz")
    assert done.returncode == 0, done.stderr
    assert gpunet.load(tmp_path / "whole.npz").network.dropout == (0.3, 0.3, 0.0)
    bad = command("gpunet", *common, "--batch-size", "7", "--dropout", "1")
    assert bad.returncode == 2
    assert bad.stderr.splitlines()[-1].endswith("Dropout: rate: expected a share from 0 to below 1, got 1.0")
