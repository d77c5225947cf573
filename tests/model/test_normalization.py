"""Normalization: the model trains on (x - mean) / deviation, and keeps both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gpunet
from gpunet import ArgumentError, Dense, ModelFileError, Normalization, Sequential, fit_many
from gpunet.saving import contents

LOSS = "sparse_categorical_crossentropy"


def new_model(*before: Normalization) -> Sequential:
    model = Sequential([*before, Dense(4, "tanh"), Dense(3, "softmax")], seed=1)
    model.compile("adam", LOSS, device="cpu")
    return model


def adapted(x: np.ndarray) -> Normalization:
    layer = Normalization()
    layer.adapt(x)
    return layer


def test_it_trains_the_same_bits_as_standardized_numbers(blobs) -> None:
    x, y = blobs
    large = (1000 + 50 * x.astype(np.float64)).astype(np.float32)
    layer = adapted(large)
    wide = large.astype(np.float64)
    np.testing.assert_allclose(layer.mean, wide.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(layer.variance, wide.var(axis=0), rtol=1e-6)
    expected = ((wide - layer.mean) / np.sqrt(layer.variance.astype(np.float64))).astype(np.float32)
    model, plain = new_model(layer), new_model()
    model.fit(large, y, batch_size=8, epochs=2, verbose=0, validation_data=(large[:9], y[:9]))
    plain.fit(expected, y, batch_size=8, epochs=2, verbose=0)
    np.testing.assert_array_equal(model.predict(large), plain.predict(expected))
    assert model.evaluate(large, y) == plain.evaluate(expected, y)


def test_bytes_count_as_shares_of_255() -> None:
    images = np.random.default_rng(0).integers(256, size=(50, 2, 3), dtype=np.uint8)
    layer = adapted(images)
    np.testing.assert_allclose(layer.mean, images.reshape(50, 6).mean(axis=0) / 255, rtol=1e-6)
    model = new_model(layer)
    np.testing.assert_allclose(model.predict(images), model.predict(images / 255), atol=1e-6)


def test_an_input_that_never_changes_is_moved_to_0_only() -> None:
    layer = adapted(np.array([[3.0, 1.0], [3.0, 2.0]]))
    np.testing.assert_array_equal(layer.apply(np.array([[3, 1], [4, 2]], np.float32)), [[0, -1], [1, 1]])
    sevens = adapted(np.full((100, 3), 7, np.uint8))  # 7 / 255 is not exact, and so is no sum of it
    np.testing.assert_array_equal(sevens.variance, 0)
    np.testing.assert_allclose(sevens.apply(np.full((1, 3), 7, np.uint8)), 0, atol=1e-8)


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz"])
def test_files_keep_it_and_training_goes_on(blobs, tmp_path: Path, name: str) -> None:
    x, y = blobs
    model = new_model(adapted(x))
    model.fit(x, y, epochs=2, verbose=0)
    model.save(tmp_path / name, include_optimizer=True)
    loaded = gpunet.load(tmp_path / name)
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    for each in (model, loaded):
        each.fit(x, y, epochs=3, initial_epoch=2, verbose=0)
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    model.save_weights(tmp_path / name)
    twin = new_model(Normalization())
    twin.load_weights(tmp_path / name)
    np.testing.assert_array_equal(twin.predict(x), model.predict(x))
    with pytest.raises(ModelFileError, match="holds a network behind a Normalization, and the model has none"):
        new_model().load_weights(tmp_path / name)


def test_an_older_gpunet_refuses_a_file_with_it_and_takes_the_others(blobs, tmp_path: Path) -> None:
    x, _ = blobs
    without_bias = Sequential([Dense(3, "softmax", use_bias=False, input_dim=8)])
    formats = [contents._describe(model.saved())["format"] for model in (new_model(adapted(x)), without_bias)]
    plain = Sequential([Dense(3, "softmax", input_dim=8)])
    plain.class_names = ["a", "b", "c"]
    assert [*formats, contents._describe(plain.saved())["format"]] == [2, 2, 1]


def test_models_side_by_side_have_each_their_own(blobs) -> None:
    x, y = blobs
    layers = [adapted(x), adapted(2 * x + 1)]
    models, alone = [new_model(layer) for layer in layers], [new_model(layer) for layer in layers]
    fit_many(models, x, y, verbose=0)
    for model, other in zip(models, alone, strict=True):
        other.fit(x, y, verbose=0)
        np.testing.assert_array_equal(model.predict(x), other.predict(x))


def test_bad_input_is_refused_in_a_line(blobs) -> None:
    x, y = blobs
    cases = {
        "call adapt\\(x\\) first": lambda: new_model(Normalization()).fit(x, y),
        "expected mean and variance, or neither": lambda: Normalization(mean=[1]),
        "variance: expected finite numbers": lambda: Normalization(mean=[1], variance=["a"]),
        "for each input; got 2 means and 1 variances": lambda: Normalization(mean=[1, 2], variance=[1]),
        "from -1.0 on": lambda: Normalization(mean=[1], variance=[-1]),
        "Normalization: expected before the first Dense layer": lambda: (
            Sequential([Dense(3, input_dim=2), Normalization()]).network
        ),
        "the model has one already": lambda: new_model(adapted(x), adapted(x)).fit(x, y),
        r"x: expected shape \(examples, 8\), got": lambda: new_model(adapted(x)).fit(x[:, :5], y),
        "input 1 has the variance 1e-48, which float32": lambda: adapted(np.array([[1, 1e-24], [0, -1e-24]])),
        "input 0 has the variance 1e\\+40, which float32": lambda: Normalization(mean=[0], variance=[1e40]),
        "x: example 0 has NaN": lambda: adapted(np.full((2, 2), np.nan)),
    }
    for words, call in cases.items():
        with pytest.raises(ArgumentError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
