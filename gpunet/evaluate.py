"""`gpunet evaluate`: test a saved model class by class, and plot its mistakes."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gpunet import class_names, commandline, engines, known_data, losses, metrics, plots, saving
from gpunet.commandline import Option
from gpunet.data import Examples
from gpunet.errors import ArgumentError, OutputError
from gpunet.model import Sequential, restore
from gpunet.page.invitation import invitation

PROGRAM = "gpunet evaluate"
TOPS = (2, 3, 5)  # k of the shares of examples whose class is among the k most probable ones
Names = Sequence[str] | None  # of the classes
CHUNK = 1000  # examples between two updates of the progress bar
EXAMPLES = """\
  gpunet evaluate model.safetensors
  gpunet evaluate model.safetensors --plot report.png
  gpunet evaluate model.safetensors --data fashion-mnist/ --json"""


class Result(NamedTuple):
    """loss in nats; probabilities (examples, classes); confusion (classes, classes), target by prediction."""

    loss: float
    probabilities: NDArray[np.floating]
    confusion: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        return float(np.trace(self.confusion) / self.confusion.sum())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _evaluate, argv)


def _evaluate(argv: Sequence[str] | None) -> int:
    options = _parse(argv)
    if options.plot is not None:
        plots.check(options.plot)
    with commandline.outliving_output(PROGRAM, options.plot is not None) as output:
        _evaluate_with(options)
    return commandline.FAILED if output.failed else commandline.DONE


def _evaluate_with(options: argparse.Namespace) -> None:
    saved = saving.read(options.model)
    model = restore(saved, options.device, options.engine)
    dataset, name = known_data.load(PROGRAM, options.model, saved, options.data, options.target)
    network = model.network
    # The labels are whole numbers, whatever the model was trained with.
    model.compile(model.optimizer or "adam", losses.INTEGER, device=options.device, engine=options.engine)
    if not (options.json or options.quiet):
        choice = engines.choose(network, CHUNK, options.device, options.engine)
        print(f"device  {choice.reason}")
        unknown = "" if saved.data or options.data else " (the model's file does not say what it was trained on)"
        print(f"data    {name}: {len(dataset.test.labels):,} test examples{unknown}")
        print(f"model   {options.model}: {network}, {' '.join(network.activations)}", flush=True)
    result = evaluate(model, dataset.test, options.quiet or options.json)
    if not math.isfinite(result.loss):
        raise ArgumentError(f"{options.model}: the loss is NaN or infinite; the weights are too large")
    names = model.class_names
    _print(options, result, dataset.test.labels, names)
    shape = None if dataset.table is not None else dataset.test.images.shape[1:]
    line = None if shape is None else invitation(options.model, shape, options.data)
    if line is not None and not (options.json or options.quiet):
        print(line, flush=True)
    if options.plot is not None:
        figure = plots.report(
            result.confusion,
            _mistakes(dataset.test, result),
            model.get_weights()[0],
            shape,
            names,
        )
        try:
            plots.write(figure, options.plot)
        except OutputError as error:
            raise OutputError(f"--plot: {error}") from error


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = commandline.Parser(
        prog=PROGRAM,
        description="Print a saved model's loss and accuracy on the test examples of the bundled MNIST,\n"
        "or of your own data, with a table of the classes.",
        examples=EXAMPLES,
    )
    parser.add_argument("model", metavar="MODEL", help="a file written by gpunet train --save")
    parser.add_options(
        replace(commandline.DATA, help="the data set, as for gpunet train (the one that the model was trained on)"),
        replace(commandline.TARGET, help="for a table: the column with the classes (as in training)"),
        Option(
            "--plot",
            metavar="FILE",
            help="plot the confusion matrix, the most confident mistakes and the first layer's weights to FILE: "
            ".png, .svg or .pdf",
        ),
        *(commandline.DEVICE, commandline.ENGINE, commandline.JSON, commandline.QUIET),
    )
    return parser.parse_args(argv)


def evaluate(model: Sequential, examples: Examples, silent: bool = False) -> Result:
    """The model's result on examples, with a progress bar on a terminal."""
    classes = model.network.classes
    confusion = np.zeros((classes, classes), np.int64)
    loss, probabilities = 0.0, []
    with tqdm(
        total=len(examples.labels), unit=" examples", leave=False, dynamic_ncols=True, disable=True if silent else None
    ) as bar:
        for first in range(0, len(examples.labels), CHUNK):
            images, labels = (array[first : first + CHUNK] for array in examples)
            loss += model.evaluate(images, labels)[0] * len(labels) / len(examples.labels)
            probabilities.append(model.predict(images))
            confusion += metrics.confusion(labels, probabilities[-1].argmax(axis=1), classes)
            bar.update(len(labels))
    return Result(loss, np.concatenate(probabilities), confusion)


