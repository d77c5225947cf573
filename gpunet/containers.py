"""Containers passed instead of arrays: frames become arrays; data loaders, generators and the like are refused.

Types of other libraries are recognized by name, so that none of these libraries is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.errors import ArgumentError

WHOLE = "expected an array with all examples"


def unpacked(name: str, values: Any) -> Any:
    """The values, or the array in a pandas frame.

    Raises ArgumentError, naming the argument, for masked arrays, whose masks would be ignored, and other containers.
    """
    if any(isinstance(part, np.ma.MaskedArray) and np.ma.is_masked(part) for part in _parts(values)):
        raise ArgumentError(
            f"{name}: a masked array with masked elements, whose mask would be ignored; leave their examples out, or "
            "pass .filled(value)"
        )
    for is_kind, advice in KINDS:
        if is_kind(values):
            raise ArgumentError(f"{name}: is a {type(values).__name__}; {advice}")
    if isinstance(values, tuple):
        shapes = [tuple(part.shape) for part in values if hasattr(part, "shape")]
        if len(set(shapes)) > 1:
            raise ArgumentError(
                f"{name}: is a tuple of arrays of the shapes {' and '.join(map(str, shapes[:3]))}; expected one array: "
                "pass examples as x and targets as y"
            )
    return _array_of_frame(name, values) if _is_from(values, "pandas", "DataFrame") else values


def _parts(values: Any) -> list[Any]:
    return [values, *values] if isinstance(values, list | tuple) else [values]


def _array_of_frame(name: str, frame: Any) -> NDArray[Any]:
    """A pandas frame's numbers, in a type that holds all its columns; nullable columns are allowed."""
    kinds = set()
    for position, (column, kind) in enumerate(frame.dtypes.items()):
        if getattr(kind, "kind", "O") not in "buif":
            raise ArgumentError(
                f"{name}: column {column!r} has data type {kind}; expected numbers: drop the column, or convert it to "
                "numbers (pandas.get_dummies)"
            )
        if not isinstance(kind, np.dtype) and (missing := np.asarray(frame.iloc[:, position].isna())).any():
            raise ArgumentError(
                f"{name}: column {column!r} has no value for example {int(missing.argmax())}; expected numbers: fill "
                "it in, or drop the example"
            )
        kinds.add(getattr(kind, "numpy_dtype", getattr(kind, "subtype", kind)))
    array: NDArray[Any] = frame.to_numpy(dtype=np.result_type(*kinds) if kinds else None)
    return array


def _is_from(values: Any, library: str, *names: str) -> bool:
    """Whether the values' class, or a base class, is the library's, with one of these names (any, if none is given)."""
    return any(
        kind.__module__.partition(".")[0] == library and (not names or kind.__name__ in names)
        for kind in type(values).__mro__
    )


# Containers that are not arrays, and what to pass instead. The first match counts.
KINDS: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (
        lambda values: _is_from(values, "torch", "DataLoader"),
        f"{WHOLE}: for a TensorDataset in it pass x, y = loader.dataset.tensors; fit has batch_size and shuffle",
    ),
    (
        lambda values: _is_from(values, "torch", "TensorDataset"),
        f"{WHOLE}: pass its tensors, as in fit(*dataset.tensors)",
    ),
    (
        lambda values: _is_from(values, "torch", "Dataset"),
        f"{WHOLE}: pass its arrays, such as dataset.data and dataset.targets",
    ),
    (
        lambda values: hasattr(values, "as_numpy_iterator") and hasattr(values, "element_spec"),
        f"{WHOLE}: collect it, as in x, y = map(numpy.concatenate, zip(*dataset.as_numpy_iterator())) for batches",
    ),
    (
        lambda values: _is_from(values, "keras", "PyDataset", "Sequence"),
        f"{WHOLE}: collect its batches, as in x, y = map(numpy.concatenate, zip(*sequence))",
    ),
    (
        lambda values: isinstance(values, Mapping),
        f"{WHOLE}: pass the array of one of its keys, such as data['x']",
    ),
    (lambda values: isinstance(values, set | frozenset), f"{WHOLE}, and a set has no order: pass a list"),
    (
        lambda values: isinstance(values, Iterator) and not hasattr(values, "__array__"),
        f"{WHOLE}: collect its items, as in x = numpy.stack(list(examples)), and pass targets as y",
    ),
)
