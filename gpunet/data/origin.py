"""Origin: the data set that a model was trained on, as recorded in the model's file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunet.data.dataset import Dataset
from gpunet.errors import ArgumentError

MNIST = "MNIST (bundled)"
LETTERS = 64  # of a SHA-256 in hexadecimal


@dataclass(frozen=True)
class Origin:
    """path: as given to `--data`, or None for the bundled MNIST.

    shape:   of an example: (28, 28) for MNIST.
    classes: their number.
    sha256:  the data set's `fingerprint`.
    target, columns: of a table, the column with the classes and those with the inputs; None for other data.
    """

    path: str | None
    shape: tuple[int, ...]
    classes: int
    sha256: str
    target: str | None = None
    columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        values: tuple[Any, ...] = (self.path, self.classes, self.sha256)  # of any type, if read from a file
        object.__setattr__(self, "shape", tuple(self.shape))
        are_sizes = all(isinstance(size, int) and size > 0 for size in (*self.shape, self.classes))
        is_digest = isinstance(values[2], str) and len(values[2]) == LETTERS
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(self.columns))
        are_names = all(isinstance(name, str) for name in (self.target or "", *(self.columns or ())))
        if not isinstance(values[0], str | None) or not are_sizes or not is_digest or not are_names:
            raise ArgumentError(f"data: expected path, shape, classes and fingerprint, got {self}")

    @classmethod
    def of(cls, dataset: Dataset, path: str | None) -> Origin:
        table = dataset.table
        target, columns = (None, None) if table is None else table
        return cls(path, dataset.train.images.shape[1:], dataset.classes, fingerprint(dataset), target, columns)

    @property
    def name(self) -> str:
        return MNIST if self.path is None else self.path


def fingerprint(dataset: Dataset) -> str:
    """A hash of the examples, their order and the names of their classes; the file format does not matter."""
    digest = hashlib.sha256()
    if dataset.class_names is not None:
        digest.update(f"{list(dataset.class_names)}\n".encode())
    for part in dataset:
        for array in part:
            digest.update(f"{array.dtype.str} {array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
