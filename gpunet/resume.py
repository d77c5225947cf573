"""Which of a training's options are in a checkpoint, and how a training resumes from one.

A checkpoint is a model file (gpunet/saving) with the optimizer's state, the origin of the data and, as its "training",
the options that affect the weights (gpunet/training_options.py) and the engine's name. `gpunet.load` reads it like any
other model.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from gpunet import commandline, engines, files, saving, training_options
from gpunet.callbacks.best_epoch import BestEpoch
from gpunet.callbacks.run_checkpoint import RunCheckpoint
from gpunet.commandline import Option
from gpunet.data import Dataset, Origin
from gpunet.errors import ArgumentError, ModelFileError
from gpunet.interruption import Interruption
from gpunet.model import Sequential
from gpunet.saving import Saved

OPTIONS = (
    Option(
        "--checkpoint",
        metavar="FILE",
        help="save the training to FILE (.safetensors or .npz), so that it can be resumed",
    ),
    Option("--checkpoint-every", type=commandline.whole_number, metavar="N", help="save every N epochs (1)"),
    Option(
        "--resume",
        metavar="FILE",
        help="resume the training saved in FILE, with its settings, and save to it; more --epochs prolong it",
    ),
    Option("--from", type=commandline.path, metavar="MODEL", help="start with the network and the weights of MODEL"),
)


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The options as they were given; `settle` completes them."""
    options = parser.parse_args(
        argv, argparse.Namespace(**dict.fromkeys(training_options.defaults()))
    )  # None: not given
    if options.checkpoint_every is not None and options.checkpoint is None and options.resume is None:
        raise ArgumentError("--checkpoint-every: expected with --checkpoint or --resume")
    return options


@contextlib.contextmanager
def owned(options: argparse.Namespace) -> Iterator[None]:
    """No other training reads or writes the checkpoint and the model that this one writes, until it has ended.

    Raises ArgumentError if one does.
    """
    option, checkpoint = ("--checkpoint", options.checkpoint) if options.checkpoint else ("--resume", options.resume)
    with contextlib.ExitStack() as stack:
        if checkpoint:
            stack.enter_context(files.owned(option, checkpoint))
        # One path for both options is refused later, in words of its own.
        if options.save and not (checkpoint and os.path.realpath(options.save) == os.path.realpath(checkpoint)):
            stack.enter_context(files.owned("--save", options.save))
        yield


