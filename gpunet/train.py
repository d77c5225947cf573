"""`gpunet train`: train a network on MNIST, or on any data set in the same form."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from gpunet import (
    __version__,
    checkpoints,
    commandline,
    data,
    engines,
    files,
    losses,
    optimizers,
    plots,
    saving,
    threads,
)
from gpunet.callbacks import Callback, History, Logs, ProgressDisplay
from gpunet.data import Dataset, Origin
from gpunet.errors import ArgumentError, DataError, OutputError, TrainingDivergedError
from gpunet.files import LineFile
from gpunet.interruption import Interruption
from gpunet.layers import HIDDEN_ACTIVATIONS, Dense
from gpunet.model import Sequential
from gpunet.page.invitation import invitation

PROGRAM = "gpunet train"
STANDARD_OUTPUT = "-"  # as the path of --metrics
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
    parser = _parser()
    options = checkpoints.parse(parser, argv)
    alone = options.metrics == STANDARD_OUTPUT  # where nothing else may then go
    written = [options.save, options.plot, options.checkpoint, options.resume, None if alone else options.metrics]
    with checkpoints.owned(options), commandline.outliving_output(PROGRAM, any(written)) as output:
        saved = checkpoints.settle(parser, options)
        for option in ("data", "metrics"):
            if getattr(options, option) == "":
                raise ArgumentError(f"--{option}: expected a path, got ''")
        _check_outputs(options, saved)
        records = sys.stdout
        with contextlib.redirect_stdout(sys.stderr) if alone else contextlib.nullcontext():
            status = _train_with(options, saved, records)
    return commandline.FAILED if output.failed and status == commandline.DONE else status


def _train_with(options: argparse.Namespace, saved: saving.Saved | None, records: TextIO) -> int:
    """Train as the options say. records: where `--metrics -` goes."""
    if options.threads is not None:
        threads.limit(options.threads)
    dataset = _load(options)
    if options.batch_size > len(dataset.train.labels):
        raise ArgumentError(
            f"--batch-size: expected at most the {len(dataset.train.labels)} training examples, "
            f"got {options.batch_size}"
        )
    model = _model(options, dataset)
    _check_room(options, model)
    choice = engines.choose(model.network, options.batch_size, options.device, options.engine, model.optimizer)
    interruption = Interruption()
    checkpointer = checkpoints.checkpointer(options, saved, dataset, model, choice.engine, interruption)
    keeps = checkpointer is not None or options.save is not None
    if not options.quiet:
        _introduce(options, dataset, model, choice.reason)
        if saved is not None:
            _introduce_resumed(options, saved, choice.engine)

    timing, history = Timing(model.epochs_trained), History()
    callbacks: list[Callback] = [timing, history] if options.quiet else [timing, history, ProgressDisplay()]
    if options.schedule == "linear":
        callbacks.append(LinearDecay())
    metrics = MetricsFile(options.metrics, records, append=saved is not None) if options.metrics else None
    callbacks += [callback for callback in (metrics, checkpointer) if callback]
    final = FinalModel(model, options.save, dataset, options.data)
    status = commandline.DONE
    try:
        with interruption.catching() if keeps else contextlib.nullcontext():
            model.fit(
                *dataset.train,
                batch_size=options.batch_size,
                epochs=options.epochs,
                verbose=0,
                callbacks=[*callbacks, interruption],
                validation_data=dataset.validation,
                initial_epoch=model.epochs_trained,
            )
            test_loss, test_accuracy = model.evaluate(*dataset.test)
            if not math.isfinite(test_loss):
                raise TrainingDivergedError(-(-len(dataset.train.labels) // options.batch_size), options.epochs)
            if metrics:
                metrics.result = {"test_loss": test_loss, "test_accuracy": test_accuracy}
            accuracy = f"test accuracy {100 * test_accuracy:.2f} %, loss {test_loss:.4f}"
            print(f"{accuracy}, after {timing.summary()}", flush=True)
            final.save()  # in front of what is worth less
            if not options.quiet and (line := final.invitation()):
                print(line, flush=True)
    except KeyboardInterrupt:
        commandline.ignore_interrupts()
        kept = f"; --resume {checkpointer.path} goes on" if checkpointer else final.save_interrupted(interruption)
        print(f"interrupted after {timing.summary()}{timing.last_epoch()}{kept}", flush=True)
        status = interruption.exit_status
    finally:
        failures = [*final.failures, *_finish(metrics, history, options.plot)]
        for failure in failures:
            print(f"{PROGRAM}: {failure}", file=sys.stderr)
    return commandline.FAILED if failures and status == commandline.DONE else status


def _load(options: argparse.Namespace) -> Dataset:
    """The data set, with a line if the end of the examples is unlike the rest."""
    try:
        dataset = data.load_mnist() if options.data is None else data.load(options.data)
    except DataError as error:
        if options.data_of_checkpoint:
            raise DataError(f"{error}; the path is from {options.resume}, --data gives another one") from error
        raise
    if untrained := dataset.untrained_classes:
        print(
            f"{PROGRAM}: the validation examples have classes that no training example has, such as {untrained[0]}; "
            "if the examples are sorted by class, shuffle them first",
            file=sys.stderr,
        )
    return dataset


def _finish(metrics: MetricsFile | None, history: History, plot: str | None) -> list[OutputError]:
    """Write what is written however training ends, of the epochs until then; returns what failed instead of raising,
    so that it hides neither the result nor another error.
    """
    failures = []
    if metrics:
        metrics.close()
        failures += [metrics.failure] if metrics.failure else []
    if plot is not None and history.epoch:
        try:
            plots.write(plots.curves([1 + epoch for epoch in history.epoch], history.history), plot)
        except OutputError as error:
            failures.append(OutputError(f"--plot: {error}"))
    return failures


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
        type=_width,
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
    add("--device", type=commandline.device, default="auto", help=f"where to compute: {engines.DEVICE_NAMES} (auto)")
    add("--engine", choices=engines.ENGINES, default="auto", help="how to compute (auto)")
    add("--threads", type=whole_number, metavar="N", help="cores to compute with, on a CPU (all that may be used)")
    add(
        "--metrics",
        metavar="FILE",
        help="write one JSON object an epoch, and one with the test result, to FILE; - is the standard output, "
        "and all else then goes to the standard error",
    )
    add("--save", metavar="FILE", help="write the trained model to FILE: .safetensors or .npz")
    add("--plot", metavar="FILE", help="draw loss and accuracy over the epochs into FILE: .png, .svg or .pdf")
    checkpoints.add_options(parser)
    add("--quiet", action="store_true", help="print the result only")
    add("--version", action="version", version=f"gpunet {__version__}")
    return parser


def _width(text: str) -> int:
    """An argparse type: of one hidden layer."""
    if "," in text:
        raise argparse.ArgumentTypeError(f"expected whole numbers, got {text!r}; separate widths by spaces")
    return commandline.whole_number(text)


def _check_outputs(options: argparse.Namespace, saved: saving.Saved | None) -> None:
    """Raise ArgumentError, before any work, if a file that is to be written cannot be, or is another option's."""
    checkpoint = options.checkpoint
    if checkpoint is not None and options.resume is not None and files.same_file(checkpoint, options.resume):
        checkpoint = None  # the one pair that may be the same
    elif checkpoint is not None:
        files.check_output("--checkpoint", checkpoint)
    if saved is not None and checkpoint is None and saved.epochs_trained < options.epochs:
        files.check_output("--resume", options.resume)
    named = {f"--{name}": getattr(options, name) for name in ("data", "resume", "metrics", "save", "plot")}
    if options.metrics == STANDARD_OUTPUT:
        del named["--metrics"]
    elif options.metrics is not None:
        files.check_output("--metrics", options.metrics, grows=True)
    files.check_distinct({**named, "--checkpoint": checkpoint})
    if options.plot is not None:
        plots.check(options.plot)
    if options.save is not None:
        files.check_output("--save", options.save)
        try:
            saving.as_path(options.save)
        except ArgumentError as error:
            raise ArgumentError(f"--save: {error}") from None


