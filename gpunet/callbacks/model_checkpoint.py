"""ModelCheckpoint: saves the model to a file, after every epoch or after the best ones."""

from __future__ import annotations

import os
from pathlib import Path
from string import Formatter

from gpunet.callbacks.base import Logs
from gpunet.callbacks.monitor import Monitor, require_validation
from gpunet.checks import require_number
from gpunet.errors import ArgumentError, OutputError
from gpunet.saving import as_path


class ModelCheckpoint(Monitor):
    """Saves the model when an epoch has ended, with `model.save`: the file is always complete.

    filepath:          ends in .safetensors or .npz; fields such as {epoch:02d} (from 1) and {val_loss:.3f} are filled
                       in. Missing folders are created.
    save_best_only:    only if the monitored quantity is better than in every epoch before it, over all calls of fit.
    save_weights_only: leave out the optimizer's state; the file is a third as large, and PyTorch can read it.
    initial_value_threshold: what the first "best" must be better than.
    save_freq:         "epoch"; a number of batches is refused, because an epoch may be one launch.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode, min_delta=0)
        if save_freq != "epoch":
            raise ArgumentError(
                f"ModelCheckpoint: save_freq: expected 'epoch', got {save_freq!r}: nothing can be saved between an "
                "epoch's batches, because an epoch may be one launch"
            )
        self.filepath = str(as_path(filepath))
        self._fields = _fields(self.filepath)
        self.verbose, self.save_best_only, self.save_weights_only = verbose, save_best_only, save_weights_only
        self.best = initial_value_threshold
        if self.best is not None:
            self.best = require_number("ModelCheckpoint: initial_value_threshold", self.best)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        require_validation(self, [*self._fields, self.monitor] if self.save_best_only else self._fields)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        path = self._path(epoch, logs or {})
        if self.save_best_only:
            current, best = self.current(logs), "None" if self.best is None else f"{self.best:.5f}"
            if not self.is_improvement(current, self.best):
                self._tell(f"Epoch {epoch + 1}: {self.monitor} did not improve from {best}")
                return
            self._tell(
                f"Epoch {epoch + 1}: {self.monitor} improved from {best} to {current:.5f}, saving model to {path}"
            )
            self.best = current
        else:
            self._tell(f"Epoch {epoch + 1}: saving model to {path}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: its folder cannot be made: {error.strerror}") from error
        self.model.save(path, include_optimizer=not self.save_weights_only)

    def _path(self, epoch: int, logs: Logs) -> Path:
        values = {**logs, "epoch": epoch + 1}
        try:
            return Path(self.filepath.format_map(values))
        except KeyError as error:
            raise ArgumentError(
                f"ModelCheckpoint: filepath {self.filepath}: nothing is called {error}; there are {', '.join(values)}"
            ) from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ArgumentError(f"ModelCheckpoint: filepath {self.filepath}: {error}") from error

    def _tell(self, line: str) -> None:
        if self.verbose:
            print(line)


def _fields(filepath: str) -> list[str]:
    """The names of the fields to fill in."""
    try:
        return [name for _, name, _, _ in Formatter().parse(filepath) if name is not None]
    except ValueError as error:
        raise ArgumentError(f"ModelCheckpoint: filepath {filepath}: {error}") from error
