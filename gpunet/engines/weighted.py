"""Weighted: targets with a weight for each example, to be passed wherever targets alone can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Weighted:
    """Targets in the engines' form, and weights (examples,) float32, not negative, that multiply the examples' losses.

    The mean loss of a batch is the sum of weight times loss, divided by the number of examples; gradients follow from
    it.
    """

    targets: Any
    weights: Any

    @property
    def dtype(self) -> Any:
        return self.targets.dtype

    @property
    def ndim(self) -> int:
        return int(self.targets.ndim)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, which: Any) -> Weighted:
        return Weighted(self.targets[which], self.weights[which])

    def moved(self, move: Callable[[Any], Any]) -> Weighted:
        """Both arrays after `move`."""
        return Weighted(move(self.targets), move(self.weights))


def without_weights(targets: Any) -> Any:
    return targets.targets if isinstance(targets, Weighted) else targets
