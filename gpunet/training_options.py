"""What decides a training: its options, and the model that they describe.

OPTIONS is the one list. The parser of `gpunet train` has them, every checkpoint holds them, and `--resume` brings them
back. An option that does not decide the weights belongs to the command (gpunet/train.py) or to all commands
(gpunet/commandline.py).
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from gpunet import commandline, losses, optimizers
from gpunet.commandline import LINEARLY, LOGARITHMICALLY, Option
from gpunet.data import Dataset
from gpunet.errors import ArgumentError
from gpunet.layers import HIDDEN_ACTIVATIONS, Dense, Dropout
from gpunet.model import Sequential, layers_of
from gpunet.normalization import Normalization
from gpunet.optimizers import Optimizer
from gpunet.regularizers import L2
from gpunet.saving import Saved

SCHEDULES = ("linear", "constant")
# Adam at a constant 0.001 jumps about at the end; twice that, falling to 0, comes to rest at a higher accuracy.
# The other optimizers have their class' own rate.
DEFAULT_RATES = {"adam": 0.002, "adamw": 0.002}


def default_rate(optimizer: str) -> float:
    return DEFAULT_RATES.get(optimizer, optimizers.get(optimizer).learning_rate)


def _width(text: str) -> int:
    """An argparse type: of one hidden layer."""
    if "," in text:
        raise argparse.ArgumentTypeError(f"expected whole numbers, got {text!r}; separate widths by spaces")
    return commandline.whole_number(text)


# An option that is called as an optimizer's field is given to the optimizer, and has no default of its own.
OPTIONS = (
    Option(
        "--epochs",
        type=commandline.seed,
        default=20,
        metavar="N",
        help="passes over the training data",
        spread=LINEARLY,
    ),
    Option(
        "--batch-size",
        type=commandline.whole_number,
        default=100,
        metavar="N",
        help="examples per update",
        spread=LOGARITHMICALLY,
    ),
    Option(
        "--hidden",
        type=_width,
        nargs="*",
        default=[500, 500],
        metavar="UNITS",
        help="widths of the hidden layers; give no numbers for a network without any (500 500)",
        spread=LINEARLY,
    ),
    Option("--activation", choices=HIDDEN_ACTIVATIONS, default="sigmoid", help="activation of the hidden layers"),
    Option("--optimizer", choices=tuple(optimizers.OPTIMIZERS), default="adam", help="update rule"),
    Option(
        "--learning-rate",
        type=float,
        metavar="RATE",
        help="initial learning rate "
        f"({', '.join(f'{default_rate(name):g} for {name}' for name in optimizers.OPTIMIZERS)})",
        spread=LOGARITHMICALLY,
    ),
    Option(
        "--schedule",
        choices=SCHEDULES,
        default="linear",
        help="learning rate: falling to 0 in equal steps, one per epoch, or constant, as in the lecture (linear)",
    ),
    Option(
        "--momentum",
        type=float,
        metavar="SHARE",
        help="share of the last step that is kept, for sgd (0)",
        spread=LINEARLY,
    ),
    Option("--nesterov", action="store_true", help="use Nesterov momentum, for sgd"),
    Option(
        "--weight-decay",
        type=float,
        metavar="RATE",
        help="decoupled weight decay, for adamw (0.004)",
        spread=LOGARITHMICALLY,
    ),
    Option(
        "--l2",
        type=float,
        metavar="FACTOR",
        help="penalty on the weights: FACTOR times the sum of their squares is added to the loss (none)",
        spread=LOGARITHMICALLY,
    ),
    Option(
        "--dropout",
        type=float,
        metavar="RATE",
        help="share of every hidden layer's units that is dropped in training (none)",
        spread=LINEARLY,
    ),
    Option(
        "--seed",
        type=commandline.seed,
        default=0,
        metavar="N",
        help="seed of the initial weights, the shuffling and the dropout",
    ),
)


# When training ends, and with which weights; not what `gpunet sweep` varies.
ENDING = (
    Option(
        "--early-stopping",
        type=commandline.whole_number,
        metavar="N",
        help="end training when the validation loss was not lower for N epochs (after all epochs)",
    ),
    Option(
        "--keep",
        choices=("last", "best"),
        help="the weights of the last epoch, or of the one with the lowest validation loss (last)",
    ),
)


def of_a_training() -> tuple[Option, ...]:
    """All options that a checkpoint holds."""
    return (*OPTIONS, *ENDING)


def defaults() -> dict[str, Any]:
    return {option.name: option.default for option in of_a_training()}


def settings(options: argparse.Namespace, optimizer: Optimizer) -> dict[str, Any]:
    """The options by name, for a checkpoint; those of the optimizer as it has them, whatever was a default then."""
    ours = {option.name: getattr(options, option.name) for option in of_a_training()}
    return ours | {name: getattr(optimizer, name, None) for name in ours if name in _optimizer_fields()}


def optimizer_of(options: argparse.Namespace) -> Optimizer:
    """The optimizer that the options describe. Raises ArgumentError for an option of another optimizer's."""
    chosen = optimizers.OPTIMIZERS[options.optimizer]
    given = {"learning_rate": default_rate(options.optimizer)}
    for option in OPTIONS:
        owners = owners_of(option.name)
        value = getattr(options, option.name)
        if not owners or value is None or value is False:
            continue
        if options.optimizer not in owners:
            raise ArgumentError(
                f"{option.flag}: expected with --optimizer {' or '.join(owners)}, got --optimizer {options.optimizer}"
            )
        given[option.name] = value
    if given.get("nesterov") and not given.get("momentum"):
        raise ArgumentError("--nesterov: expected with --momentum above 0")
    return chosen(**given)


def model_of(options: argparse.Namespace, dataset: Dataset) -> Sequential:
    """The compiled model that the options describe; with `options.started`, what was saved, with new optimizer.

    The columns of a table are standardized.
    """
    started: Saved | None = getattr(options, "started", None)
    if started is not None:
        model = Sequential(layers_of(started), seed=options.seed)
        model.class_names = started.class_names or dataset.class_names
        model.compile(optimizer_of(options), losses.INTEGER, device=options.device, engine=options.engine)
        model.set_weights(started.weights)
        model.scale = started.scale
        return model
    model = Sequential(seed=options.seed)
    if dataset.table is not None:
        standardize = Normalization()
        standardize.adapt(dataset.train.images)
        model.add(standardize)
    inputs: int | None = dataset.inputs
    penalty = None if options.l2 is None else L2(options.l2)
    for units in options.hidden:
        model.add(Dense(units, options.activation, input_dim=inputs, kernel_regularizer=penalty))
        if options.dropout is not None:
            model.add(Dropout(options.dropout))
        inputs = None
    model.add(Dense(dataset.classes, "softmax", input_dim=inputs, kernel_regularizer=penalty))
    model.class_names = dataset.class_names
    model.compile(optimizer_of(options), losses.INTEGER, device=options.device, engine=options.engine)
    return model


def owners_of(name: str) -> list[str]:
    """The optimizers that the option of this name belongs to; none if it is not an optimizer's."""
    return _optimizer_fields().get(name, [])


def _optimizer_fields() -> dict[str, list[str]]:
    """The optimizers that have a field, by its name."""
    owners: dict[str, list[str]] = {}
    for name, cls in optimizers.OPTIMIZERS.items():
        for field in dataclasses.fields(cls):
            owners.setdefault(field.name, []).append(name)
    return owners
