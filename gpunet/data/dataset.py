"""What a data set is: training, validation and test examples that fit together."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunet import class_names
from gpunet.errors import ArgumentError, DataError

VALIDATION_SHARE = 6  # one in six training examples: MNIST's 10,000 of 60,000


class Examples(NamedTuple):
    """images (n, ...) uint8 or float32; labels (n,) int32."""

    images: NDArray[Any]
    labels: NDArray[np.int32]


@contextlib.contextmanager
def _as_data_errors() -> Iterator[None]:
    """Turn errors about names into DataError."""
    try:
        yield
    except ArgumentError as error:
        raise DataError(str(error)) from error


class Table(NamedTuple):
    """The columns of a table: the one with the classes, and those with the inputs, in order."""

    target: str
    columns: tuple[str, ...]


class _Parts(NamedTuple):
    train: Examples
    validation: Examples
    test: Examples


class Dataset(_Parts):
    """Unpacks as `(x_train, y_train), (x_val, y_val), (x_test, y_test) = load_mnist()`.

    class_names: if the labels were text, the names that the numbers stand for; else None.
    table:       if the examples are rows of a table, its columns; else None.
    """

    class_names: tuple[str, ...] | None
    table: Table | None

    def __new__(
        cls,
        train: Examples,
        validation: Examples,
        test: Examples,
        class_names: tuple[str, ...] | None = None,
        table: Table | None = None,
    ) -> Dataset:
        dataset = super().__new__(cls, train, validation, test)
        dataset.class_names, dataset.table = class_names, table
        return dataset

    @property
    def inputs(self) -> int:
        """Numbers per example: 784 for MNIST."""
        return math.prod(self.train.images.shape[1:])

    @property
    def classes(self) -> int:
        if self.class_names is not None:
            return len(self.class_names)
        return 1 + max(int(part.labels.max()) for part in self)

    def renamed(self, names: tuple[str, ...]) -> Dataset:
        """The same data, with classes numbered as in another list of names. Raises DataError for a class not in it."""
        own = self.class_names
        if own is None or own == names:
            return self
        if unknown := [name for name in own if name not in names]:
            raise DataError(
                f"there is no class {unknown[0]!r} in the model; its classes are {class_names.listed(names)}"
            )
        number = np.array([names.index(name) for name in own], np.int32)
        train, validation, test = (Examples(part.images, number[part.labels]) for part in self)
        return Dataset(train, validation, test, names, self.table)

    @property
    def untrained_classes(self) -> list[int]:
        """Classes in the validation part but not in the training part, as when the examples are sorted by class."""
        return [int(label) for label in np.setdiff1d(self.validation.labels, self.train.labels)]


class Part(NamedTuple):
    """Images and labels (numbers, or text) as read from files, and their names in messages: a path, or path and key."""

    images: NDArray[Any]
    labels: NDArray[Any]
    images_name: str
    labels_name: str


@_as_data_errors()
def split(train: Part, test: Part, validation: Part | None = None, *, table: Table | None = None) -> Dataset:
    """Check that the parts fit together; without a validation part, split one off the end of the training part.

    table: the columns, if the examples are rows of a table.
    Raises DataError, naming the file.
    """
    names = _class_names(train)
    train_examples = _examples(train, names)
    others = [(part, _examples(part, names)) for part in (test, validation) if part is not None]
    for part, part_examples in others:
        _require(
            train_examples.images.shape[1:] == part_examples.images.shape[1:],
            f"{part.images_name}: images of shape {part_examples.images.shape[1:]}, but the training images have "
            f"{train_examples.images.shape[1:]}; expected the same",
        )
        _require(
            (train_examples.images.dtype == np.uint8) == (part_examples.images.dtype == np.uint8),
            f"{part.images_name}: {part.images.dtype}, but the training images are {train.images.dtype}; expected "
            "bytes (uint8, scaled to 0..1) in both or in neither",
        )
    examples = len(train_examples.labels)
    _require(
        examples >= VALIDATION_SHARE,
        f"{train.labels_name}: {examples} training examples; expected at least {VALIDATION_SHARE}",
    )
    classes = 1 + int(train_examples.labels.max())
    _require(
        classes <= examples,
        f"{train.labels_name}: label {classes - 1} is out of range; {examples} examples can have at most "
        f"{examples} classes, numbered from 0",
    )
    _require(
        classes >= 2,
        f"{train.labels_name}: all labels are {class_names.of(names, 0)}; expected at least two classes",
    )
    for part, part_examples in others:
        largest = int(part_examples.labels.max())
        _require(
            largest < classes,
            f"{part.labels_name}: label {largest} is out of range; the training labels are 0 to {classes - 1}",
        )
    test_examples = others[0][1]
    if validation is not None:
        return Dataset(train_examples, others[1][1], test_examples, names, table)
    first = examples - examples // VALIDATION_SHARE
    return Dataset(
        Examples(train_examples.images[:first], train_examples.labels[:first]),
        Examples(train_examples.images[first:], train_examples.labels[first:]),
        test_examples,
        names,
    )


def _class_names(train: Part) -> tuple[str, ...] | None:
    """The names in the training labels, if they are text; None for numbers."""
    return class_names.distinct(train.labels_name, train.labels) if class_names.are_names(train.labels) else None


def _examples(part: Part, names: tuple[str, ...] | None) -> Examples:
    """The part's images as uint8 or finite float32, and its labels as int32. names: of the classes, for text."""
    images, labels = part.images, part.labels
    if names is not None:
        _require(
            class_names.are_names(labels),
            f"{part.labels_name}: {labels.dtype}, but the training labels are names; expected the same",
        )
        labels = class_names.numbered(part.labels_name, labels, names)
    _require(
        images.dtype.kind in "uifb",
        f"{part.images_name}: data type {images.dtype}; expected numbers",
    )
    _require(
        images.ndim >= 2 and math.prod(images.shape) > 0,
        f"{part.images_name}: shape {images.shape}; expected (examples, height, width) or (examples, inputs)",
    )
    if labels.ndim == 2 and labels.shape[1] == 1:  # as in CIFAR's files
        labels = labels[:, 0]
    one_hot = "; convert one-hot labels with labels.argmax(1)" if labels.ndim == 2 else ""
    _require(
        labels.dtype.kind in "buif" and labels.ndim == 1,
        f"{part.labels_name}: {labels.dtype} of shape {labels.shape}; expected whole numbers or names, one per "
        f"example{one_hot}",
    )
    _require(
        labels.dtype.kind != "f" or bool((np.floor(labels) == labels).all()),  # NaN is unequal, infinity out of range
        f"{part.labels_name}: has fractions or NaN; expected whole numbers, one per example",
    )
    _require(
        len(images) == len(labels),
        f"{part.labels_name}: {len(labels)} labels, but {part.images_name} has {len(images)} images",
    )
    for extreme in (labels.min(), labels.max()):
        _require(0 <= extreme < 2**31 - 1, f"{part.labels_name}: label {extreme} is out of range; labels count from 0")
    if images.dtype != np.uint8:
        with np.errstate(over="ignore"):  # too large for float32 becomes infinite, and is refused as such
            images = images.astype(np.float32)
        _require(
            bool(np.isfinite(images).all()),
            f"{part.images_name}: has NaN or infinite values, or values too large for float32",
        )
    return Examples(images, labels.astype(np.int32))


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise DataError(message)