def _check_room(options: argparse.Namespace, model: Sequential) -> None:
    """Raise ArgumentError if the disk has no room for the weights, and with a checkpoint for the optimizer's slots."""
    assert model.optimizer is not None
    weights = 4 * model.network.parameters
    for option, path, size in (
        ("--save", options.save, weights),
        ("--checkpoint", options.checkpoint, weights * (1 + len(model.optimizer.slots))),
    ):
        if path is not None:
            files.check_output(option, path, size=size)


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
    print(f"data    {options.data or data.MNIST}: {sizes}; {shape} {dataset.train.images.dtype}")
    print(
        f"model   {model.network}, {' '.join(model.network.activations)}; {model.network.parameters:,} parameters; "
        f"{model.optimizer}, schedule {options.schedule}, batch size {options.batch_size}, seed {options.seed}",
        flush=True,
    )


def _introduce_resumed(options: argparse.Namespace, saved: saving.Saved, engine: str) -> None:
    """Say where training goes on, and whether it can end with the same bits as if it had not stopped."""
    print(f"resume  {options.resume}: {saved.epochs_trained} of {options.epochs} epochs are done", flush=True)
    if before := checkpoints.another_engine(saved, engine):
        print(f"resume  begun with the engine {before}, goes on with {engine}: the last digits may differ", flush=True)


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
    """Adds up the epochs' training time and updates. done: epochs of an earlier run, which this one goes on with."""

    def __init__(self, done: int = 0) -> None:
        self._done = done
        self.epochs, self.seconds, self.updates = 0, 0.0, 0
        self._last: Logs = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._last = logs = logs or {}
        self.epochs += 1
        self.seconds += logs["seconds"]
        self.updates += int(logs["updates"])

    def summary(self) -> str:
        epochs = self._done + self.epochs
        text = f"{epochs} epoch{'' if epochs == 1 else 's'}" + (f" ({self.epochs} now)" if self._done else "")
        if not self.updates:
            return text
        us = _us_per_update(self.seconds, self.updates)
        return f"{text}: {self.seconds:.2f} s of training, {self.updates:,} updates, {us:,.1f} us per update"

    def last_epoch(self) -> str:
        """The last epoch's results, for the end of a line; nothing before the first epoch is over."""
        if not self._last:
            return ""
        return f"; last validation accuracy {100 * self._last['val_accuracy']:.2f} %, loss {self._last['val_loss']:.4f}"


