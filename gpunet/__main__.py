"""`gpunet`, or `python -m gpunet`: one tool with the subcommands train, sweep, evaluate, predict, page and doctor."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from gpunet import commandline
from gpunet._version import __version__

PROGRAM = "gpunet"
COMMANDS = {
    "train": "train a network on MNIST or on your own data",
    "sweep": "train many configurations side by side, and choose the best",
    "evaluate": "test a saved model, and show where it is wrong",
    "predict": "recognize handwritten digits in photos or scans",
    "page": "write a web page to draw digits on and watch a model think",
    "doctor": "report what was found on this machine, and what would run",
}
EXAMPLES = """\
  gpunet train --save model.safetensors
  gpunet sweep --batch-size 10 100 1000 --learning-rate 0.0003 0.001 0.003 --seeds 5
  gpunet evaluate model.safetensors --plot report.png
  gpunet predict model.safetensors photo.jpg
  gpunet page model.safetensors -o digits.html
  gpunet train --help"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _gpunet, argv, started=False)


def _gpunet(argv: Sequence[str] | None) -> int:
    commands = "\n".join(f"  {name:<10}{what}" for name, what in COMMANDS.items())
    parser = commandline.Parser(
        prog=PROGRAM,
        description=f"Train small fully connected networks fast, and recognize digits.\n\ncommands:\n{commands}",
        examples=EXAMPLES,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the above")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="its arguments: COMMAND --help")
    parser.add_argument("--version", action="version", version=f"gpunet {__version__}")
    options = parser.parse_args(argv)
    command = importlib.import_module(f"gpunet.{options.command}")  # here, so that doctor does not need the others
    status: int = command.main(options.arguments)
    return status


if __name__ == "__main__":
    sys.exit(main())
