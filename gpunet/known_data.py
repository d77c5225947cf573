"""The data set of a command that takes a model: what `--data` says, else what the model was trained on, else MNIST."""

from __future__ import annotations

import sys

from gpunet import commandline, data
from gpunet.data import Dataset
from gpunet.errors import ArgumentError, DataError
from gpunet.saving import Saved


def load(program: str, model: str, saved: Saved, path: str | None) -> tuple[Dataset, str]:
    """The data set and its name; with a line on the standard error if the model was trained on another one.

    program: of the command. model: the model's file, whose content is `saved`. path: what `--data` says, if anything.
    Raises DataError if what the model was trained on is not there or not the same any more; ArgumentError for data
    that the network does not take.
    """
    origin, network = saved.data, saved.network
    chosen = origin.path if path is None and origin is not None else path
    try:
        dataset = data.load_mnist() if chosen is None else data.load(chosen)
    except DataError as error:
        if path is not None:
            raise
        raise DataError(f"{error}; {model} was trained on it, --data gives another path") from error
    name = data.MNIST if chosen is None else chosen
    is_other = origin is not None and data.fingerprint(dataset) != origin.sha256
    if is_other and path is None:
        raise DataError(f"{name}: other examples than {model} was trained on; with --data {name} they are taken")
    if network.inputs != dataset.inputs or network.classes < dataset.classes:
        raise ArgumentError(
            f"{model}: a network with {network.inputs} inputs and {network.classes} classes, but {name} has "
            f"{dataset.inputs} inputs and {dataset.classes} classes; expected what the model was trained on"
        )
    if is_other and origin is not None:
        told = f"{name}: other examples than {model} was trained on ({origin.name})"
        print(f"{program}: {commandline.one_line(told)}", file=sys.stderr)
    return dataset, name
