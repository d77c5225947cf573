"""Penalties on weights: the objects that layers take, and what they add to the loss.

A penalty pulls weights towards 0. Its part of a gradient is computed by the engines, with the optimizer's step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpunet.checks import require_number
from gpunet.errors import ArgumentError, shown
from gpunet.keras_names import attributes_of, explained

if TYPE_CHECKING:
    from gpunet.layers import Network

MOST_L2 = 1e30  # twice it is finite in float32
KERAS_DEFAULT = 0.01  # of L2() and of the name "l2"


@dataclass(frozen=True)
class L2:
    """Adds l2 times the sum of a layer's squared weights to the loss, like Keras' regularizer of that name.

    Biases are not penalized. scikit-learn's alpha is 2 * batch_size * l2.
    """

    l2: float = KERAS_DEFAULT

    @explained
    def __init__(self, l2: float = KERAS_DEFAULT) -> None:
        object.__setattr__(self, "l2", checked("L2: l2", l2))


def checked(name: str, value: object) -> float:
    """The factor as a float; ArgumentError unless it is a number from 0 on that float32 can hold twice."""
    factor = require_number(name, value)
    if not 0 <= factor <= MOST_L2:
        raise ArgumentError(f"{name}: expected a number from 0 to {MOST_L2:g}, got {shown(value)}")
    return factor


def get(owner: str, regularizer: object) -> L2 | None:
    """A layer's penalty: None, an L2, or the name "l2". Raises ArgumentError for anything else."""
    if regularizer is None or isinstance(regularizer, L2):
        return regularizer
    if isinstance(regularizer, str) and regularizer.lower() == "l2":
        return L2()
    raise ArgumentError(
        f"{owner}: kernel_regularizer: expected gpunet.L2(0.0001), 'l2' or None; got {shown(regularizer)}"
    )


def penalty(network: Network, weights: Sequence[NDArray[np.floating]]) -> float:
    """What a network's penalties add to the loss, for weights as the engines have them."""
    return sum(
        factor * float(np.square(matrix, dtype=np.float64).sum())
        for factor, matrix in zip(network.l2, weights[::2], strict=False)
        if factor
    )


if not TYPE_CHECKING:  # for which it would be any name
    __getattr__ = attributes_of(__name__)
