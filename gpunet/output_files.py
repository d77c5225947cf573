"""Checks of the files that a command will write: --metrics, --save and --plot, for every command that has all three."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from gpunet import files, plots, saving
from gpunet.callbacks.metrics_file import STANDARD_OUTPUT
from gpunet.errors import ArgumentError


def check(options: argparse.Namespace, named: Mapping[str, str | None]) -> None:
    """Raise ArgumentError, before any work, if one of the three cannot be written or is another option's file.

    named: the files of all options that have one, by option: these three, and what else the command reads or writes.
    """
    named = dict(named)
    if options.metrics == STANDARD_OUTPUT:
        del named["--metrics"]
    elif options.metrics is not None:
        files.check_output("--metrics", options.metrics, grows=True)
    files.check_distinct(named)
    if options.plot is not None:
        plots.check(options.plot)
    if options.save is not None:
        files.check_output("--save", options.save)
        try:
            saving.as_path(options.save)
        except ArgumentError as error:
            raise ArgumentError(f"--save: {error}") from None
