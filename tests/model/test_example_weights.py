"""sample_weight and class_weight: what they do to training and its reports, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet
from gpunet import ArgumentError, Dense, Sequential, to_categorical
from gpunet.fit_arguments import Checks, FitArguments

INTEGER, ONE_HOT = "sparse_categorical_crossentropy", "categorical_crossentropy"


def new_model(loss: str = INTEGER, optimizer: gpunet.Optimizer | None = None) -> Sequential:
    model = Sequential([Dense(6, "tanh"), Dense(3, "softmax")], seed=0)
    model.compile(optimizer or gpunet.SGD(0.1), loss, engine="reference")
    return model


def trained(x, y, loss: str = INTEGER, **arguments) -> Sequential:
    model = new_model(loss)
    model.fit(x, y, **{"batch_size": len(x), "epochs": 3, "verbose": 0, **arguments})
    return model


def assert_close(one: Sequential, other: Sequential) -> None:
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)


def assert_same(one: Sequential, other: Sequential) -> None:
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("loss", [INTEGER, ONE_HOT])
def test_half_of_the_examples_with_twice_the_weight_are_a_training_on_them(blobs, loss: str) -> None:
    x, labels = blobs
    y = labels if loss == INTEGER else to_categorical(labels)
    weights = np.tile([2, 0], 30)
    assert_close(trained(x, y, loss, sample_weight=weights), trained(x[::2], y[::2], loss))
    assert not np.allclose(trained(x, y, loss).get_weights()[0], trained(x[::2], y[::2], loss).get_weights()[0])


@pytest.mark.parametrize("loss", [INTEGER, ONE_HOT])
def test_the_loss_is_weighted_and_the_accuracy_is_not_as_in_keras(blobs, loss: str) -> None:
    """The loss is the sum of weight times loss over the number of examples (Keras 3: sum_over_batch_size)."""
    x, labels = blobs
    y = labels if loss == INTEGER else to_categorical(labels)
    weights = np.random.default_rng(0).exponential(size=60)
    model = trained(x, y, loss, epochs=1)
    probabilities = model.predict(x).astype(np.float64)
    expected = float((weights * -np.log(probabilities[np.arange(60), labels])).sum() / 60)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    assert 0 < accuracy < 1
    assert model.evaluate(x, y, sample_weight=weights) == pytest.approx([expected, accuracy], rel=1e-5)
    history = model.fit(x, y, batch_size=60, epochs=1, sample_weight=weights, verbose=0).history
    assert (history["loss"][0], history["accuracy"][0]) == pytest.approx((expected, accuracy), rel=1e-5)


def test_class_weights_are_sample_weights_by_class(blobs) -> None:
    x, y = blobs
    by_class = trained(x, y, class_weight={0: 2.5, np.int64(2): 0.5}, batch_size=7)
    assert_same(by_class, trained(x, y, sample_weight=np.array([2.5, 1, 0.5])[y], batch_size=7))
    of_both = trained(x, y, class_weight={1: 3}, sample_weight=np.arange(60), batch_size=7)
    assert_same(of_both, trained(x, y, sample_weight=np.where(y == 1, 3, 1) * np.arange(60), batch_size=7))


@pytest.mark.parametrize("loss", [INTEGER, ONE_HOT])
def test_balanced_is_what_scikit_learn_calls_it(blobs, loss: str) -> None:
    x, labels = blobs[0][:23], np.repeat([0, 2], [18, 5])
    y = labels if loss == INTEGER else to_categorical(labels, 3)
    weights = np.where(labels == 0, 23 / (2 * 18), 23 / (2 * 5))
    assert_same(trained(x, y, loss, class_weight="balanced"), trained(x, y, loss, sample_weight=weights))


def test_validation_has_weights_of_its_own_and_none_by_class(blobs) -> None:
    x, y = blobs
    weights = np.arange(12)
    model = new_model()
    history = model.fit(
        x, y, class_weight={0: 9}, validation_data=(x[:12], y[:12], weights), epochs=1, verbose=0
    ).history
    loss, accuracy = model.evaluate(x[:12], y[:12], sample_weight=weights)
    assert (history["val_loss"], history["val_accuracy"]) == ([loss], [accuracy])
    assert loss != model.evaluate(x[:12], y[:12])[0]


def test_a_split_splits_the_weights_too(blobs) -> None:
    x, y = blobs
    weights = np.arange(60)
    model = new_model()
    history = model.fit(x, y, validation_split=0.25, sample_weight=weights, epochs=1, verbose=0).history
    assert history["val_loss"] == [model.evaluate(x[45:], y[45:], sample_weight=weights[45:])[0]]


def test_many_models_train_as_each_alone(blobs) -> None:
    x, y = blobs
    weights = np.arange(60)
    models = [new_model(), new_model(optimizer=gpunet.Adam(0.01))]
    gpunet.fit_many(models, x, y, 7, 2, 0, class_weight={1: 2}, sample_weight=weights)
    for model, optimizer in zip(models, (gpunet.SGD(0.1), gpunet.Adam(0.01)), strict=True):
        alone = new_model(optimizer=optimizer)
        alone.fit(x, y, 7, 2, 0, class_weight={1: 2}, sample_weight=weights)
        assert_same(model, alone)


def test_many_models_share_their_weights_and_what_is_normalized_alike(blobs) -> None:
    x, y = blobs
    checks, trainings = Checks(), []
    arguments = FitArguments(x, y, 7, 1, None, 0.0, (x, y, np.ones(60)), True, {1: 2}, np.arange(60))
    for _ in range(2):
        layer = gpunet.Normalization()
        layer.adapt(x)
        model = Sequential([layer, Dense(3, "softmax")])
        model.compile("sgd", INTEGER, engine="reference")
        trainings.append(model.planned(arguments, checks))
    one, other = trainings
    assert one.validation is not None
    assert other.validation is not None
    for mine, its in ((one.train, other.train), (one.validation, other.validation)):
        assert mine[0] is its[0]
        assert mine[1].weights is its[1].weights


def fitted(model: Sequential, blobs) -> Sequential:
    model.fit(*blobs, batch_size=60, epochs=3, verbose=0)
    return model


FAULTS = {
    "too few": ({"sample_weight": [1, 2]}, r"sample_weight: .*each of the 60 examples, shape \(60,\), got \(2,\)$"),
    "one number": ({"sample_weight": 2.0}, r"sample_weight: .*got \(\)$"),
    "below 0": ({"sample_weight": [1] * 59 + [-1]}, "sample_weight: .* from 0 on, got -1 for example 59$"),
    "NaN": ({"sample_weight": [np.nan] * 60}, "sample_weight: .*got nan for example 0$"),
    "too large": ({"sample_weight": [1e39] * 60}, r"sample_weight: .*got 1e\+39 for example 0$"),
    "noughts": ({"sample_weight": np.zeros(60)}, "sample_weight: every weight is zero"),
    "text": ({"sample_weight": ["a"] * 60}, "sample_weight: expected numbers, got data type <U1$"),
    "no dictionary": ({"class_weight": [1, 2, 3]}, r"class_weight: expected a dictionary .* got \[1, 2, 3\]$"),
    "other text": ({"class_weight": "auto"}, "class_weight: .* or 'balanced'; got 'auto'$"),
    "no such class": ({"class_weight": {3: 1}}, "class_weight: expected classes from 0 to 2, got 3$"),
    "no class": ({"class_weight": {0.5: 1}}, "class_weight: expected classes from 0 to 2, got 0.5$"),
    "class below 0": ({"class_weight": {1: -1}}, "class_weight of class 1: expected a number from 0 on, got -1$"),
    "class NaN": ({"class_weight": {1: np.nan}}, "class_weight of class 1: expected a finite number, got nan$"),
    "all classes 0": ({"class_weight": {0: 0, 1: 0, 2: 0}}, "class_weight: every example has the weight 0"),
    "classes and examples 0": (
        {"class_weight": {0: 0}, "sample_weight": [1, 0, 0] * 20},
        "class_weight: every example has the weight 0",
    ),
    "too large by class": (
        {"class_weight": dict.fromkeys(range(3), 1e38), "sample_weight": [1] * 59 + [1e3]},
        r"class_weight: the weight of example 59, 1e\+41, is too large$",
    ),
    "noughts to train on": (
        {"sample_weight": [0] * 45 + [1] * 15, "validation_split": 0.25},
        "sample_weight: every weight of the examples to train on is zero; expected some above 0$",
    ),
    "noughts to validate on": (
        {"sample_weight": [1] * 45 + [0] * 15, "validation_split": 0.25},
        "sample_weight: every weight of the validation examples is zero; expected some above 0$",
    ),
    "four": (
        {"validation_data": [1, 2, 3, 4]},
        r"validation_data: expected \(x, y\) or \(x, y, sample_weight\), got list of 4$",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_a_weight_is_one_line_and_changes_nothing(blobs, fault: str) -> None:
    arguments, message = FAULTS[fault]
    model = new_model()
    with pytest.raises(ArgumentError, match=message) as caught:
        model.fit(*blobs, verbose=0, **arguments)
    assert "\n" not in str(caught.value)
    assert model.epochs_trained == 0
    assert_same(trained(*blobs), fitted(model, blobs))


def test_weights_of_validation_and_evaluation_are_checked_too(blobs) -> None:
    x, y = blobs
    with pytest.raises(ArgumentError, match=r"^validation_data sample_weight: every weight is zero"):
        new_model().fit(x, y, validation_data=(x, y, np.zeros(60)), verbose=0)
    with pytest.raises(ArgumentError, match=r"^sample_weight: expected one number for each"):
        trained(x, y).evaluate(x, y, sample_weight=[1])
