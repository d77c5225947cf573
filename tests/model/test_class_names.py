"""Names of classes in a model: labels that are text train the same bits as their numbers, and files keep the names."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet
from gpunet import ArgumentError, Dense, Sequential, fit_many

NAMES = ("cat", "dog", "eel")


def new_model(loss: str = "sparse_categorical_crossentropy") -> Sequential:
    model = Sequential([Dense(5, "tanh", input_dim=8), Dense(3, "softmax")], seed=3)
    model.compile("adam", loss, device="cpu")
    return model


def labelled(blobs: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y = blobs
    return x, y, np.array(NAMES)[y]


@pytest.mark.parametrize("form", ["list", "array", "objects", "bytes", "column", "series", "category"])
def test_names_train_the_same_bits_as_numbers(blobs, form: str) -> None:
    x, y, names = labelled(blobs)
    given: Any = {"list": names.tolist(), "array": names, "objects": names.astype(object), "bytes": names.astype("S")}
    if form in ("series", "category"):
        pandas = pytest.importorskip("pandas", reason="needs pandas; pip install '.[test]'")
        given = {"series": pandas.Series(names), "category": pandas.Series(names, dtype="category")}
    given["column"] = names[:, None]
    model, plain = new_model(), new_model()
    model.fit(x, given[form], batch_size=10, verbose=0, validation_split=0.2)
    plain.fit(x, y, batch_size=10, verbose=0, validation_split=0.2)
    assert (model.class_names, plain.class_names) == (NAMES, None)
    np.testing.assert_array_equal(model.predict(x), plain.predict(x))
    assert model.evaluate(x, given[form]) == model.evaluate(x, y) == plain.evaluate(x, y)


def test_names_stay_with_the_model_its_copies_and_files(blobs, tmp_path: Path) -> None:
    x, y, names = labelled(blobs)
    model = new_model()
    model.fit(x, names, verbose=0, validation_data=(x[:9], names[:9]))
    model.fit(x[:4], names[:4], verbose=0)  # fewer classes, but no unknown ones
    model.fit(x, y, verbose=0)  # numbers mean the same classes
    for name in ("a.safetensors", "a.npz"):
        model.save(tmp_path / name)
        assert gpunet.load(tmp_path / name).class_names == NAMES
    twin = new_model()
    twin.load_weights(tmp_path / "a.npz")
    assert twin.class_names == copy.deepcopy(model).class_names == NAMES


def test_models_side_by_side_have_the_names_too(blobs) -> None:
    x, _, names = labelled(blobs)
    models = [new_model(), new_model()]
    fit_many(models, x, names, verbose=0)
    assert [model.class_names for model in models] == [NAMES, NAMES]


def test_names_can_be_set_where_the_labels_do_not_have_all(blobs) -> None:
    x, _, names = labelled(blobs)
    model = new_model()
    model.class_names = ["eel", "dog", "cat"]
    model.fit(x[names != "cat"], names[names != "cat"], verbose=0)
    assert model.class_names == ("eel", "dog", "cat")
    model.class_names = None
    assert model.class_names is None


REFUSED = {
    "too-few": (
        lambda m, x, n: m.fit(x[n != "cat"], n[n != "cat"]),
        r"y: has 2 names \(dog, eel\), but the network has 3",
    ),
    "validation": (
        lambda m, x, n: m.fit(x, n, validation_data=(x[:1], ["ox"])),
        "validation_data y: there is no class 'ox'",
    ),
    "one-hot-loss": (lambda m, x, n: new_model("categorical_crossentropy").fit(x, n), "expects one-hot targets"),
    "no-names-known": (lambda m, x, n: m.evaluate(x, n), "y: names, but the model knows none"),
    "hole": (lambda m, x, n: m.fit(x, [None, *n[1:]]), "y: label 0 is None; expected text"),
    "empty": (lambda m, x, n: m.fit(x, ["", *n[1:]]), "y: label 0 is empty"),
    "set-too-few": (lambda m, x, n: setattr(m, "class_names", ["a"]), "class_names: 1 names for 3 classes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_names_that_do_not_fit_are_refused_and_nothing_changes(blobs, case: str) -> None:
    x, _, names = labelled(blobs)
    call, words = REFUSED[case]
    model = new_model()
    before = model.get_weights()
    with pytest.raises(ArgumentError, match=words) as caught:
        call(model, x, names)
    assert "\n" not in str(caught.value)
    assert model.class_names is None
    for mine, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, old)


def test_class_weights_go_by_name_too(blobs) -> None:
    x, y, names = labelled(blobs)
    model, plain = new_model(), new_model()
    model.fit(x, names, verbose=0, class_weight={"dog": 3, 2: 0.5})
    plain.fit(x, y, verbose=0, class_weight={1: 3, 2: 0.5})
    np.testing.assert_array_equal(model.predict(x), plain.predict(x))
    with pytest.raises(ArgumentError, match="class_weight: expected classes from 0 to 2 or cat, dog, eel, got 'ox'"):
        model.fit(x, names, class_weight={"ox": 1})
