"""Weighted: targets with a weight for each example, which travel together wherever targets alone would."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Weighted:
    """Targets in the engines' form (`targets`), and what each example's loss counts, (examples,) float32 from 0 on.

    The mean loss of a batch is the sum of weight times loss, over the number of its examples; gradients follow.
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
        """Both arrays elsewhere."""
        return Weighted(move(self.targets), move(self.weights))


def without_weights(targets: Any) -> Any:
    return targets.targets if isinstance(targets, Weighted) else targets
