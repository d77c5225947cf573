"""The data set of a command: from `--data`, else what the model was trained on that it takes, else MNIST."""

from __future__ import annotations

import sys

from gpunet import commandline, data
from gpunet.data import Dataset
from gpunet.errors import ArgumentError, DataError
from gpunet.saving import Saved


def to_train_on(program: str, path: str | None) -> Dataset:
    """The data set at `--data`, or MNIST, with a line if the end of the examples is unlike the rest."""
    dataset = data.load_mnist() if path is None else data.load(path)
    if untrained := dataset.untrained_classes:
        print(
            f"{program}: the validation examples have classes that no training example has, such as {untrained[0]}; "
            "if the examples are sorted by class, shuffle them first",
            file=sys.stderr,
        )
    return dataset


def load(program: str, model: str, saved: Saved, path: str | None) -> tuple[Dataset, str]:
    """The data set and its name; warns on the standard error if the model was trained on another one.

    program: the command's name. model: the model's file, whose content is `saved`. path: the value of `--data`, if any.
    Raises DataError if the model's own data is missing or has changed; ArgumentError for data that does not fit the
    network.
    """
    origin, network = saved.data, saved.network
    chosen = origin.path if path is None and origin is not None else path
    try:
        dataset = data.load_mnist() if chosen is None else data.load(chosen)
    except DataError as error:
        if path is not None:
            raise
        raise DataError(f"{error}; {model} was trained on it: pass its new path as --data") from error
    name = data.MNIST if chosen is None else chosen
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
    return dataset, name