def _mistakes(examples: Examples, result: Result) -> list[tuple[NDArray[Any], int, int, float]]:
    """The mistakes that plots.report draws: (example, target, prediction, its probability)."""
    predictions = result.probabilities.argmax(axis=1)
    confidence = result.probabilities.max(axis=1)
    wrong = np.flatnonzero(predictions != examples.labels)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][: math.prod(plots.MISTAKES)]
    return [(examples.images[n], int(examples.labels[n]), int(predictions[n]), float(confidence[n])) for n in worst]


def _print(options: argparse.Namespace, result: Result, labels: NDArray[np.integer], names: Names) -> None:
    top = {k: metrics.top_k(labels, result.probabilities, k) for k in TOPS if k < len(result.confusion)}
    if options.json:
        print(json.dumps(_summary(result, top, names), allow_nan=False))
        return
    if not options.quiet:
        print("\n".join(map(commandline.one_line, _table(result.confusion, names))))
        means = metrics.averages(result.confusion)
        print(", ".join(f"{name} {100 * mean:.2f} %" for name, mean in means.items()), "(means over the classes)")
        if top:
            print("among the most probable", ", ".join(f"{k}: {100 * share:.2f} %" for k, share in top.items()))
    print(f"test accuracy {100 * result.accuracy:.2f} %, loss {result.loss:.4f}", flush=True)


def _summary(result: Result, top: dict[int, float], names: Names) -> dict[str, Any]:
    """test_loss and test_accuracy as in `gpunet train --metrics`; shares are null if undefined."""
    confusion = result.confusion
    precision, recall, f1 = metrics.shares(confusion)
    return {
        "test_loss": result.loss,
        "test_accuracy": result.accuracy,
        "examples": int(confusion.sum()),
        "classes": [
            {
                "class": number,
                **({} if names is None else {"name": names[number]}),
                "examples": int(confusion[number].sum()),
                "correct": int(confusion[number, number]),
                "recall": _defined(recall[number]),
                "precision": _defined(precision[number]),
                "f1": _defined(f1[number]),
            }
            for number in range(len(confusion))
        ],
        "macro": metrics.averages(confusion),
        "weighted": metrics.averages(confusion, weighted=True),
        "top_k": {str(k): share for k, share in top.items()},
        "confusion": confusion.tolist(),
    }


def _defined(share: float) -> float | None:
    return None if math.isnan(share) else float(share)


def _table(confusion: NDArray[np.int64], names: Names) -> list[str]:
    """One line per class. Recall: share of its examples recognized; precision: share of correct predictions of it; F1:
    the harmonic mean of both.
    """
    called = [class_names.of(names, number) for number in range(len(confusion))]
    width = max(5, *map(len, called))
    lines = [
        f"{'class':>{width}}  {'examples':>8}  {'correct':>8}  {'recall %':>8}  {'precision %':>11}  {'F1 %':>6}  "
        "most often taken for"
    ]
    precision, recall, f1 = metrics.shares(confusion)
    for number, row in enumerate(confusion):
        of, right, both = (
            "-" if math.isnan(share[number]) else f"{100 * share[number]:.2f}" for share in (recall, precision, f1)
        )
        others = np.where(np.arange(len(row)) == number, 0, row)
        rival = f"{called[others.argmax()]} ({others.max()} times)" if others.any() else "-"
        lines.append(
            f"{called[number]:>{width}}  {row.sum():>8,}  {row[number]:>8,}  {of:>8}  {right:>11}  {both:>6}  {rival}"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
