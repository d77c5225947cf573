"""The exceptions that users may see. Every message is one line that says what to do."""

from __future__ import annotations

import itertools
import sys
import warnings

MOST_SHOWN = 100  # characters


def first_line(error: BaseException) -> str:
    """The first line of another library's error that holds words."""
    lines = [line.strip() for line in str(error).splitlines() if any(map(str.isalnum, line))]
    return lines[0] if lines else type(error).__name__


def shown(value: object) -> str:
    """A user's value, cut to fit into a message."""
    text = " ".join(repr(value).split())
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN - 3]}..."


def warn(message: str) -> None:
    """Warn with the location of the user's line that called gpunet, however deep in gpunet the warning arises."""
    frame = sys._getframe()
    for level in itertools.count(1):
        if frame.f_back is None or frame.f_globals.get("__name__", "").partition(".")[0] != "gpunet":
            warnings.warn(message, stacklevel=level)
            return
        frame = frame.f_back


class GpunetError(Exception):
    """Base of all errors that gpunet raises on purpose."""


class ArgumentError(GpunetError, ValueError):
    """An argument from Python or the command line cannot be used."""


class UnknownArgumentError(ArgumentError, TypeError):
    """The function has no argument of that name, though other frameworks do."""


class DataError(GpunetError, ValueError):
    """A data file is missing, damaged or not in the expected format."""


class ModelFileError(GpunetError, ValueError):
    """A saved model or checkpoint is missing, damaged, from a newer version, or belongs to another network."""


class DeviceError(GpunetError, RuntimeError):
    """The requested device or engine cannot be used on this machine."""


class OutputError(GpunetError, RuntimeError):
    """A requested file cannot be written."""


class NotCompiledError(GpunetError, RuntimeError):
    """`fit` or `evaluate` was called before `compile`."""


class TrainingDivergedError(GpunetError, ArithmeticError):
    """The loss became NaN or infinite.

    epoch: the epoch in which it happened, from 1 (0 until `fit` has filled it in); update: the update, from 1.
    """

    def __reduce__(self) -> tuple[type[TrainingDivergedError], tuple[int, int]]:
        return type(self), (self.update, self.epoch)

    def __init__(self, update: int, epoch: int = 0) -> None:
        self.update, self.epoch = update, epoch
        where = f"update {update}" + (f" of epoch {epoch}" if epoch else "")
        super().__init__(f"the loss became NaN or infinite at {where}; training stopped. Try a smaller learning rate.")
