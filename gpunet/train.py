"""`gpunet train`: train a network on MNIST, or on any data set in the same form."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Sequence
from typing import IO

from gpunet import __version__, checkpoints, commandline, data, engines, losses, optimizers, plots, saving, threads
from gpunet.callbacks import Callback, History, Logs, ProgressDisplay
from gpunet.data import Dataset
from gpunet.errors import ArgumentError, OutputError, TrainingDivergedError
from gpunet.layers import HIDDEN_ACTIVATIONS, Dense
from gpunet.model import Sequential

PROGRAM = "gpunet train"
SCHEDULES = ("linear", "constant")
# Adam at a constant 0.001 jumps about at the end; twice that, falling to 0, comes to rest at a higher accuracy.
DEFAULT_RATES = {"adam": 0.002, "sgd": 0.01}
EXAMPLES = """\
  gpunet train --save model.safetensors --plot curves.png
  gpunet train --batch-size 1 --epochs 1
  gpunet train --data fashion-mnist/ --hidden 300 100 --activation relu
  gpunet train --optimizer sgd --learning-rate 0.1 --momentum 0.9 --metrics metrics.jsonl
  gpunet train --batch-size 1 --checkpoint training.safetensors
  gpunet train --resume training.safetensors"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _train, argv)


def _train(argv: Sequence[str] | None) -> int:
    options, saved = checkpoints.parse(_parser(), argv)
    for option in ("data", "metrics"):
        if getattr(options, option) == "":
            raise ArgumentError(f"--{option}: expected a path, got ''")
    _check_outputs(options)
    if options.threads is not None:
        threads.limit(options.threads)
    dataset = data.load_mnist() if options.data is None else data.load(options.data)
    if options.batch_size > len(dataset.train.labels):
        raise ArgumentError(
            f"--batch-size: expected at most the {len(dataset.train.labels)} training examples, "
            f"got {options.batch_size}"
        )
    model = _model(options, dataset)
    choice = engines.choose(model.network, options.batch_size, options.device, options.engine, model.optimizer)
    checkpointer = checkpoints.checkpointer(options, saved, dataset, model)
    if not options.quiet:
        _introduce(options, dataset, model, choice.reason)

    timing, history = Timing(), History()
    callbacks: list[Callback] = [timing, history] if options.quiet else [timing, history, ProgressDisplay()]
    if options.schedule == "linear":
        callbacks.append(LinearDecay())
    metrics = MetricsFile(options.metrics, append=saved is not None) if options.metrics else None
    callbacks += [callback for callback in (metrics, checkpointer) if callback]
    try:
        with checkpointer.catching_signals() if checkpointer else contextlib.nullcontext():
            model.fit(
                *dataset.train,
                batch_size=options.batch_size,
                epochs=options.epochs,
                verbose=0,
                callbacks=callbacks,
                validation_data=dataset.validation,
                initial_epoch=model.epochs_trained,
            )
        test_loss, test_accuracy = model.evaluate(*dataset.test)
        if not math.isfinite(test_loss):
            raise TrainingDivergedError(-(-len(dataset.train.labels) // options.batch_size), options.epochs)
        if metrics:
            metrics.write({"test_loss": test_loss, "test_accuracy": test_accuracy})
        if options.save is not None:
            model.save(options.save)
    except KeyboardInterrupt:
        commandline.ignore_interrupts()
        with contextlib.suppress(BrokenPipeError):  # Ctrl-C ends the reader of a pipe as well
            resume = f"; --resume {checkpointer.path} goes on" if checkpointer else ""
            print(f"interrupted after {timing.summary()}{timing.last_epoch()}{resume}", flush=True)
        return checkpointer.exit_status if checkpointer else commandline.INTERRUPTED
    finally:
        if metrics:
            metrics.close()
        if options.plot is not None and history.epoch:  # after Ctrl-C and errors too, of the epochs until then
            plots.write(plots.curves([1 + epoch for epoch in history.epoch], history.history), options.plot)
    print(f"test accuracy {100 * test_accuracy:.2f} %, loss {test_loss:.4f}, after {timing.summary()}", flush=True)
    return commandline.DONE


def _parser() -> argparse.ArgumentParser:
    parser = commandline.Parser(
        prog=PROGRAM,
        description="Train a fully connected network on the bundled MNIST, or on your own data.",
        examples=EXAMPLES,
    )
    whole_number = commandline.whole_number
    add = parser.add_argument
    add("--epochs", type=whole_number, default=20, metavar="N", help="passes over the training data (20)")
    add("--batch-size", type=whole_number, default=100, metavar="N", help="examples an update (100)")
    add(
        "--hidden",
        type=whole_number,
        nargs="*",
        default=[500, 500],
        metavar="UNITS",
        help="widths of the hidden layers, none for a network without any (500 500)",
    )
    add("--activation", choices=HIDDEN_ACTIVATIONS, default="sigmoid", help="of the hidden layers (sigmoid)")
    add("--optimizer", choices=list(optimizers.OPTIMIZERS), default="adam", help="update rule (adam)")
    add("--learning-rate", type=float, metavar="RATE", help="step size, at the start (0.002 for adam, 0.01 for sgd)")
    add(
        "--schedule",
        choices=SCHEDULES,
        default="linear",
        help="of the learning rate: falling to 0 in equal steps, one an epoch, or constant as in the lecture (linear)",
    )
    add("--momentum", type=float, metavar="SHARE", help="share of the last step to keep, for sgd (0)")
    add(
        "--data",
        metavar="PATH",
        help="a folder of IDX files, plain or .gz, or an .npz with x_train, y_train, x_test, y_test (MNIST)",
    )
    add("--seed", type=commandline.seed, default=0, metavar="N", help="fixes the start and the shuffling (0)")
    add("--device", choices=engines.DEVICES, default="auto", help="where to compute (auto)")
    add("--engine", choices=engines.ENGINES, default="auto", help="how to compute (auto)")
    add("--threads", type=whole_number, metavar="N", help="cores to compute with, on a CPU (all that may be used)")
    add("--metrics", metavar="FILE", help="write one JSON object an epoch, and one with the test result, to FILE")
    add("--save", metavar="FILE", help="write the trained model to FILE: .safetensors or .npz")
    add("--plot", metavar="FILE", help="draw loss and accuracy over the epochs into FILE: .png, .svg or .pdf")
    checkpoints.add_options(parser)
    add("--quiet", action="store_true", help="print the result only")
    add("--version", action="version", version=f"gpunet {__version__}")
    return parser


def _check_outputs(options: argparse.Namespace) -> None:
    """Raise ArgumentError, before any work, if a file that is to be written cannot be, or is another option's."""
    checkpoint = options.checkpoint
    if checkpoint is not None and options.resume is not None and commandline.same_file(checkpoint, options.resume):
        checkpoint = None  # the one pair that may be the same
    elif checkpoint is not None:
        commandline.check_output("--checkpoint", checkpoint)
    named = {f"--{name}": getattr(options, name) for name in ("data", "resume", "metrics", "save", "plot")}
    commandline.check_distinct({**named, "--checkpoint": checkpoint})
    if options.plot is not None:
        plots.check(options.plot)
    if options.save is not None:
        commandline.check_output("--save", options.save)
        try:
            saving.as_path(options.save)
        except ArgumentError as error:
            raise ArgumentError(f"--save: {error}") from None


def _model(options: argparse.Namespace, dataset: Dataset) -> Sequential:
    """The compiled model that the options describe."""
    model = Sequential(seed=options.seed)
    inputs: int | None = dataset.inputs
    for units in options.hidden:
        model.add(Dense(units, options.activation, input_dim=inputs))
        inputs = None
    model.add(Dense(dataset.classes, "softmax", input_dim=inputs))
    rate = DEFAULT_RATES[options.optimizer] if options.learning_rate is None else options.learning_rate
    if options.momentum is not None and options.optimizer != "sgd":
        raise ArgumentError(f"--momentum: expected with --optimizer sgd, got --optimizer {options.optimizer}")
    optimizer = optimizers.Adam(rate) if options.optimizer == "adam" else optimizers.SGD(rate, options.momentum or 0.0)
    model.compile(optimizer, losses.INTEGER, device=options.device, engine=options.engine)
    return model


def _introduce(options: argparse.Namespace, dataset: Dataset, model: Sequential, reason: str) -> None:
    """Say what will run, on what, and why."""
    sizes = ", ".join(
        f"{len(part.labels):,} {name}"
        for part, name in zip(dataset, ("training", "validation", "test examples"), strict=True)
    )
    shape = " x ".join(map(str, dataset.train.images.shape[1:]))
    print(f"device  {reason}")
    print(f"data    {options.data or 'MNIST (bundled)'}: {sizes}; {shape} {dataset.train.images.dtype}")
    print(
        f"model   {model.network}, {' '.join(model.network.activations)}; {model.network.parameters:,} parameters; "
        f"{model.optimizer}, schedule {options.schedule}, batch size {options.batch_size}, seed {options.seed}",
        flush=True,
    )
    if options.resume:
        print(f"resume  {options.resume}: {model.epochs_trained} of {options.epochs} epochs are done", flush=True)


def _us_per_update(seconds: float, updates: float) -> float:
    return 1e6 * seconds / updates


class LinearDecay(Callback):
    """The learning rate falls in equal steps, one an epoch, so that the step behind the last would be 0."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        assert self.model.optimizer is not None
        self._start = self.model.optimizer.learning_rate

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        assert self.model.optimizer is not None
        self.model.optimizer.learning_rate = self._start * (1 - epoch / self.params["epochs"])


class Timing(Callback):
    """Adds up the epochs' training time and updates."""

    def __init__(self) -> None:
        self.epochs, self.seconds, self.updates = 0, 0.0, 0
        self._last: Logs = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._last = logs = logs or {}
        self.epochs += 1
        self.seconds += logs["seconds"]
        self.updates += int(logs["updates"])

    def summary(self) -> str:
        text = f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}"
        if not self.updates:
            return text
        us = _us_per_update(self.seconds, self.updates)
        return f"{text}: {self.seconds:.2f} s of training, {self.updates:,} updates, {us:,.1f} us per update"

    def last_epoch(self) -> str:
        """The last epoch's results, for the end of a line; nothing before the first epoch is over."""
        if not self._last:
            return ""
        return f"; last validation accuracy {100 * self._last['val_accuracy']:.2f} %, loss {self._last['val_loss']:.4f}"


class MetricsFile(Callback):
    """One JSON object a line and epoch, written as soon as it is known; every line is whole.

    append: go on with the file of a training that is resumed; an epoch that was trained again then stands there twice.
    """

    def __init__(self, path: str, append: bool = False) -> None:
        self._path = path
        try:
            self._file: IO[bytes] = open(path, "ab" if append else "wb", buffering=0)  # noqa: SIM115 - closed by close
        except OSError as error:
            raise ArgumentError(f"--metrics: {path}: cannot be written: {error.strerror}") from error

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        us = _us_per_update(logs["seconds"], logs["updates"])
        self.write({"epoch": epoch + 1, **logs, "us_per_update": us})

    def write(self, record: dict[str, float]) -> None:
        try:
            self._file.write((json.dumps(record, allow_nan=False) + "\n").encode())
        except OSError as error:
            raise OutputError(f"--metrics: {self._path}: cannot be written: {error.strerror}") from error

    def close(self) -> None:
        self._file.close()


if __name__ == "__main__":
    sys.exit(main())