class FinalModel:
    """The model that `--save` asks for, if anything; what cannot be written to the path is written elsewhere.

    failures: why, and where the model is instead.
    """

    def __init__(self, model: Sequential, path: str | None, dataset: Dataset, path_of_data: str | None) -> None:
        self._model, self._path, self._saved = model, path, False
        self._dataset, self._path_of_data = dataset, path_of_data
        self.failures: list[OutputError] = []

    def save(self) -> None:
        if self._path is None:
            return
        try:
            self._write(self._path)
            self._saved = True
        except OutputError as error:
            self.failures.append(OutputError(f"--save: {error}{self._save_instead(files.instead_of(self._path))}"))

    def invitation(self) -> str | None:
        """How to make a page of what was saved, if that is a model of images."""
        shape = self._dataset.train.images.shape[1:]
        return invitation(self._path, shape) if self._saved and self._path is not None else None

    def save_interrupted(self, interruption: Interruption) -> str:
        """Save what there is, and say so: the end of a line."""
        if self._path is None:
            return ""
        if not (self._saved or self.failures):
            if interruption.at_once or not self._model.epochs_trained:
                return f"; nothing was saved: {'it ended at once' if interruption.at_once else 'no epoch was over'}"
            self.save()
        return f"; the model of then is in {self._path}" if self._saved else ""

    def _write(self, path: str | Path) -> None:
        origin = Origin.of(self._dataset, self._path_of_data)
        saving.write(path, dataclasses.replace(self._model.saved(), data=origin))

    def _save_instead(self, places: Iterable[Path]) -> str:
        for place in places:
            with contextlib.suppress(OutputError):
                self._write(place)
                return f"; the model is in {place} instead"
        return "; the model could not be saved elsewhere either"


class MetricsFile(Callback):
    """One JSON object a line and epoch, written as soon as it is known, and the test result after them.

    path:    of the file, or STANDARD_OUTPUT for the stream.
    append:  go on with the file of a training that is resumed; an epoch that was trained again then stands there twice.
    result:  what `close` writes as the last line, if anything.
    failure: why the file ends where it does, if it could not be written any further; training goes on without it.
    """

    def __init__(self, path: str, stream: TextIO, append: bool = False) -> None:
        try:
            self._file = None if path == STANDARD_OUTPUT else LineFile("--metrics", path, append)
        except OutputError as error:
            raise ArgumentError(str(error)) from error
        self._stream = stream
        self.result: dict[str, float] | None = None
        self.failure: OutputError | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        us = _us_per_update(logs["seconds"], logs["updates"])
        self._write({"epoch": epoch + 1, **logs, "us_per_update": us})

    def close(self) -> None:
        if self.result is not None:
            self._write(self.result)
        if self._file is not None:
            self._file.close()

    def _write(self, record: dict[str, float]) -> None:
        line = json.dumps(record, allow_nan=False) + "\n"
        if self._file is None:
            print(line, end="", file=self._stream, flush=True)
        elif self.failure is None:
            try:
                self._file.write(line)
            except OutputError as error:
                self.failure = error


if __name__ == "__main__":
    sys.exit(main())
