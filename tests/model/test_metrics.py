"""Precision, recall, F1 and top-k accuracy are scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

from gpunet import ArgumentError, Dense, Sequential, metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn: pip install '.[test]'")


def example(seed: int, classes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities, with classes without examples or without predictions, and with equal probabilities."""
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 4], size=40)
    probabilities = rng.integers(1, 4, size=(40, classes)).astype(np.float64)
    probabilities[:, 3] = 0
    return labels, (probabilities / probabilities.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("seed", range(4))
def test_shares_and_averages_are_scikit_learns(seed: int) -> None:
    labels, probabilities = example(seed)
    predictions = probabilities.argmax(axis=1)
    confusion = metrics.confusion(labels, predictions, 6)
    np.testing.assert_array_equal(confusion, sklearn_metrics.confusion_matrix(labels, predictions, labels=range(6)))
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=range(6), zero_division=np.nan
    )
    for mine, theirs in zip(metrics.shares(confusion), expected[:3], strict=True):
        np.testing.assert_allclose(mine, theirs)
    for average in ("macro", "weighted"):
        means = sklearn_metrics.precision_recall_fscore_support(labels, predictions, average=average, zero_division=0)
        assert tuple(metrics.averages(confusion, average == "weighted").values()) == pytest.approx(means[:3])


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_is_scikit_learns(k: int) -> None:
    labels, probabilities = example(7)
    theirs = sklearn_metrics.top_k_accuracy_score(labels, probabilities, k=k, labels=range(6))
    assert metrics.top_k(labels, probabilities, k) == pytest.approx(theirs)


@pytest.mark.parametrize("one_hot", [False, True])
def test_evaluate_gives_the_metrics_that_compile_was_given(blobs, one_hot: bool) -> None:
    x, y = blobs
    model = Sequential([Dense(3, "softmax", input_dim=8)], seed=0)
    loss = "categorical_crossentropy" if one_hot else "sparse_categorical_crossentropy"
    targets = np.eye(3, dtype=np.float32)[y] if one_hot else y
    model.compile("adam", loss, metrics=["f1", "acc", "top_2_accuracy"], device="cpu")
    result = model.evaluate(x, targets)
    predictions = model.predict(x).argmax(axis=1)
    assert result[1] == pytest.approx((predictions == y).mean())
    expected = [
        sklearn_metrics.f1_score(y, predictions, average="macro"),
        sklearn_metrics.top_k_accuracy_score(y, model.predict(x), k=2),
    ]
    assert result[2:] == pytest.approx(expected)
    model.compile("adam", loss, device="cpu")
    assert len(model.evaluate(x, targets)) == 2


@pytest.mark.parametrize("wrong", ["f1", ["f2"], [3], 5, ["top_0_accuracy"]])
def test_unknown_metrics_are_refused(wrong) -> None:
    with pytest.raises(ArgumentError, match=r"^metrics: expected .*'accuracy', 'precision'"):
        Sequential([Dense(3, "softmax", input_dim=8)]).compile("adam", "categorical_crossentropy", wrong)
