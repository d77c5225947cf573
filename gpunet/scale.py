"""Scale: in which numbers a model's examples came, so that it is not given the same pictures in others.

Bytes (uint8) are used as x / 255, so they and floats from 0 to 1 mean the same. Floats from 0 to 255, or standardized
ones, do not: a network trained on one of them is wrong on the other, and nothing else would say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gpunet.errors import ArgumentError

# How far floats may be beyond 0..1 and still be pixels of 0..1: what noise and interpolation add. Standardized MNIST
# begins at -0.42, and pixels of -0.5..0.5 or -1..1 further below.
MARGIN = 0.25


@dataclass(frozen=True)
class Scale:
    """What examples were: bytes, or else numbers that are used as they are.

    low, high: the smallest and the largest number, as it was used: at least 0 and 1 for bytes.
    """

    in_bytes: bool
    low: float
    high: float

    def __post_init__(self) -> None:
        values: tuple[Any, ...] = (self.in_bytes, self.low, self.high)  # anything, where they are from a file
        are_numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in values[1:])
        if not isinstance(values[0], bool) or not are_numbers or self.low > self.high:
            raise ArgumentError(f"scale: expected bytes or not, and a range; got {values}")

    @property
    def from_0_to_1(self) -> bool:
        return self.low >= -MARGIN and self.high <= 1 + MARGIN

    def joined(self, other: Scale | None) -> Scale:
        """Of the examples of both."""
        if other is None:
            return self
        return Scale(self.in_bytes or other.in_bytes, min(self.low, other.low), max(self.high, other.high))

    def require(self, name: str, known: Scale | None, whose: str = "the model was trained on") -> None:
        """Raise ArgumentError, naming the argument, if these are other numbers than the known ones."""
        if known is None or self.in_bytes == known.in_bytes or (self.from_0_to_1 and known.from_0_to_1):
            return
        if self.in_bytes:
            raise ArgumentError(
                f"{name}: bytes (uint8), which are used as x / 255, but {whose} numbers from {known.low:g} to "
                f"{known.high:g}; expected such numbers: pass .astype('float32'), scaled as they were"
            )
        raise ArgumentError(
            f"{name}: numbers from {self.low:g} to {self.high:g}, but {whose} bytes (uint8), which are used as "
            "x / 255; expected bytes, or floats from 0 to 1"
        )


BYTES = Scale(True, 0.0, 1.0)
