"""Scale: the range of a model's examples, so that it is not given the same images in another range.

Bytes (uint8) are used as x / 255, so bytes and floats from 0 to 1 are equivalent. Floats from 0 to 255, or standardized
ones, are not: a network trained on one kind silently fails on the other. Where bytes and floats meet, a mistake is
certain, and an error. Between floats and floats it is a warning, and only for a model that was trained on grey levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gpunet.errors import ArgumentError, warn

# How far floats may exceed 0..1 and still count as pixels in 0..1: noise and interpolation overshoot. Standardized
# MNIST starts at -0.42, and pixels in -0.5..0.5 or -1..1 lower still.
MARGIN = 0.25
WHITE = (255, 1023, 4095, 65535)  # the brightest level of 8, 10, 12 and 16 bits; in float images, it is there


@dataclass(frozen=True)
class Scale:
    """The kind of examples: bytes, or numbers that are used unchanged.

    low, high: the smallest and the largest number as used; for bytes the range includes 0..1.
    """

    in_bytes: bool
    low: float
    high: float

    def __post_init__(self) -> None:
        values: tuple[Any, ...] = (self.in_bytes, self.low, self.high)  # of any type, if read from a file
        are_numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in values[1:])
        if not isinstance(values[0], bool) or not are_numbers or self.low > self.high:
            raise ArgumentError(f"scale: expected bytes or not, and a range; got {values}")

    @property
    def from_0_to_1(self) -> bool:
        return self.low >= -MARGIN and self.high <= 1 + MARGIN

    @property
    def from_0_to_white(self) -> bool:
        return self.low == 0 and self.high in WHITE

    def joined(self, other: Scale | None) -> Scale:
        """The scale of both sets of examples together."""
        if other is None:
            return self
        return Scale(self.in_bytes or other.in_bytes, min(self.low, other.low), max(self.high, other.high))

    def require(self, name: str, known: Scale | None, whose: str = "the model was trained on") -> None:
        """Raise ArgumentError, naming the argument, if this scale differs from the known one; warn if that is likely.

        It is likely for floats from 0 to 1 if the model was trained on grey levels up to white. Zeros alone are a blank
        image on any scale. The reverse is no sign of a mistake: scikit-learn's MinMaxScaler does not scale a pixel that
        was blank in all images it was fitted on.
        """
        if known is None or (self.from_0_to_1 and known.from_0_to_1):
            return
        if self.in_bytes == known.in_bytes:
            if not self.in_bytes and known.from_0_to_white and self.low >= 0 and 0 < self.high <= 1:
                warn(
                    f"{name}: numbers from {self.low:g} to {self.high:g}, but {whose} numbers from {known.low:g} to "
                    f"{known.high:g}; if both are images, scale them alike"
                )
            return
        if self.in_bytes:
            raise ArgumentError(
                f"{name}: bytes (uint8), which are used as x / 255, but {whose} numbers from {known.low:g} to "
                f"{known.high:g}; expected the same range: pass .astype('float32'), scaled like them"
            )
        raise ArgumentError(
            f"{name}: numbers from {self.low:g} to {self.high:g}, but {whose} bytes (uint8), which are used as "
            "x / 255; expected bytes, or floats from 0 to 1"
        )


BYTES = Scale(True, 0.0, 1.0)
