"""`gpunet predict`: tell the digits in pictures, and show what the network saw."""

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

from gpunet import commandline, digits, terminal
from gpunet.commandline import Option
from gpunet.digits import images
from gpunet.errors import ArgumentError, DataError
from gpunet.model import Sequential, load

PROGRAM = "gpunet predict"
INPUTS = digits.SIDE**2
MOST_BARS = 10  # the most probable classes of a network with more
EXAMPLES = """\
  gpunet predict model.safetensors photo.jpg
  gpunet predict model.safetensors scans/ --quiet
  gpunet predict model.safetensors blackboard.png --ink light --json"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _predict, argv)


def _predict(argv: Sequence[str] | None) -> int:
    options = _parse(argv)
    files = _files(options.pictures)
    model = load(options.model, device=options.device, engine=options.engine)
    if model.network.inputs != INPUTS:
        raise ArgumentError(
            f"{options.model}: a network with {model.network.inputs} inputs; expected {INPUTS}, for pictures of "
            f"{digits.SIDE} x {digits.SIDE} pixels"
        )
    used = 0
    # No bar for a single picture, or where the standard error is not a terminal.
    for file in tqdm(
        files, unit=" pictures", leave=False, dynamic_ncols=True, disable=None if len(files) > 1 else True
    ):
        try:
            digit = _read(file, options.ink)
        except DataError as error:
            tqdm.write(f"{PROGRAM}: {commandline.one_line(str(error))}", file=sys.stderr)
            if options.json:
                tqdm.write(json.dumps({"file": file, "error": str(error)}))
        else:
            tqdm.write(_result(options, model, file, digit))
            used += 1
        sys.stdout.flush()
    return commandline.DONE if used == len(files) else commandline.FAILED


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = commandline.Parser(
        prog=PROGRAM,
        description="Tell the digits in pictures: one's own, photographed or scanned. For each it prints the 28 x 28\n"
        "pixels that the network saw, and the probabilities of the classes.",
        examples=EXAMPLES,
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="a file that gpunet train --save wrote; a network with 784 inputs")
    add(
        "pictures",
        nargs="+",
        metavar="PICTURE",
        help="a PNG, JPEG or TIFF file (WebP, BMP and GIF are read as well) with one digit, or a folder of them",
    )
    parser.add_options(
        Option("--ink", choices=digits.INKS, default="auto", help="whether the strokes are dark or light"),
        *(commandline.DEVICE, commandline.ENGINE),
        replace(commandline.JSON, help="print one JSON object a picture"),
        replace(commandline.QUIET, help="print one line a picture"),
    )
    return parser.parse_args(argv)


def _files(paths: Sequence[str]) -> list[str]:
    """The files, with those in folders (not in folders of folders) in the order of their names.

    A folder stands for itself if it has no pictures or cannot be read; `_read` then says so.
    Raises ArgumentError for an empty path, which would be the current folder.
    """
    files = []
    for path in paths:
        if path == "":
            raise ArgumentError("PICTURE: expected a path, got ''")
        files += _pictures_in(path) or [path]
    return files


def _pictures_in(path: str) -> list[str]:
    """The visible files of a folder that end as pictures do; nothing if it is no folder."""
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
        raise DataError(f"{file}: no pictures in this folder; expected files that end in {', '.join(images.SUFFIXES)}")
    return digits.read_digit(file, ink)


def _result(options: argparse.Namespace, model: Sequential, file: str, digit: NDArray[np.uint8]) -> str:
    """What to print for a picture, without the last line's end."""
    probabilities = model.predict(digit[None])[0]
    best = int(probabilities.argmax())
    if options.json:
        return json.dumps({"file": file, "class": best, "probabilities": [float(p) for p in probabilities]})
    line = f"{commandline.one_line(file)}: {best}, {100 * probabilities[best]:.1f} %"
    if options.quiet:
        return line
    shown = sorted(np.argsort(-probabilities, kind="stable")[:MOST_BARS])
    bars = terminal.bars(shown, [float(probabilities[number]) for number in shown], sys.stdout)
    return "\n".join([*terminal.side_by_side(terminal.picture(digit, sys.stdout), bars), line])


if __name__ == "__main__":
    sys.exit(main())