def settle(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Saved | None:
    """Complete the options by defaults, or by the settings of the checkpoint to resume from, which is returned.

    Raises ArgumentError for options that contradict it, ModelFileError if it is no checkpoint.
    """
    options.data_of_checkpoint = False  # whether the path of the data is not from the command line
    options.started = None if options.resume is not None else _model_to_start_from(options)
    if options.resume is None:
        saved, settings = None, training_options.defaults()
    else:
        if getattr(options, "from") is not None:
            raise ArgumentError("--from: not with --resume, which has its own weights; leave one of them out")
        saved = options.started = saving.read(options.resume)
        settings = _settings(parser, options.resume, saved)
        path_of_data, _ = _data(options.resume, saved)
        options.data_of_checkpoint = options.data is None and path_of_data is not None
        options.data = options.data or path_of_data
        options.target = options.target or (saved.data and saved.data.target)
    for option in training_options.of_a_training():
        value, given = settings[option.name], getattr(options, option.name)
        if saved is not None and given not in (None, value) and not _prolongs(options, option, saved, given):
            raise ArgumentError(
                f"{option.flag}: {_words(given)} contradicts {options.resume}, which was started with "
                f"{_words(value)}; leave the option out, or start anew without --resume"
            )
        setattr(options, option.name, value if given is None else given)
    if saved is not None:
        _require_in_order(options, saved)
    _require_unused(options)
    return saved


def _prolongs(options: argparse.Namespace, option: Option, saved: Saved, given: Any) -> bool:
    """Whether the option is another number of epochs, which may change; ArgumentError if they are done already."""
    if option.name != "epochs":
        return False
    if given < saved.epochs_trained:
        raise ArgumentError(
            f"--epochs: {options.resume} has {saved.epochs_trained} epochs done, got {given}; expected as many or more"
        )
    return True


def _model_to_start_from(options: argparse.Namespace) -> Saved | None:
    """What `--from` names. Raises ArgumentError if options describe a network as well."""
    path = getattr(options, "from")
    if path is None:
        return None
    for name in ("hidden", "activation", "l2", "dropout"):
        if getattr(options, name) is not None:
            raise ArgumentError(f"--{name}: not with --from, which takes the network of {path}; leave it out")
    return saving.read(path)


def best_epoch(options: argparse.Namespace, saved: Saved | None) -> BestEpoch | None:
    """What watches for the best epoch, if that was asked for; as it stood in the checkpoint to resume from."""
    keep = options.keep == "best"
    if not keep and options.early_stopping is None:
        return None
    best = BestEpoch(keep, options.early_stopping)
    state = None if saved is None else (saved.training or {}).get("best")
    if state is not None:
        try:
            best.take(state, None if saved is None else saved.best_weights)
        except (ArgumentError, LookupError, TypeError) as error:
            raise ModelFileError(f"--resume: {options.resume}: its best epoch cannot be read: {error}") from error
    return best


def checkpointer(
    options: argparse.Namespace,
    saved: Saved | None,
    dataset: Dataset,
    model: Sequential,
    engine: str,
    interruption: Interruption,
    best: BestEpoch | None = None,
) -> RunCheckpoint | None:
    """What saves the training, if that was asked for; puts the model where the checkpoint to resume from stood.

    engine: the name of the one that trains, to be remembered.
    Raises ArgumentError if the checkpoint was trained on other data.
    """
    path = options.checkpoint or options.resume
    if path is None:
        return None
    origin = Origin.of(dataset, options.data)
    if saved is not None and _data(options.resume, saved)[1] != origin.sha256:
        raise ArgumentError(
            f"--resume: {options.resume} was trained on other data than {origin.name}; give the same as --data"
        )
    assert model.optimizer is not None
    described = {"settings": training_options.settings(options, model.optimizer), "engine": engine}
    every = options.checkpoint_every or 1
    if saved is None:
        return RunCheckpoint(path, every, described, origin, lambda: interruption.at_once, best=best)
    assert saved.optimizer_state is not None
    assert saved.optimizer is not None
    model.set_weights(saved.weights)
    model.optimizer_state, model.epochs_trained = saved.optimizer_state, saved.epochs_trained
    model.scale = saved.scale
    rate = saved.optimizer.learning_rate
    checkpointer = RunCheckpoint(path, every, described, origin, lambda: interruption.at_once, rate, best)
    at_end = saved.epochs_trained == options.epochs or (best is not None and best.ended)
    if at_end and files.same_file(path, options.resume):
        checkpointer.saved_epochs = saved.epochs_trained  # nothing will be new
    return checkpointer


def another_engine(saved: Saved, engine: str) -> str | None:
    """The engine that the checkpoint was written with, if it is known to be another one."""
    before = (saved.training or {}).get("engine")
    return before if isinstance(before, str) and before in engines.ENGINES and before != engine else None


def _settings(parser: argparse.ArgumentParser, path: str, saved: Saved) -> dict[str, Any]:
    """A checkpoint's settings, checked by the parser as if they were on the command line."""
    try:
        settings = dict((saved.training or {})["settings"])
        words = []
        for option in training_options.of_a_training():
            # What has no default may be missing: the file is older than the option, and was trained without it.
            value = settings[option.name] if option.default is not None else settings.get(option.name)
            words += option.words(value)
    except (LookupError, TypeError, ValueError) as error:
        raise _no_training(path) from error
    parsed = parser.parse_args(words)
    return {name: getattr(parsed, name) for name in training_options.defaults()}


def _data(path: str, saved: Saved) -> tuple[str | None, str | None]:
    """The path and the fingerprint of the data that a checkpoint was trained on."""
    if saved.data is not None:
        return saved.data.path, saved.data.sha256
    try:
        data = (saved.training or {})["data"]  # where older files have it
        where, digest = data["path"], data["sha256"]
    except (LookupError, TypeError) as error:
        raise _no_training(path) from error
    if not isinstance(where, str | None) or not isinstance(digest, str):
        raise _no_training(path)
    return where, digest


def _no_training(path: str) -> ModelFileError:
    return ModelFileError(
        f"--resume: {path} holds a model, but no training to resume; expected a file from --checkpoint"
    )


def _require_in_order(options: argparse.Namespace, saved: Saved) -> None:
    """A file that only a person can have made may say one thing here and another there."""
    if saved.optimizer_state is None or saved.epochs_trained > options.epochs:
        raise ModelFileError(f"--resume: {options.resume}: the training's position is missing or beyond its end")


def _require_unused(options: argparse.Namespace) -> None:
    """No file may be overwritten that is not meant to be."""
    path = options.checkpoint
    if path is not None and not (options.resume is not None and files.same_file(path, options.resume)):
        saving.as_path(path)
        if os.path.lexists(path):
            raise ArgumentError(f"--checkpoint: {path} exists; resume it with --resume {path}, or choose another name")


def _words(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return {"None": "none", "True": "yes"}.get(str(value), str(value))
