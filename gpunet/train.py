"""`gpunet train`: train a network on MNIST, or on any data set in the same form."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Sequence
from typing import TextIO

from gpunet import (
    class_names,
    commandline,
    data,
    engines,
    files,
    known_data,
    output_files,
    plots,
    resume,
    saving,
    threads,
    training_options,
)
from gpunet.callbacks import Callback, History, ProgressDisplay
from gpunet.callbacks.best_epoch import BestEpoch
from gpunet.callbacks.linear_decay import LinearDecay
from gpunet.callbacks.metrics_file import STANDARD_OUTPUT, MetricsFile
from gpunet.callbacks.timing import Timing
from gpunet.commandline import Option
from gpunet.data import Dataset
from gpunet.errors import ArgumentError, DataError, OutputError, TrainingDivergedError
from gpunet.final_model import FinalModel
from gpunet.interruption import Interruption
from gpunet.model import Sequential

PROGRAM = "gpunet train"
EXAMPLES = """\
  gpunet train --save model.safetensors --plot curves.png
  gpunet train --batch-size 1 --epochs 1
  gpunet train --data fashion-mnist/ --hidden 300 100 --activation relu
  gpunet train --optimizer sgd --learning-rate 0.1 --momentum 0.9 --nesterov --metrics metrics.jsonl
  gpunet train --batch-size 1 --checkpoint training.safetensors
  gpunet train --resume training.safetensors"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _train, argv)


def _train(argv: Sequence[str] | None) -> int:
    parser = _parser()
    options = resume.parse(parser, argv)
    alone = options.metrics == STANDARD_OUTPUT  # where nothing else may then go
    written = [options.save, options.plot, options.checkpoint, options.resume, None if alone else options.metrics]
    with resume.owned(options), commandline.outliving_output(PROGRAM, any(written)) as output:
        saved = resume.settle(parser, options)
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
    if getattr(options, "from") is not None:
        dataset = _fitting(options, dataset)
    model = training_options.model_of(options, dataset)
    _check_room(options, model)
    batch = min(options.batch_size, len(dataset.train.labels))
    choice = engines.choose(model.network, batch, options.device, options.engine, model.optimizer)
    interruption = Interruption()
    best = resume.best_epoch(options, saved)
    checkpointer = resume.checkpointer(options, saved, dataset, model, choice.engine, interruption, best)
    keeps = checkpointer is not None or options.save is not None
    if not options.quiet:
        _introduce(options, dataset, model, choice.reason)
        if saved is not None:
            _introduce_resumed(options, saved, choice.engine)

    timing, history = Timing(model.epochs_trained), History()
    display = None if options.quiet else ProgressDisplay()
    schedule = LinearDecay() if options.schedule == "linear" else None
    metrics = MetricsFile(options.metrics, records, append=saved is not None) if options.metrics else None
    possible = (timing, history, display, schedule, best, metrics, checkpointer, interruption)
    hooks = [hook for hook in possible if hook is not None]
    final = FinalModel(model, options.save, dataset, options.data)
    status = commandline.DONE
    try:
        with interruption.catching() if keeps else contextlib.nullcontext():
            test_loss, test_accuracy = _fit_and_test(options, dataset, model, hooks, best)
            if metrics:
                metrics.result = {"test_loss": test_loss, "test_accuracy": test_accuracy}
            accuracy = f"test accuracy {100 * test_accuracy:.2f} %, loss {test_loss:.4f}"
            print(f"{accuracy}, after {timing.summary()}", flush=True)
            final.save()  # before plots and metrics, which matter less
            if options.plot is not None and not history.epoch:
                print(f"{PROGRAM}: --plot: no epoch was trained, so {options.plot} is not written", file=sys.stderr)
            if not options.quiet and (line := final.invitation()):
                print(line, flush=True)
    except TrainingDivergedError as error:
        error.args = (f"{error}{final.not_saved()}",)
        raise
    except KeyboardInterrupt:
        commandline.ignore_interrupts()
        if best is not None and not interruption.at_once and model.epochs_trained:
            best.set_model(model)
            best.bring_back()
        kept = f"; continue with --resume {checkpointer.path}" if checkpointer else None
        if kept is None:
            kept = final.save_interrupted(interruption, best.epochs if best is not None and best.weights else None)
        print(f"interrupted after {timing.summary()}{timing.last_epoch()}{kept}", flush=True)
        status = interruption.exit_status
    finally:
        failures = [*final.failures, *_finish(metrics, history, options.plot)]
        for failure in failures:
            print(f"{PROGRAM}: {failure}", file=sys.stderr)
    return commandline.FAILED if failures and status == commandline.DONE else status


