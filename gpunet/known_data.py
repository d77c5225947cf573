"""The data set of a command: from `--data`, else what the model was trained on that it takes, else MNIST."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from gpunet import commandline, data
from gpunet.data import Dataset
from gpunet.errors import ArgumentError, DataError
from gpunet.saving import Saved


def to_train_on(program: str, path: str | None, target: str | None = None) -> Dataset:
    """The data set at `--data`, or MNIST, with a line if the end of the examples is unlike the rest.

    target: the value of `--target`, if any.
    """
    dataset = _of_path(path, target)
    if untrained := dataset.untrained_classes:
        print(
            f"{program}: the validation examples have classes that no training example has, such as {untrained[0]}; "
            "if the examples are sorted by class, shuffle them first",
            file=sys.stderr,
        )
    return dataset


def _of_path(path: str | None, target: str | None, columns: Sequence[str] | None = None) -> Dataset:
    if path is not None:
        return data.load(path, target, columns)
    if target is not None:
        raise ArgumentError("--target: expected with --data TABLE, a .csv, .tsv or .parquet file")
    return data.load_mnist()


def load(program: str, model: str, saved: Saved, path: str | None, target: str | None = None) -> tuple[Dataset, str]:
    """The data set and its name; warns on the standard error if the model was trained on another one.

    A table that the model was not trained on is for testing as a whole; of other data its own part is.

    program: the command's name. model: the model's file, whose content is `saved`. path, target: the values of `--data`
    and `--target`, if any.
    Raises DataError if the model's own data is missing or has changed; ArgumentError for data that does not fit the
    network.
    """
    origin, network = saved.data, saved.network
    chosen = origin.path if path is None and origin is not None else path
    name = data.MNIST if chosen is None else chosen
    try:
        dataset = _to_test_on(saved, chosen, target, given=path is not None)
    except DataError as error:
        if path is not None:
            raise
        raise DataError(f"{error}; {model} was trained on it: pass its new path as --data") from error
    is_other = origin is not None and data.fingerprint(dataset) != origin.sha256
    if is_other and path is None:
        raise DataError(f"{name}: not the examples that {model} was trained on; pass --data {name} to use them")
    if network.inputs != dataset.inputs or network.classes < dataset.classes:
        raise ArgumentError(
            f"{model}: the network has {network.inputs} inputs and {network.classes} classes, but {name} has "
            f"{dataset.inputs} inputs and {dataset.classes} classes; expected the data that the model was trained on"
        )
    if is_other and origin is not None:
        warning = f"{name}: not the examples that {model} was trained on ({origin.name})"
        print(f"{program}: {commandline.one_line(warning)}", file=sys.stderr)
    if saved.class_names is not None:
        try:
            dataset = dataset.renamed(saved.class_names)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
    return dataset, name


def _to_test_on(saved: Saved, path: str | None, target: str | None, given: bool) -> Dataset:
    """given: whether the path is that of `--data`."""
    if path is None or not data.is_table(path):
        return _of_path(path, target)
    origin = saved.data
    columns = None
    if origin is not None:
        target, columns = target or origin.target, origin.columns
    if not given:
        return data.load(path, target, columns)
    with contextlib.suppress(DataError):
        dataset = data.load(path, target, columns)
        if origin is not None and data.fingerprint(dataset) == origin.sha256:
            return dataset
    return data.read_rows(Path(path), target, columns, saved.class_names)
