"""`gpunet sweep`: train many configurations, and choose the best by its validation figures."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

from gpunet import commandline, output_files, training_options
from gpunet.callbacks.metrics_file import STANDARD_OUTPUT
from gpunet.commandline import Option
from gpunet.errors import ArgumentError
from gpunet.sweep import space as spaces
from gpunet.sweep.space import Space

PROGRAM = "gpunet sweep"
DESCRIPTION = """\
Train a network with many options side by side, and choose the best by validation. The options of gpunet train may have
several values, of which every combination is trained, or a range a..b, which --trials N searches. Results are kept in a
study: the same command continues it, also from other machines."""
EXAMPLES = """\
  gpunet sweep --batch-size 10 100 1000 --learning-rate 0.0003 0.001 0.003 --seeds 5
  gpunet sweep --trials 100 --learning-rate 1e-4..1e-1 --hidden 50..1000 --layers 1..3 --prune
  gpunet sweep --hidden none 100 500,500 --activation sigmoid relu --plot sweep.png --save best.safetensors
  gpunet sweep --trials 1000 --learning-rate 1e-4..1e-1 --storage postgresql://host/database --study mnist
  gpunet sweep --study mnist --storage postgresql://host/database --report"""
STORAGE = "sweeps.db"
TAKEOVER = 60.0  # seconds
SEED = next(option for option in training_options.OPTIONS if option.name == spaces.NOT_VARIED)
SINGLE = (SEED, commandline.DATA, commandline.TARGET, commandline.DEVICE, commandline.ENGINE, commandline.THREADS)
HELP = {
    "hidden": "widths of the hidden layers: 500,300 for two layers, none for no hidden layer (500,500)",
    "nesterov": "look ahead along the momentum, for sgd: yes, no or both (no)",
}
SWEEP = (
    Option(
        "--trials",
        type=commandline.whole_number,
        metavar="N",
        help="search, trying N configurations (every combination)",
    ),
    Option("--seeds", type=commandline.whole_number, metavar="N", help="train each configuration with N seeds (1)"),
    Option("--prune", action="store_true", help="end trials early that are worse than the median of earlier ones"),
    Option("--study", metavar="NAME", help="name of the study (made from the options and the data)"),
    Option(
        "--storage",
        type=commandline.path,
        default=STORAGE,
        metavar="PLACE",
        help=f"where the study is kept: a SQLite file, or postgresql://HOST/DATABASE ({STORAGE})",
    ),
    Option(
        "--takeover",
        type=float,
        default=TAKEOVER,
        metavar="SECONDS",
        help=f"take over another worker's trials after SECONDS without a sign of life ({TAKEOVER:g})",
    ),
    Option("--report", action="store_true", help="train nothing; show the study's results so far"),
    Option(
        "--metrics",
        type=commandline.path,
        metavar="FILE",
        help="at the end, write one JSON object per trial, and one with the test result, to FILE; - means standard "
        "output, and everything else then goes to standard error",
    ),
    Option("--save", metavar="FILE", help="write the best network to FILE: .safetensors or .npz"),
    Option("--plot", metavar="FILE", help="draw accuracy over each varied option to FILE: .png, .svg or .pdf"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _sweep, argv)


def _sweep(argv: Sequence[str] | None) -> int:
    options = _parse(argv)
    alone = options.metrics == STANDARD_OUTPUT  # then nothing else may go there
    with commandline.outliving_output(PROGRAM, wanted=True) as output:
        space = Space({option.name: getattr(options, option.name) for option in spaces.OPTIONS})
        _check(options, space)
        files_of = {f"--{name}": getattr(options, name) for name in ("data", "storage", "metrics", "save", "plot")}
        output_files.check(options, files_of)
        run = _running()
        records = sys.stdout
        with contextlib.redirect_stdout(sys.stderr) if alone else contextlib.nullcontext():
            status: int = run.show(options, space, records) if options.report else run.sweep(options, space, records)
    return commandline.FAILED if output.failed and status == commandline.DONE else status


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = commandline.Parser(PROGRAM, DESCRIPTION, EXAMPLES)
    parser.add_options(*map(_varied, spaces.OPTIONS), *SINGLE, *SWEEP, commandline.QUIET)
    words = list(sys.argv[1:] if argv is None else argv)
    for option in SINGLE:
        _require_one_value(option, words)
    return parser.parse_args(words)


def _require_one_value(option: Option, words: Sequence[str]) -> None:
    """ArgumentError if an option that cannot vary is given several values, which the parser would not recognize."""
    for place, word in enumerate(words):
        values = list(itertools.takewhile(lambda other: not other.startswith("--"), words[place + 1 :]))
        if word == option.flag and len(values) > 1:
            more = "; --seeds N trains every configuration with N seeds" if option is SEED else ""
            raise ArgumentError(f"{option.flag}: cannot vary; expected one value, got {len(values)}{more}")


def _varied(option: Option) -> Option:
    """The option, accepting any number of words."""
    return replace(
        option,
        help=HELP.get(option.name, _help(option)),
        metavar=option.metavar or "VALUE",
        nargs="*",
        type=None,
        choices=None,
        action=None,
        default=None,
    )


def _help(option: Option) -> str:
    """The help text, with the default and the choices, which the parser does not know."""
    choices = f": {', '.join(option.choices)}" if option.choices and not option.help.endswith(")") else ""
    default = "" if option.help.endswith(")") or option.default is None else f" ({option.default})"
    return f"{option.help}{choices}{default}"


def _check(options: argparse.Namespace, space: Space) -> None:
    """Raise ArgumentError for options that make no sense together."""
    if not (math.isfinite(options.takeover) and options.takeover > 0):
        raise ArgumentError(f"--takeover: expected a number of seconds above 0, got {options.takeover:g}")
    if options.study == "":
        raise ArgumentError("--study: expected a name, got ''")
    if options.report:
        if options.save:
            raise ArgumentError("--save: not with --report, which trains nothing; leave --report out")
        return
    if not space.varied and (options.trials is not None or options.seeds in (None, 1)):
        raise ArgumentError("nothing varies; give an option several values or a range a..b, or --seeds N")
    if options.trials is None:
        space.combinations()
    elif not space.ranges and len(space.combinations()) <= options.trials:
        raise ArgumentError(
            f"--trials: there are only {len(space.combinations())} combinations; leave --trials out to train them all"
        )


def _running() -> ModuleType:
    """The module that needs Optuna; nothing else in gpunet does."""
    try:
        importlib.import_module("optuna")
    except ImportError as error:
        raise ArgumentError(f"Optuna cannot be loaded ({error}); pip install 'gpunet[sweep]'") from error
    return importlib.import_module("gpunet.sweep.running")