def _fit_and_test(
    options: argparse.Namespace,
    dataset: Dataset,
    model: Sequential,
    callbacks: Sequence[Callback],
    best: BestEpoch | None,
) -> list[float]:
    """Train, and evaluate the best or the last epoch on the test examples: loss and accuracy.

    Raises TrainingDivergedError.
    """
    model.fit(
        *dataset.train,
        batch_size=options.batch_size,
        epochs=model.epochs_trained if best is not None and best.ended else options.epochs,
        verbose=0,
        callbacks=callbacks,
        validation_data=dataset.validation,
        initial_epoch=model.epochs_trained,
    )
    if best is not None:
        best.set_model(model)  # no epoch may be left that would have done so
        best.bring_back()
        if not options.quiet and (line := best.told()):
            print(line, flush=True)
    tested = model.evaluate(*dataset.test)
    if not math.isfinite(tested[0]):
        raise TrainingDivergedError(-(-len(dataset.train.labels) // options.batch_size), options.epochs)
    return tested


def _load(options: argparse.Namespace) -> Dataset:
    try:
        return known_data.to_train_on(PROGRAM, options.data, options.target)
    except DataError as error:
        if options.data_of_checkpoint:
            raise DataError(f"{error}; the path is from {options.resume}, --data gives another one") from error
        raise


def _fitting(options: argparse.Namespace, dataset: Dataset) -> Dataset:
    """The data with its classes numbered as in the model to start from. Raises ArgumentError if it does not fit."""
    started: saving.Saved = options.started
    path, network = getattr(options, "from"), started.network
    if network.inputs != dataset.inputs or network.classes < dataset.classes:
        raise ArgumentError(
            f"--from: {path} has {network.inputs} inputs and {network.classes} classes, but the data has "
            f"{dataset.inputs} and {dataset.classes}; expected data of the same kind"
        )
    try:
        return dataset if started.class_names is None else dataset.renamed(started.class_names)
    except DataError as error:
        raise DataError(f"--from: {path}: {error}") from error


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


def _parser() -> commandline.Parser:
    parser = commandline.Parser(
        prog=PROGRAM,
        description="Train a fully connected network on the bundled MNIST, or on your own data.",
        examples=EXAMPLES,
    )
    parser.add_options(
        *training_options.of_a_training(),
        *(commandline.DATA, commandline.TARGET, commandline.DEVICE, commandline.ENGINE, commandline.THREADS),
        Option(
            "--metrics",
            type=commandline.path,
            metavar="FILE",
            help="write one JSON object per epoch, and one with the test result, to FILE; - means standard output, "
            "and everything else then goes to standard error",
        ),
        Option("--save", metavar="FILE", help="write the trained model to FILE: .safetensors or .npz"),
        Option("--plot", metavar="FILE", help="draw loss and accuracy over the epochs to FILE: .png, .svg or .pdf"),
        *resume.OPTIONS,
        commandline.QUIET,
    )
    return parser


def _check_outputs(options: argparse.Namespace, saved: saving.Saved | None) -> None:
    """Raise ArgumentError, before any work, if a file that is to be written cannot be, or is another option's."""
    checkpoint = options.checkpoint
    if checkpoint is not None and options.resume is not None and files.same_file(checkpoint, options.resume):
        checkpoint = None  # the one pair that may be the same
    elif checkpoint is not None:
        files.check_output("--checkpoint", checkpoint)
    if saved is not None and checkpoint is None and saved.epochs_trained < options.epochs:
        files.check_output("--resume", options.resume)
    named = {f"--{name}": getattr(options, name) for name in ("data", "resume", "from", "metrics", "save", "plot")}
    output_files.check(options, {**named, "--checkpoint": checkpoint})


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


def _introduce(options: argparse.Namespace, dataset: Dataset, model: Sequential, reason: str) -> None:
    """Say what will run, on what, and why."""
    sizes = ", ".join(
        f"{len(part.labels):,} {name}"
        for part, name in zip(dataset, ("training", "validation", "test examples"), strict=True)
    )
    shape = " x ".join(map(str, dataset.train.images.shape[1:]))
    print(f"device  {reason}")
    print(f"data    {options.data or data.MNIST}: {sizes}; {shape} {dataset.train.images.dtype}")
    if dataset.table is not None:
        print(f"inputs  {', '.join(dataset.table.columns)}: standardized, (x - mean) / deviation of the training rows")
    if dataset.class_names is not None:
        print(f"classes {class_names.listed(dataset.class_names)}")
    print(
        f"model   {model.network}, {' '.join(model.network.activations)}; {model.network.parameters:,} parameters; "
        f"{model.optimizer}, schedule {options.schedule}, batch size {options.batch_size}, seed {options.seed}",
        flush=True,
    )


def _introduce_resumed(options: argparse.Namespace, saved: saving.Saved, engine: str) -> None:
    """Print where training resumes, and whether the result can be the same bits as without the interruption."""
    print(f"resume  {options.resume}: {saved.epochs_trained} of {options.epochs} epochs are done", flush=True)
    if before := resume.another_engine(saved, engine):
        print(f"resume  started with engine {before}, continues with {engine}: the last digits may differ", flush=True)


if __name__ == "__main__":
    sys.exit(main())
