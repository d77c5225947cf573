"""What gpunet's commands share: help and options, one-line errors, exit statuses, and an orderly end on Ctrl-C."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from gpunet.errors import GpunetError, OutputError, TrainingDivergedError

DONE, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
STATUSES = """\
  0    done
  1    something failed on the way, or a picture cannot be used
  2    the command line, the data, the model or the device cannot be used
  130  interrupted by Ctrl-C; 143 by SIGTERM, where training is saved to a checkpoint"""


class Parser(argparse.ArgumentParser):
    """argparse, with errors of one line, and examples and exit statuses below the help."""

    def __init__(self, prog: str, description: str, examples: str = "") -> None:
        shown = f"examples:\n{examples}\n\n" if examples else ""
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"{shown}exit status:\n{STATUSES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(UNUSABLE, f"{self.prog}: {one_line(message)}; see {self.prog} --help\n")


def run(program: str, command: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None) -> int:
    """Call a command's function; turn what users can cause into one line on stderr and an exit status."""
    _prepare_streams()
    try:
        return command(argv)
    except KeyboardInterrupt:
        ignore_interrupts()
        return _fail(program, "interrupted", INTERRUPTED)
    except (TrainingDivergedError, OutputError) as error:
        return _fail(program, str(error), FAILED)
    except GpunetError as error:
        return _fail(program, str(error), UNUSABLE)
    except MemoryError as error:
        return _fail(program, f"not enough memory: {error}; a smaller network or batch needs less", FAILED)
    except BrokenPipeError:  # the reader of our output is gone, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit has a place to go
        return FAILED
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _fail(program, f"{name}{error.strerror or error}", FAILED)


def ignore_interrupts() -> None:
    """One Ctrl-C is enough: what is left to do is short."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def whole_number(text: str, smallest: int = 1) -> int:
    """An argparse type: a whole number, `smallest` or above."""
    try:
        value = int(text)
    except ValueError:
        value = smallest - 1
    if value < smallest:
        raise argparse.ArgumentTypeError(f"expected a whole number, {smallest} or above; got {text!r}")
    return value


def seed(text: str) -> int:
    """An argparse type: a whole number, 0 or above."""
    return whole_number(text, smallest=0)


def _prepare_streams() -> None:
    """Make printing safe where there is no stream (`>&-`), or one that cannot show every letter of a path."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open until the end
        elif isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def one_line(text: str) -> str:
    """The text with what is no printable character, such as a line's end in the name of a file, written as \\n is."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _fail(program: str, message: str, status: int) -> int:
    print(f"{program}: {one_line(message)}", file=sys.stderr)
    return status
