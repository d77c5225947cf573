"""`gpunet page`: the command. It reads a model and its data, measures what the page's weights cost, and writes it."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gpunet import class_names, commandline, data, files, known_data, saving
from gpunet.arrays import all_arrays, own_arrays
from gpunet.commandline import Option
from gpunet.errors import ArgumentError, DataError
from gpunet.model import Sequential, restore
from gpunet.page import content
from gpunet.page.document import document

PROGRAM = "gpunet page"
CHUNK = 1000  # examples per step of the progress bar
SUFFIXES = (".html", ".htm")
MOST_LETTERS = 60  # the most in the name of a class
EXAMPLES = """\
  gpunet page model.safetensors -o digits.html
  gpunet page fashion.safetensors --data fashion-mnist/ --labels names.txt -o fashion.html"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _page, argv)


def _page(argv: Sequence[str] | None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    options = _parse(argv)
    _check_output(options)
    saved = saving.read(options.model)
    model = restore(saved, options.device, options.engine)
    labels = None if options.labels is None else _read_labels(options.labels, model.network.classes)
    bits = 32 if options.float32 else 16
    if saved.normalization is not None:
        raise ArgumentError(f"{options.model}: a network behind a Normalization; expected one of images")
    try:
        numbers, rounded = content.packed(all_arrays(model.network, model.get_weights()), bits)
    except ArgumentError as error:
        raise ArgumentError(f"{options.model}: {error}") from None
    dataset, name = known_data.load(PROGRAM, options.model, saved, options.data)
    if dataset.table is not None or content.image_size(dataset.test.images.shape[1:]) is None:
        raise ArgumentError(
            f"{name}: examples of shape {dataset.test.images.shape[1:]}; expected grey images, (height, width): a page "
            "shows no others"
        )

    test, exact = dataset.test, 0.0
    if bits == 16:
        exact = _accuracy(_probabilities(model, test.images, options.quiet), test.labels)
        scale = model.scale
        model.set_weights(own_arrays(model.network, rounded))
        model.scale = scale  # nearly the same network
    probabilities = _probabilities(model, test.images, options.quiet)
    accuracy = _accuracy(probabilities, test.labels)
    accuracies = (exact if bits == 16 else accuracy, accuracy)

    source = content.Source(Path(options.model).name, name, name == data.MNIST, shlex.join([*PROGRAM.split(), *argv]))
    names = [class_names.of(model.class_names, number)[:MOST_LETTERS] for number in range(model.network.classes)]
    labels = labels or names
    page = document(content.describe(model, test, probabilities, labels, source, bits, accuracies), numbers)
    files.write_bytes(options.output, page)
    if not options.quiet:
        print(_costs(len(test.labels), bits, accuracies))
    print(f"{options.output}: {len(page) / 1e6:.2f} MB; open it in a browser", flush=True)
    return commandline.DONE


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = commandline.Parser(
        prog=PROGRAM,
        description="Write one HTML file to draw a digit on and watch a saved network think: the image that it sees,\n"
        "its layers, and the probabilities of the classes. The file needs nothing but a browser.",
        examples=EXAMPLES,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="a file written by gpunet train --save; a network for grey images")
    add("-o", "--output", metavar="FILE", required=True, help="the page to write: .html")
    parser.add_options(
        replace(commandline.DATA, help="the data set with the test images (the one that the model was trained on)"),
        Option(
            "--labels",
            type=commandline.path,
            metavar="FILE",
            help="a text file with the classes' names, one per line (the model's own, or numbers)",
        ),
        Option(
            "--float32",
            action="store_true",
            default=False,
            help="keep all bits of the weights, in a file twice as large",
        ),
        *(commandline.DEVICE, commandline.ENGINE),
        replace(commandline.QUIET, help="print only the file's name and size"),
    )
    return parser.parse_args(argv)


def _check_output(options: argparse.Namespace) -> None:
    """Raise ArgumentError, before any work, if the page cannot be written, or would overwrite one of its sources."""
    files.check_output("--output", options.output)
    if Path(options.output).suffix.lower() not in SUFFIXES:
        raise ArgumentError(f"--output: {options.output}: expected a name that ends in {' or '.join(SUFFIXES)}")
    named = {"MODEL": options.model, "--data": options.data, "--labels": options.labels, "--output": options.output}
    files.check_distinct(named)


def _read_labels(path: str, classes: int) -> list[str]:
    """The classes' names. Raises DataError, naming the file, unless there is one for every class."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8; expected a name of a class in every line") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    names = [line.strip() for line in text.strip("\n").split("\n")]
    if len(names) != classes or not all(names):
        empty = ", some of them empty" if not all(names) else ""
        raise DataError(f"{path}: {len(names)} lines{empty}; expected {classes}, a name of a class in each")
    if long := [name for name in names if len(name) > MOST_LETTERS]:
        raise DataError(f"{path}: a name of {len(long[0])} letters; expected at most {MOST_LETTERS}")
    return names


def _probabilities(model: Sequential, images: NDArray[np.generic], silent: bool) -> NDArray[np.floating]:
    """The probabilities of all images, with a progress bar on a terminal."""
    parts = []
    with tqdm(
        total=len(images), unit=" images", leave=False, dynamic_ncols=True, disable=True if silent else None
    ) as bar:
        for first in range(0, len(images), CHUNK):
            parts.append(model.predict(images[first : first + CHUNK]))
            bar.update(len(parts[-1]))
    return np.concatenate(parts)


def _accuracy(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    return float(np.mean(probabilities.argmax(axis=1) == labels))


def _costs(examples: int, bits: int, accuracies: tuple[float, float]) -> str:
    """What rounding to 16 bits costs, measured."""
    model, page = (100 * accuracy for accuracy in accuracies)
    if bits == 32:
        return f"test accuracy {page:.2f} % of {examples:,} test images; the page keeps all bits of the weights"
    return (
        f"test accuracy {page:.2f} % of {examples:,} test images with the page's 16-bit weights, "
        f"{model:.2f} % with all bits: {page - model:+.2f} points"
    )
