"""`gpunet predict`: recognize handwritten digits in photos or scans, and show what the network saw.

The rows of a table are predict_table.py's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gpunet import class_names, commandline, digits, predict_table, predictions, terminal
from gpunet.commandline import Option
from gpunet.data import is_table
from gpunet.digits import images
from gpunet.errors import ArgumentError, DataError
from gpunet.model import load
from gpunet.predictions import PredictionsFile

PROGRAM = "gpunet predict"
INPUTS = digits.SIDE**2
MOST_BARS = 10  # of a network with more classes, the most probable ones are shown
EXAMPLES = """\
  gpunet predict model.safetensors photo.jpg
  gpunet predict model.safetensors scans/ --quiet
  gpunet predict model.safetensors blackboard.png --ink light --json
  gpunet predict flowers.safetensors table.csv --output predictions.csv"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _predict, argv)


def _predict(argv: Sequence[str] | None) -> int:
    options = _parse(argv)
    tables = [path for path in options.images if is_table(path)]
    if tables and options.ink != "auto":
        raise ArgumentError(f"--ink: expected with images, got the table {tables[0]}; leave it out")
    if options.output is not None:
        predictions.check(options.output, options.model, options.images)
    with commandline.outliving_output(PROGRAM, options.output is not None) as output:
        status = predict_table.predict(options, predict_table.only(options.images)) if tables else _images(options)
    return commandline.FAILED if output.failed and status == commandline.DONE else status


def _images(options: argparse.Namespace) -> int:
    files = _files(options.images)
    model = load(options.model, device=options.device, engine=options.engine)
    if model.network.inputs != INPUTS:
        raise ArgumentError(
            f"{options.model}: the network has {model.network.inputs} inputs; expected {INPUTS}, for images of "
            f"{digits.SIDE} x {digits.SIDE} pixels, or a table: .csv, .tsv or .parquet"
        )
    table = None
    if options.output is not None:
        table = PredictionsFile(options.output, "file", model.class_names, model.network.classes)
    used = 0
    # No bar for a single image, or where the standard error is not a terminal.
    for file in tqdm(files, unit=" images", leave=False, dynamic_ncols=True, disable=None if len(files) > 1 else True):
        try:
            digit = _read(file, options.ink)
        except DataError as error:
            tqdm.write(f"{PROGRAM}: {commandline.one_line(str(error))}", file=sys.stderr)
            if options.json:
                tqdm.write(json.dumps({"file": file, "error": str(error)}))
        else:
            probabilities = model.predict(digit[None])[0]
            tqdm.write(_result(options, model.class_names, file, digit, probabilities))
            if table is not None:
                table.add(file, probabilities)
            used += 1
        sys.stdout.flush()
    if table is not None:
        table.write()
    return commandline.DONE if used == len(files) else commandline.FAILED


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = commandline.Parser(
        prog=PROGRAM,
        description="Recognize handwritten digits in photos or scans. For each image, print the 28 x 28 pixels that\n"
        "the network saw, and the probability of each class. Of a table, print the class of each row.",
        examples=EXAMPLES,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="a file written by gpunet train --save; for images, a network with 784 inputs")
    add(
        "images",
        nargs="+",
        metavar="IMAGE",
        help="a PNG, JPEG or TIFF file (or WebP, BMP, GIF) with one digit, or a folder of such files; or one table: "
        ".csv, .tsv or .parquet",
    )
    parser.add_options(
        Option("--ink", choices=digits.INKS, default="auto", help="whether the strokes are dark or light"),
        Option(
            "--output",
            type=commandline.path,
            metavar="FILE",
            help="write the classes and probabilities to FILE, a table: .csv, .tsv or .parquet",
        ),
        *(commandline.DEVICE, commandline.ENGINE),
        replace(commandline.JSON, help="print one JSON object per image or row"),
        replace(commandline.QUIET, help="print one line per image"),
    )
    return parser.parse_args(argv)


def _files(paths: Sequence[str]) -> list[str]:
    """The files, and those in folders (not in subfolders), sorted by name.

    A folder without images, or one that cannot be read, is returned itself; `_read` then reports it.
    Raises ArgumentError for an empty path, which would be the current folder.
    """
    files = []
    for path in paths:
        if path == "":
            raise ArgumentError("IMAGE: expected a path, got ''")
        files += _images_in(path) or [path]
    return files


def _images_in(path: str) -> list[str]:
    """The visible image files of a folder, by suffix; empty if it is no folder."""
    with contextlib.suppress(OSError):
        inside = sorted(Path(path).iterdir())
        return [str(file) for file in inside if file.suffix.lower() in images.SUFFIXES and file.name[0] != "."]
    return []


def _read(file: str, ink: str) -> NDArray[np.uint8]:
    if os.path.isdir(file):
        try:
            os.listdir(file)
        except OSError as error:
            raise DataError(f"{file}: the folder cannot be read: {error.strerror}") from error
        raise DataError(f"{file}: no images in this folder; expected files that end in {', '.join(images.SUFFIXES)}")
    return digits.read_digit(file, ink)


def _result(
    options: argparse.Namespace,
    names: Sequence[str] | None,
    file: str,
    digit: NDArray[np.uint8],
    probabilities: NDArray[np.floating],
) -> str:
    """What to print for an image, without the final newline."""
    best = int(probabilities.argmax())
    if options.json:
        return json.dumps(predictions.record(probabilities, names, file=file))
    line = commandline.one_line(f"{file}: {class_names.of(names, best)}, {100 * probabilities[best]:.1f} %")
    if options.quiet:
        return line
    shown = sorted(np.argsort(-probabilities, kind="stable")[:MOST_BARS])
    called = [commandline.one_line(class_names.of(names, number)) for number in shown]
    bars = terminal.bars(called, [float(probabilities[number]) for number in shown], sys.stdout)
    return "\n".join([*terminal.side_by_side(terminal.drawing(digit, sys.stdout), bars), line])


if __name__ == "__main__":
    sys.exit(main())
