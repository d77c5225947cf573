"""Checks `sample_weight` and `class_weight`, and combines them into one weight per example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet import class_names
from gpunet.arrays import as_numbers
from gpunet.checks import require_number, whole_number
from gpunet.engines.base import on_host
from gpunet.engines.weighted import Weighted, without_weights
from gpunet.errors import ArgumentError, shown

BALANCED = "balanced"


def with_sample_weights(name: str, sample_weight: object, targets: Any) -> Any:
    """Targets with their weights, or unchanged if `sample_weight` is None.

    Raises ArgumentError unless it has one number for each target, none negative and not all 0.
    """
    if sample_weight is None:
        return targets
    return Weighted(targets, as_sample_weights(name, sample_weight, len(targets)))


def as_sample_weights(name: str, sample_weight: object, examples: int) -> NDArray[np.float32]:
    array = as_numbers(name, sample_weight)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (examples,):
        raise ArgumentError(
            f"{name}: expected one number for each of the {examples} examples, shape ({examples},), got {array.shape}"
        )
    with np.errstate(over="ignore"):
        weights = array.astype(np.float32)
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        which = int(bad.argmax())
        raise ArgumentError(f"{name}: expected finite numbers from 0 on, got {array[which]} for example {which}")
    if not weights.any():
        raise ArgumentError(f"{name}: every weight is zero, so nothing would be learnt; expected some above 0")
    return weights


def require_some(whose: str, weights: NDArray[np.float32]) -> None:
    """Raise ArgumentError if all weights are 0. whose: of which examples."""
    if not weights.any():
        raise ArgumentError(f"sample_weight: every weight of the {whose} is zero; expected some above 0")


def with_class_weights(class_weight: object, targets: Any, classes: int, names: Sequence[str] | None = None) -> Any:
    """Targets with their weights multiplied by those of their classes, or unchanged if `class_weight` is None.

    class_weight: weights of some classes by number or name, 1 for the others; or "balanced": examples / (classes with
                  examples * the class's examples), which gives every class the same total weight, as in scikit-learn.
    Raises ArgumentError for anything else.
    """
    if class_weight is None:
        return targets
    plain = on_host(without_weights(targets))
    labels = plain if plain.ndim == 1 else plain.argmax(axis=1)
    counts = np.bincount(labels, minlength=classes)
    if isinstance(class_weight, str) and class_weight == BALANCED:
        of_classes = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    else:
        of_classes = _of_classes(class_weight, classes, names or ())
    products = of_classes[labels]
    if isinstance(targets, Weighted):
        products = products * targets.weights
    with np.errstate(over="ignore"):
        weights = products.astype(np.float32)
    if not (finite := np.isfinite(weights)).all():
        which = int(finite.argmin())
        raise ArgumentError(f"class_weight: the weight of example {which}, {products[which]:g}, is too large")
    if not weights.any():
        raise ArgumentError("class_weight: every example has the weight 0, so nothing would be learnt")
    return Weighted(without_weights(targets), weights)


def _of_classes(class_weight: object, classes: int, names: Sequence[str]) -> NDArray[np.float64]:
    if not isinstance(class_weight, Mapping):
        raise ArgumentError(
            f"class_weight: expected a dictionary such as {{0: 1, 1: 2.5}}, or {BALANCED!r}; got {shown(class_weight)}"
        )
    weights = np.ones(classes)
    for key, value in class_weight.items():
        number = names.index(key) if isinstance(key, str) and key in names else whole_number(key)
        if number is None or not 0 <= number < classes:
            known = f" or {class_names.listed(names)}" if names else ""
            raise ArgumentError(f"class_weight: expected classes from 0 to {classes - 1}{known}, got {shown(key)}")
        weight = require_number(f"class_weight of class {number}", value)
        if weight < 0 or weight > float(np.finfo(np.float32).max):
            raise ArgumentError(f"class_weight of class {number}: expected a number from 0 on, got {shown(value)}")
        weights[number] = weight
    return weights
