"""What people pass by mistake, and the one line that they get for it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet
from gpunet import Activation, Adam, ArgumentError, Dense, Input, Sequential, to_categorical
from gpunet.data import Dataset, Examples
from gpunet.errors import MOST_SHOWN, shown

INTEGER, ONE_HOT = "sparse_categorical_crossentropy", "categorical_crossentropy"


def new_model(classes: int = 3, loss: str = INTEGER) -> Sequential:
    model = Sequential([Dense(6, "tanh"), Dense(classes, "softmax")], seed=0)
    model.compile(Adam(0.02), loss, engine="reference")
    return model


def refusal(call: Callable[[], Any]) -> str:
    with pytest.raises(ArgumentError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    return message


# Masked arrays


@pytest.mark.parametrize("use", ["fit", "evaluate", "predict", "labels", "rows", "weights"])
def test_masked_elements_are_refused(blobs, use: str) -> None:
    x, y = blobs
    model = new_model()
    model.predict(x)
    masked, labels = np.ma.masked_greater(x, 1), np.ma.masked_equal(y, 2)
    calls = {
        "fit": lambda: model.fit(masked, y, verbose=0),
        "evaluate": lambda: model.evaluate(masked, y),
        "predict": lambda: model.predict(masked),
        "labels": lambda: model.fit(x, labels, verbose=0),
        "rows": lambda: model.predict(list(masked)),
        "weights": lambda: model.set_weights([np.ma.masked_greater(w, 0) for w in model.get_weights()]),
    }
    assert ": a masked array with masked elements, whose mask would be ignored; " in refusal(calls[use])


def test_a_masked_array_without_masked_elements_is_an_array(blobs) -> None:
    x, _ = blobs
    np.testing.assert_array_equal(new_model().predict(np.ma.masked_greater(x, 1e9)), new_model().predict(x))


# pandas


@pytest.fixture
def pandas() -> Any:
    return pytest.importorskip("pandas", reason="tests pandas frames; pip install pandas")


def test_columns_of_different_types_are_taken_as_numbers(blobs, pandas: Any) -> None:
    x, y = blobs
    columns = {
        "plain": x[:, 0],
        "whole": np.arange(60),
        "yes": x[:, 1] > 0,
        "nullable": pandas.array(np.arange(60), dtype="Int64"),
        "nullable float": pandas.array(x[:, 2], dtype="Float32"),
        "nullable bool": pandas.array(x[:, 3] > 0, dtype="boolean"),
        "sparse": pandas.arrays.SparseArray(x[:, 4]),
    }
    plain = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    model, other = new_model(), new_model()
    frame = pandas.DataFrame(columns)
    model.fit(frame, pandas.Series(y, dtype="Int32"), verbose=0)
    other.fit(plain, y, verbose=0)
    np.testing.assert_array_equal(model.predict(frame), other.predict(plain))


def test_nullable_bytes_are_bytes(pandas: Any) -> None:
    x = np.arange(48, dtype=np.uint8).reshape(6, 8)
    frame = pandas.DataFrame(x).astype("UInt8")
    np.testing.assert_array_equal(new_model().predict(frame), new_model().predict(x))


def test_a_frame_of_one_type_is_not_copied(pandas: Any) -> None:
    x = np.zeros((6, 8), np.float32)
    assert np.shares_memory(gpunet.arrays.as_images("x", pandas.DataFrame(x, copy=False), 8)[0], x)


def test_a_column_that_is_not_numeric_is_named(blobs, pandas: Any) -> None:
    x, y = blobs
    for wrong in (["a"] * 60, pandas.Categorical(["a"] * 60), pandas.to_datetime(["2020-01-01"] * 60), [None] * 60):
        frame = pandas.DataFrame(x).assign(street=wrong)
        message = refusal(lambda frame=frame: new_model().fit(frame, y, verbose=0))
        assert message.startswith("x: column 'street' has data type ")
        assert message.endswith("expected numbers: drop the column, or convert it to numbers (pandas.get_dummies)")


def test_a_missing_value_is_named(blobs, pandas: Any) -> None:
    x, _ = blobs
    frame = pandas.DataFrame(x).assign(age=pandas.array([3] * 4 + [None] + [5] * 55, dtype="Int64"))
    assert "x: column 'age' has no value for example 4; expected numbers: " in refusal(
        lambda: new_model().predict(frame)
    )


def test_unusable_class_names_get_a_line(blobs, pandas: Any) -> None:
    x, y = blobs
    names = np.array(["cat", "dog"])[y % 2]
    for labels in (names, names.tolist(), pandas.Series(names), pandas.Series(names, dtype="category")):
        message = refusal(lambda labels=labels: new_model().fit(x, labels, verbose=0))
        assert message.startswith("y: has 2 names (cat, dog), but the network has 3 classes; expected as many")


# What is not an array


def test_generators_and_iterators_get_a_line(blobs) -> None:
    x, y = blobs
    for wrong, kind in (
        ((row for row in x), "generator"),
        (iter(x.tolist()), "list_iterator"),
        (zip(x, y, strict=True), "zip"),
    ):
        assert refusal(lambda wrong=wrong: new_model().fit(wrong, y)) == (
            f"x: is a {kind}; expected an array with all examples: collect its items, as in "
            "x = numpy.stack(list(examples)), and pass targets as y"
        )
        assert refusal(lambda wrong=wrong: new_model().fit(wrong)).startswith(f"x: is a {kind}; ")


def test_dicts_and_sets_get_a_line(blobs) -> None:
    x, y = blobs
    assert "x: is a dict; expected an array with all examples: pass the array of one" in refusal(
        lambda: new_model().fit({"x": x, "y": y})
    )
    assert "y: is a set; expected an array with all examples, and a set has no order" in refusal(
        lambda: new_model().fit(x, {0, 1})
    )


def test_pairs_in_place_of_x_get_a_line(blobs) -> None:
    x, y = blobs
    expected = "x: is a tuple of arrays of the shapes (60, 8) and (60,); expected one array: pass examples as x and"
    assert refusal(lambda: new_model().fit((x, y))).startswith(expected)
    assert refusal(lambda: new_model().evaluate((x, y))).startswith(expected)
    examples = Examples(x, y)
    assert "x: is a Examples" not in refusal(lambda: new_model().fit(examples))
    assert refusal(lambda: new_model().fit(examples)).startswith(expected)
    assert refusal(lambda: new_model().fit(Dataset(examples, examples, examples))).startswith("x: cannot be converted")
    assert refusal(lambda: new_model().fit(x)) == "y: no targets; expected one for each of the 60 examples"
    assert refusal(lambda: new_model().evaluate(x)) == "y: no targets; expected one for each of the 60 examples"
    assert new_model().predict((x[0], x[1])).shape == (2, 3)  # a tuple of examples
    ones = np.ones(60)
    assert "validation_data: expected (x, y) or (x, y, sample_weight), got tuple of 4" in refusal(
        lambda: new_model().fit(x, y, validation_data=(x, y, ones, ones))
    )


def test_objects_without_a_length_get_a_line(blobs) -> None:
    for wrong, words in ((None, "None"), ("x.npy", "'x.npy'"), (object, "<class 'object'>"), (b"ab", "b'ab'")):
        assert refusal(lambda wrong=wrong: new_model().predict(wrong)) == (
            f"x: expected numbers of shape (examples, inputs), got {words}"
        )


def test_pytorchs_loaders_and_datasets_get_a_line(blobs) -> None:
    torch = pytest.importorskip("torch", reason="tests PyTorch's data sets; pip install torch")
    from torch.utils.data import DataLoader, Dataset, TensorDataset

    x, y = map(torch.tensor, blobs)
    tensors = TensorDataset(x, y)

    class Own(Dataset):
        def __len__(self) -> int:
            return 60

        def __getitem__(self, item: int) -> Any:
            return tensors[item]

    loader = DataLoader(tensors, batch_size=10)
    assert refusal(lambda: new_model().fit(loader)) == (
        "x: is a DataLoader; expected an array with all examples: for a TensorDataset in it pass "
        "x, y = loader.dataset.tensors; fit has batch_size and shuffle"
    )
    assert "x: is a TensorDataset; " in refusal(lambda: new_model().fit(tensors))
    assert "x: is a Own; " in refusal(lambda: new_model().fit(Own()))
    assert "validation_data: expected (x, y) or (x, y, sample_weight), got DataLoader" in refusal(
        lambda: new_model().fit(x, y, validation_data=loader)
    )
    new_model().fit(*tensors.tensors, verbose=0)  # as the advice says
    new_model().fit(*loader.dataset.tensors, verbose=0)


def test_tensorflows_and_keras_datasets_get_a_line() -> None:
    """They are recognized by their attributes or names: neither library is needed."""

    class BatchDataset:
        element_spec = ()

        def as_numpy_iterator(self) -> Any:
            raise AssertionError

        def __iter__(self) -> Any:
            raise AssertionError

    mine = type("Mine", (type("PyDataset", (), {"__module__": "keras.src.trainers"}),), {})
    assert "x: is a BatchDataset; expected an array with all examples: collect it" in refusal(
        lambda: new_model().fit(BatchDataset())
    )
    assert "x: is a Mine; expected an array with all examples: collect its batches" in refusal(
        lambda: new_model().fit(mine())
    )


# Labels that count from 1


def caught(call: Callable[[], Any]) -> list[warnings.WarningMessage]:
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        call()
    return messages


@pytest.mark.parametrize("loss", [INTEGER, ONE_HOT])
def test_labels_that_count_from_1_get_a_hint(blobs, loss: str) -> None:
    x, y = blobs
    model = new_model(4, loss)
    targets = y + 1 if loss == INTEGER else to_categorical(y + 1)
    (warning,) = caught(lambda: model.fit(x, targets, verbose=0))
    assert str(warning.message) == (
        "y: class 0 has no example, and class 3 has: classes count from 0; if yours count from 1, subtract 1 from "
        "the labels, and there are 3 classes"
    )
    assert warning.filename == __file__
    assert caught(lambda: model.fit(x, targets, verbose=0)) == []  # warned only once


def test_other_labels_get_no_hint(blobs) -> None:
    x, y = blobs
    for classes, labels in ((3, y), (5, y + 1), (4, np.where(y == 0, 0, y + 1)), (3, y * 0)):
        assert caught(lambda c=classes, t=labels: new_model(c).fit(x, t, verbose=0)) == []
        one_hot = to_categorical(labels, classes)
        assert caught(lambda c=classes, t=one_hot: new_model(c, ONE_HOT).fit(x, t, verbose=0)) == []
    assert caught(lambda: new_model(4).evaluate(x, y + 1)) == []


# Layers, numbers, and values in messages


@pytest.mark.parametrize("layer", [Dense(3), Activation("relu"), Input((3,))])
def test_a_layer_used_twice_is_refused(layer: Any) -> None:
    model = Sequential([layer])
    name = type(layer).__name__
    assert refusal(lambda: model.add(layer)).startswith(f"add: this {name} layer is in the model already; ")
    assert refusal(lambda: Sequential([layer, Dense(4), layer])).startswith(f"add: this {name} layer is in")
    assert len(Sequential([layer]).layers) == len(model.layers) == 1


@pytest.mark.parametrize("epsilon", [1e-50, 1e-37, 0, -1, 1e39])
def test_an_epsilon_that_float32_cannot_hold_is_refused(epsilon: float) -> None:
    assert refusal(lambda: Adam(epsilon=epsilon)) == (
        "Adam: epsilon: expected a number above 0 that float32 can hold in every update, from 3.7e-37 on "
        f"(1e-8 is usual), got {float(epsilon)}"
    )


@pytest.mark.parametrize("beta_2", [0.0, 0.999, 1 - 1e-9])
def test_the_smallest_epsilon_is_not_lost_in_the_first_update(beta_2: float) -> None:
    smallest = float(np.finfo(np.float32).tiny) / np.sqrt(1 - beta_2)
    adam = Adam(epsilon=1.001 * smallest, beta_2=beta_2)
    assert adam.constants(np.array([1]))[0, -1] >= np.finfo(np.float32).tiny
    refusal(lambda: Adam(epsilon=0.999 * smallest, beta_2=beta_2))


def test_values_are_shown_in_one_short_line(blobs) -> None:
    x, y = blobs
    matrix = np.arange(6.0).reshape(2, 3)
    calls = [
        lambda: Dense(matrix),
        lambda: Dense(3, activation=matrix),
        lambda: Adam(matrix),
        lambda: Sequential(seed=matrix),
        lambda: Sequential([x.tolist()]),
        lambda: new_model().fit(x, y, batch_size=matrix),
        lambda: new_model().fit(x, y, validation_split=matrix),
        lambda: new_model().fit(x, y, callbacks=[matrix]),
        lambda: new_model().compile(matrix, INTEGER),
        lambda: new_model().compile("adam", matrix),
        lambda: new_model().compile("adam", INTEGER, [x]),
    ]
    for call in calls:
        assert len(refusal(call)) < 3 * MOST_SHOWN
    assert shown([1, "a"]) == "[1, 'a']"
    assert len(shown(x.tolist())) == MOST_SHOWN


def test_warnings_point_to_the_users_line(blobs) -> None:
    assert sys.modules["gpunet"] is gpunet
    (warning,) = caught(lambda: gpunet.errors.warn("mind"))
    assert warning.filename == __file__
