"""The losses' names. Both are the cross-entropy of a softmax output; they differ in the form of the targets.

categorical_crossentropy         targets (n, classes): one-hot, or any probabilities that sum to 1
sparse_categorical_crossentropy  targets (n,): the number of the class
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpunet.errors import ArgumentError, shown
from gpunet.keras_names import attributes_of

ONE_HOT = "categorical_crossentropy"
INTEGER = "sparse_categorical_crossentropy"
LOSSES = (ONE_HOT, INTEGER)


def get(loss: object) -> str:
    """The loss's name; ArgumentError if there is none of that name."""
    if not isinstance(loss, str) or loss not in LOSSES:
        raise ArgumentError(f"loss: expected one of {', '.join(LOSSES)}; got {shown(loss)}")
    return loss


if not TYPE_CHECKING:  # for which it would be any name
    __getattr__ = attributes_of(__name__)
