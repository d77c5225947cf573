"""RunCheckpoint: what `gpunet train --checkpoint` saves while it trains (gpunet/resume.py says what is in it)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from gpunet import files, saving
from gpunet.callbacks.base import Callback, Logs
from gpunet.callbacks.best_epoch import BestEpoch
from gpunet.data import Origin
from gpunet.errors import OutputError


class RunCheckpoint(Callback):
    """Saves every `every` epochs, and when training ends in any way but a second interruption.

    A checkpoint always holds the state at the end of an epoch. If the last one cannot be saved to the file, it is saved
    next to it or among the temporary files.
    at_once: whether there was a second interruption, after which the model may be in any state.
    best:    what to remember of the best epoch, if anything.
    rate:    the learning rate that a resumed training had reached; its schedule still starts from the initial rate.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int,
        training: dict[str, Any],
        origin: Origin,
        at_once: Callable[[], bool],
        rate: float | None = None,
        best: BestEpoch | None = None,
    ) -> None:
        self.path, self._every, self._training, self._rate = path, every, training, rate
        self._origin, self._at_once, self._best = origin, at_once, best
        self.saved_epochs: int | None = None  # epochs of the model in the file

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if self._rate is not None and self.model.optimizer is not None:
            self.model.optimizer.learning_rate = self._rate  # a schedule before this has read the initial rate
        files.remove_leftovers(self.path)
        if self.saved_epochs is None:
            self._save()  # so that a file that cannot be written is noticed now, not after some epochs

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if (epoch + 1) % self._every == 0:
            self._save()

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._at_once() or self.model.epochs_trained == self.saved_epochs:
            return
        try:
            self._save()
        except OutputError as error:
            for path in files.instead_of(self.path):
                try:
                    self._save(path)
                except OutputError:
                    continue
                raise OutputError(f"--checkpoint: {error}; continue with --resume {path}") from error
            raise

    def _save(self, path: str | os.PathLike[str] | None = None) -> None:
        saved = self.model.saved(include_optimizer=True)
        training, best = self._training, self._best
        if best is not None and best.state is not None:
            training = {**training, "best": best.state}
            saved = dataclasses.replace(saved, best_weights=best.weights)
        saving.write(path or self.path, dataclasses.replace(saved, training=training, data=self._origin))
        self.saved_epochs = saved.epochs_trained
