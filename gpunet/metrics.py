"""What a classifier's predictions are worth, class by class: scikit-learn's definitions and averages.

precision  share of a class' predictions that are right     (undefined without a prediction of it)
recall     share of a class' examples that are recognized    (undefined without an example of it)
f1         2 precision recall / (precision + recall), which is 2 correct / (examples + predictions)
top k      share of examples whose class is among the k most probable ones
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunet.errors import ArgumentError, shown
from gpunet.keras_names import attributes_of

ACCURACY = ("accuracy", "acc")
AVERAGED = ("precision", "recall", "f1")
TOP = re.compile(r"top_([1-9]\d*)_accuracy")
KERAS_TOP = ("top_k_categorical_accuracy", "sparse_top_k_categorical_accuracy")  # whose k is 5 if nothing is said
EXPECTED = "'accuracy', 'precision', 'recall', 'f1' or 'top_5_accuracy'"


class Shares(NamedTuple):
    """Of each class, in 0..1; NaN where undefined."""

    precision: NDArray[np.floating]
    recall: NDArray[np.floating]
    f1: NDArray[np.floating]


def checked(metrics: Any) -> tuple[str, ...]:
    """The metrics that `compile` was given but for accuracy, which is always there. ArgumentError for unknown ones."""
    if metrics is None:
        return ()
    if isinstance(metrics, str) or not isinstance(metrics, Sequence):
        raise ArgumentError(f"metrics: expected a list of {EXPECTED}; got {shown(metrics)}")
    for metric in metrics:
        known = isinstance(metric, str) and (metric in (*ACCURACY, *AVERAGED, *KERAS_TOP) or TOP.fullmatch(metric))
        if not known:
            raise ArgumentError(f"metrics: expected {EXPECTED}; got {shown(metric)}")
    return tuple(metric for metric in metrics if metric not in ACCURACY)


def value(metric: str, labels: NDArray[np.integer], probabilities: NDArray[np.floating]) -> float:
    """One of `checked`, of examples: classes (n,) and probabilities (n, classes)."""
    if metric in AVERAGED:
        predictions = probabilities.argmax(axis=1)
        return averages(confusion(labels, predictions, probabilities.shape[1]))[metric]
    match = TOP.fullmatch(metric)
    return top_k(labels, probabilities, int(match[1]) if match else 5)


def confusion(labels: NDArray[np.integer], predictions: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """(classes, classes), in examples: target by prediction."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predictions), 1)
    return counts


def shares(confusion: NDArray[np.int64]) -> Shares:
    correct, examples, predictions = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    with np.errstate(invalid="ignore"):
        return Shares(correct / predictions, correct / examples, 2 * correct / (examples + predictions))


def averages(confusion: NDArray[np.int64], weighted: bool = False) -> dict[str, float]:
    """Means over the classes that are there, as examples or predictions; undefined shares count as 0.

    weighted: by the classes' examples; else all classes count the same ("macro").
    """
    examples, predictions = confusion.sum(axis=1), confusion.sum(axis=0)
    there = (examples + predictions) > 0
    weights = examples[there] if weighted else None
    found = shares(confusion)._asdict()
    return {name: float(np.average(np.nan_to_num(of[there]), weights=weights)) for name, of in found.items()}


def top_k(labels: NDArray[np.integer], probabilities: NDArray[np.floating], k: int) -> float:
    """As scikit-learn's top_k_accuracy_score; of equal probabilities the later class counts as the higher one."""
    best = np.argsort(probabilities, axis=1, kind="stable")[:, ::-1][:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())


if not TYPE_CHECKING:  # for which it would be any name
    __getattr__ = attributes_of(__name__)
