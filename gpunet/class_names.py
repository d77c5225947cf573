"""Names of classes: labels that are text, and the whole numbers from 0 that stand for them.

Classes are numbered in the order of their sorted names (whole numbers by their value). A model keeps the names; engines
see numbers only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.errors import ArgumentError, shown

MOST_LISTED = 10  # names in a message


def are_names(labels: NDArray[Any]) -> bool:
    """Whether labels are text, or may be: objects are looked at one by one by the functions below."""
    return labels.dtype.kind in "USOT"


def distinct(owner: str, labels: NDArray[Any]) -> tuple[str, ...]:
    """The names in an array of labels, sorted. owner: what errors call it.

    Raises ArgumentError, naming the first label that is no name.
    """
    names = np.unique(_as_text(owner, labels)).tolist()
    with contextlib.suppress(ValueError):  # 9 before 10
        names.sort(key=int)
    return tuple(names)


def numbered(owner: str, labels: NDArray[Any], names: Sequence[str]) -> NDArray[np.int32]:
    """The labels as positions in `names`. Raises ArgumentError for one that is not among them."""
    present, positions = np.unique(_as_text(owner, labels), return_inverse=True)
    position_of = {name: position for position, name in enumerate(names)}
    for name in present.tolist():
        if name not in position_of:
            raise ArgumentError(f"{owner}: there is no class {shown(name)}; the classes are {listed(names)}")
    numbers = np.array([position_of[name] for name in present.tolist()], np.int32)
    return numbers[positions.reshape(-1)]


def checked(owner: str, names: object, classes: int | None = None) -> tuple[str, ...]:
    """The names as a tuple; ArgumentError unless they are different texts, none empty, one for each of the classes."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ArgumentError(f"{owner}: expected a list of names, got {shown(names)}")
    found = tuple(names)
    for name in found:
        if not isinstance(name, str) or not name:
            raise ArgumentError(f"{owner}: expected names, got {shown(name)}")
    if len(set(found)) != len(found):
        twice = next(name for number, name in enumerate(found) if name in found[:number])
        raise ArgumentError(f"{owner}: {shown(twice)} stands there twice; expected a different name for each class")
    if classes is not None and len(found) != classes:
        raise ArgumentError(f"{owner}: {len(found)} names for {classes} classes; expected one for each")
    return tuple(map(str, found))


def listed(names: Sequence[str]) -> str:
    """The names for a message, the first of many."""
    more = ", ..." if len(names) > MOST_LISTED else ""
    return shown(", ".join(names[:MOST_LISTED]) + more)[1:-1]


def of(names: Sequence[str] | None, number: int) -> str:
    """What to call a class."""
    return str(number) if names is None else names[number]


def _as_text(owner: str, labels: NDArray[Any]) -> NDArray[np.str_]:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ArgumentError(f"{owner}: names of shape {labels.shape}; expected one for each example")
    if labels.dtype.kind == "S":
        try:
            labels = np.char.decode(labels, "utf-8")
        except UnicodeDecodeError as error:
            raise ArgumentError(f"{owner}: names in bytes that are not UTF-8; expected text") from error
    elif labels.dtype.kind in "OT":
        for position, label in enumerate(labels):
            if not isinstance(label, str):
                raise ArgumentError(
                    f"{owner}: label {position} is {shown(label)}; expected text, or whole numbers from 0 for all"
                )
    texts: NDArray[np.str_] = labels.astype(np.str_)
    if (texts == "").any():
        raise ArgumentError(f"{owner}: label {int((texts == '').argmax())} is empty; expected a name")
    return texts
