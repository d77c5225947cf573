"""What gpunet's commands share: help and options, one-line errors, exit statuses, and an orderly end on Ctrl-C.

An option that several commands have is declared here, once; each is an `Option`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TextIO, cast

from gpunet import engines, starting
from gpunet._version import __version__
from gpunet.errors import GpunetError, OutputError, TrainingDivergedError

DONE, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
STATUSES = """\
  0    done
  1    something failed while running, or an image cannot be used
  2    the command line, the data, the model or the device cannot be used
  130  interrupted by Ctrl-C; 143 by SIGTERM, if the model or the training was saved"""


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

    def add_options(self, *options: Option) -> None:
        """Add the command's options, and --version."""
        for option in options:
            option.add_to(self)
        self.add_argument("--version", action="version", version=f"gpunet {__version__}")

    def error(self, message: str) -> NoReturn:
        self.exit(UNUSABLE, f"{self.prog}: {one_line(message)}; see {self.prog} --help\n")


def run(
    program: str, command: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None, started: bool = True
) -> int:
    """Call a command's function; turn what users can cause into one line on stderr and an exit status.

    started: whether all is imported, so that Ctrl-C is the command's (see gpunet.starting).
    """
    _prepare_streams()
    try:
        if started:
            starting.done()
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _say(program, str(message))
            status = command(argv)
            sys.stdout.flush()  # here, where what fails is reported
            return status
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
        _discard(sys.stdout)
        return FAILED
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        if not name and _is_stuck(sys.stdout):
            _discard(sys.stdout)
            name = "standard output cannot be written: "
        return _fail(program, f"{name}{error.strerror or error}", FAILED)


class Output:
    """A stream in front of another one: what that one refuses is left out, with all that follows, and stops nothing.

    program: what to call this one in the line on stderr that says so, if anything; a closed pipe is no failure.
    """

    def __init__(self, stream: TextIO, program: str | None = None) -> None:
        self._stream, self._program = stream, program
        self._stopped = self.failed = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Callable[[], object]) -> None:
        if self._stopped:
            return
        try:
            action()
        except OSError as error:
            self._stopped, self.failed = True, not isinstance(error, BrokenPipeError)
            _discard(self._stream)
            if self._program is not None:
                reason = error.strerror if self.failed else "its reader has gone"
                line = f"{self._program}: standard output cannot be written: {reason}; the work continues"
                print(line, file=sys.stderr)


@contextlib.contextmanager
def outliving_output(program: str, wanted: bool) -> Iterator[Output]:
    """If `wanted`, printing cannot stop the work meanwhile: for what makes files as well. Tells whether it failed."""
    streams = sys.stdout, sys.stderr
    output, errors = Output(sys.stdout, program), Output(sys.stderr)
    if wanted:
        sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, errors)
    try:
        yield output
        if wanted:
            output.flush()
    finally:
        sys.stdout, sys.stderr = streams


def _is_stuck(stream: TextIO) -> bool:
    """Whether the stream holds text that it cannot write. An error of print does not say which stream it is from."""
    try:
        stream.flush()
    except OSError:
        return True
    return False


def _discard(stream: TextIO) -> None:
    """Give what is still to be written to the stream, at exit at the latest, a place to go."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


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


def device(text: str) -> str:
    """An argparse type: a device by its name."""
    if not engines.is_device(text):
        raise argparse.ArgumentTypeError(f"expected one of {engines.DEVICE_NAMES}; got {text!r}")
    return text


def path(text: str) -> str:
    """An argparse type: a path, which is not empty."""
    if not text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return text


LINEARLY, LOGARITHMICALLY = "linearly", "logarithmically"


@dataclass(frozen=True)
class Option:
    """An option of the command line, declared once: for the parser, and for whatever else reads it.

    flag:    as it is typed.
    default: what it is where it is not given; shown behind the help, if that has no parentheses of its own.
    spread:  how a sweep spreads a range of its values, LINEARLY or LOGARITHMICALLY; None if it has no ranges.
    The others are argparse's.
    """

    flag: str
    help: str
    default: Any = None
    type: Callable[[str], Any] | None = None
    choices: Sequence[str] | None = None
    nargs: str | None = None
    metavar: str | None = None
    action: str | None = None
    spread: str | None = None

    @property
    def name(self) -> str:
        """Of the attribute in what argparse returns."""
        return self.flag.removeprefix("--").replace("-", "_")

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        own = self.help.endswith(")") or self.default is None or self.default is False
        text = self.help if own else f"{self.help} ({self.default})"
        given = {"type": self.type, "choices": self.choices, "nargs": self.nargs, "metavar": self.metavar}
        settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if self.action is not None:
            settings["action"] = self.action
        parser.add_argument(self.flag, default=self.default, help=text, **settings)

    def words(self, value: Any) -> list[str]:
        """A value as on a command line, nothing if it is not given. Raises TypeError or ValueError for none."""
        if value is None or value is False:
            return []
        if self.action == "store_true":
            if value is not True:
                raise TypeError(value)
            return [self.flag]
        if isinstance(value, list):
            return [self.flag, *(str(int(part)) for part in value)]
        return [f"{self.flag}={value}"]


DEVICE = Option("--device", type=device, default="auto", help=f"where to compute: {engines.DEVICE_NAMES} (auto)")
ENGINE = Option("--engine", choices=engines.ENGINES, default="auto", help="how to compute")
THREADS = Option(
    "--threads", type=whole_number, metavar="N", help="threads to use on a CPU (as many as there are cores)"
)
DATA = Option(
    "--data",
    type=path,
    metavar="PATH",
    help="a folder of IDX files, plain or .gz, an .npz with x_train, y_train, x_test, y_test, or a table: .csv, .tsv, "
    ".parquet (MNIST)",
)
TARGET = Option(
    "--target", type=path, metavar="COLUMN", help="for a table: the column with the classes; all others are inputs"
)
QUIET = Option("--quiet", action="store_true", default=False, help="print only the result")
JSON = Option("--json", action="store_true", default=False, help="print one JSON object")


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
    _say(program, message)
    return status


def _say(program: str, message: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it
        print(f"{program}: {one_line(message)}", file=sys.stderr, flush=True)
