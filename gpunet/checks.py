"""Numbers from users, checked. Each gives back Python's own number, or raises ArgumentError in one line."""

from __future__ import annotations

import math
import operator
from numbers import Real

import numpy as np

from gpunet.errors import ArgumentError, shown


def require_positive_integer(name: str, value: object) -> int:
    """The value as an int; ArgumentError unless it is a whole number above 0 (NumPy integers count)."""
    number = whole_number(value)
    if number is None or number < 1:
        raise ArgumentError(f"{name}: expected a whole number above 0, got {shown(value)}")
    return number


def require_count(name: str, value: object) -> int:
    """The value as an int; ArgumentError unless it is a whole number from 0 on."""
    number = whole_number(value)
    if number is None or number < 0:
        raise ArgumentError(f"{name}: expected a whole number from 0 on, got {shown(value)}")
    return number


def whole_number(value: object) -> int | None:
    """The value as an int if it is a whole number (NumPy's count, True and False do not), else None."""
    try:
        return None if isinstance(value, bool | np.bool_) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def require_number(name: str, value: object) -> float:
    """The value as a float; ArgumentError unless it is a finite number (NumPy's count, True and False do not)."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise ArgumentError(f"{name}: expected a finite number, got {shown(value)}")
    return float(value)
