"""A model remembers the scale of its examples, and refuses examples on another scale."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest

import gpunet
from gpunet import Adam, ArgumentError, Dense, ModelFileError, Sequential, saving
from gpunet.scale import BYTES, Scale

INTEGER = "sparse_categorical_crossentropy"
Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def pictures() -> Pair:
    """30 images of 3 classes, 8 pixels: bytes 0 to 255."""
    rng = np.random.default_rng(3)
    labels = np.arange(30, dtype=np.int32) % 3
    images = rng.integers(0, 100, (30, 8)) + 150 * (np.arange(8) % 3 == labels[:, None])
    return np.minimum(images, 255).astype(np.uint8), labels


def new_model() -> Sequential:
    model = Sequential([Dense(6, "tanh"), Dense(3, "softmax")], seed=0)
    model.compile(Adam(0.02), INTEGER, device="cpu")
    return model


def trained(x: np.ndarray, y: np.ndarray) -> Sequential:
    model = new_model()
    model.fit(x, y, batch_size=10, epochs=2, verbose=0)
    return model


FLOATS_FOR_BYTES = (
    r"x: numbers from 0 to 255, but the model was trained on bytes \(uint8\), which are used as x / 255; expected "
    "bytes, or floats from 0 to 1"
)
BYTES_FOR_FLOATS = (
    r"x: bytes \(uint8\), which are used as x / 255, but the model was trained on numbers from 0 to 255; expected "
    r"the same range: pass \.astype\('float32'\)"
)


@pytest.mark.parametrize("method", ["predict", "evaluate", "fit"])
@pytest.mark.parametrize("first", ["bytes", "floats"])
def test_bytes_and_floats_up_to_255_are_not_confused(pictures: Pair, method: str, first: str) -> None:
    x, y = pictures
    x[0, 0], x[0, 1] = 0, 255
    known, other = (x, x.astype(np.float64)) if first == "bytes" else (x.astype(np.float64), x)
    model = trained(known, y)
    before = model.get_weights()
    arguments = () if method == "predict" else (y,)
    with pytest.raises(ArgumentError, match=FLOATS_FOR_BYTES if first == "bytes" else BYTES_FOR_FLOATS):
        getattr(model, method)(other, *arguments)
    getattr(model, method)(known, *arguments)
    if method != "fit":
        assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_bytes_and_floats_from_0_to_1_are_equivalent(pictures: Pair) -> None:
    x, y = pictures
    x[0, 0], x[0, 1] = 0, 255
    for known, other in ((x, x / 255), (x / 255, x)):
        model = trained(known, y)
        np.testing.assert_allclose(model.predict(other), model.predict(known), rtol=1e-5)
        assert model.evaluate(other, y)[1] == model.evaluate(known, y)[1]
        model.fit(other, y, verbose=0, validation_data=(known, y))


def test_a_little_noise_is_accepted_and_other_scalings_are_refused(pictures: Pair) -> None:
    x, y = pictures
    model, images = trained(x, y), x / 255
    model.predict(images + np.random.default_rng(0).normal(scale=0.05, size=x.shape))
    for scaled in (2 * images - 1, images - 0.5, (images - 0.13) / 0.31, x):
        with pytest.raises(ArgumentError, match="expected bytes, or floats from 0 to 1"):
            model.predict(scaled.astype(np.float32))


def test_numbers_that_are_not_images_may_have_any_range(blobs: Pair) -> None:
    x, y = blobs
    model = trained(x, y)
    model.predict(100 * x)
    model.predict(x * 0)
    model.fit(x / 10, y, verbose=0)


@pytest.mark.parametrize("white", [255, 4095, 65535])
def test_floats_up_to_1_and_grey_levels_are_a_warning(pictures: Pair, white: int) -> None:
    x, y = pictures
    x[0, 0], x[0, 1] = 0, 255
    shares = (x / 255).astype(np.float32)
    levels = (shares * white).round()
    model = trained(levels, y)
    line = rf"^x: numbers from 0 to 1, but the model was trained on numbers from 0 to {white}; if both are images"
    for call in (lambda: model.predict(shares), lambda: model.evaluate(shares, y)):
        with pytest.warns(UserWarning, match=line):
            call()
    with pytest.warns(UserWarning, match=line):
        model.fit(shares, y, verbose=0)
    with pytest.warns(UserWarning, match=r"^validation_data x: numbers from 0 to 1, but x is numbers from 0 to"):
        new_model().fit(levels, y, verbose=0, validation_data=(shares, y))


@pytest.mark.parametrize(
    ("known", "given"),
    [
        ((0, 255), (0, 0)),  # a blank image
        ((0, 255), (0, 3)),  # a dark one
        ((0, 300), (0, 1)),  # a column of ages beside one of shares
        ((-3, 255), (0, 1)),
        ((0, 1), (0, 50)),
        ((0, 1), (0, 255)),  # MinMaxScaler, and a pixel that was blank in training
        ((0, 1), (-200, 200)),
        ((0, 2), (0, 255)),
        ((0, 0.001), (0, 1)),
    ],
)  # warnings are errors in these tests
def test_other_ranges_are_no_reason_for_a_warning(known: tuple[float, float], given: tuple[float, float]) -> None:
    Scale(False, *given).require("x", Scale(False, *known))


def test_an_untrained_model_accepts_both(pictures: Pair) -> None:
    x, y = pictures
    model = new_model()
    model.predict(x.astype(float))
    model.evaluate(x, y)
    diverging = Sequential([Dense(3, "softmax")])
    diverging.compile(gpunet.SGD(1e38), INTEGER, device="cpu")
    with pytest.raises(gpunet.TrainingDivergedError):
        diverging.fit(x * 1e6, y, batch_size=10, verbose=0)
    diverging.predict(x)  # the epoch was undone


def test_validation_data_is_held_to_the_same_rule(pictures: Pair) -> None:
    x, y = pictures
    with pytest.raises(ArgumentError, match=r"validation_data x: numbers from .*, but x is bytes"):
        new_model().fit(x, y, verbose=0, validation_data=(x.astype(float), y))
    new_model().fit(x, y, verbose=0, validation_data=(x / 255, y))


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_the_scale_is_saved_and_copied(pictures: Pair, tmp_path: Path, suffix: str) -> None:
    x, y = pictures
    model, path = trained(x, y), tmp_path / f"model{suffix}"
    model.save(path)
    twin = Sequential([Dense(6, "tanh"), Dense(3, "softmax")])
    twin.load_weights(path)
    for other in (gpunet.load(path), copy.deepcopy(model), twin):
        assert other.scale == BYTES
        with pytest.raises(ArgumentError, match="trained on bytes"):
            other.predict(x.astype(float))


def test_the_scale_of_foreign_weights_is_unknown(pictures: Pair) -> None:
    x, y = pictures
    model = trained(x, y)
    model.set_weights(model.get_weights())
    model.predict(x.astype(float))


def test_restored_best_weights_keep_the_scale(pictures: Pair) -> None:
    x, y = pictures
    model, best = new_model(), gpunet.callbacks.EarlyStopping("loss", restore_best_weights=True)
    model.fit(x, y, verbose=0, epochs=2, callbacks=[best])
    with pytest.raises(ArgumentError, match="trained on bytes"):
        model.predict(x.astype(float))


def test_a_file_from_an_older_gpunet_accepts_both(
    pictures: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = pictures
    describe = saving.contents._describe
    monkeypatch.setattr(
        saving.contents, "_describe", lambda saved: {k: v for k, v in describe(saved).items() if k != "scale"}
    )
    trained(x, y).save(tmp_path / "old.npz")
    model = gpunet.load(tmp_path / "old.npz")
    model.predict(x)
    model.predict(x.astype(float))


@pytest.mark.parametrize("forged", [(1, 0, 1), (True, 1, 0), (False, 0, float("inf")), (False, "0", 1)])
def test_a_forged_scale_is_refused(pictures: Pair, tmp_path: Path, forged: tuple, monkeypatch) -> None:
    x, y = pictures
    path = tmp_path / "model.npz"
    saved = trained(x, y).saved()
    scale = object.__new__(Scale)
    for name, value in zip(("in_bytes", "low", "high"), forged, strict=True):
        object.__setattr__(scale, name, value)
    saving.write(path, dataclasses.replace(saved, scale=scale))
    with pytest.raises(ModelFileError, match=r"model\.npz: the model's description is wrong: scale: expected"):
        gpunet.load(path)
