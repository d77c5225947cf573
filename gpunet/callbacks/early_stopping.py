"""EarlyStopping: ends training when more epochs do not help."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpunet.callbacks.base import Logs
from gpunet.callbacks.monitor import Monitor
from gpunet.checks import require_count, require_number


class EarlyStopping(Monitor):
    """Ends training when a quantity has not improved for `patience` epochs.

    baseline:             an improvement restarts the count only if the quantity is also better than this.
    restore_best_weights: end with the weights of the best epoch, however training ends; the optimizer's state stays.
    start_from_epoch:     epochs before this one do not count.
    Its state is not saved: a training resumed in Python starts counting again.
    """

    best: float | None
    best_weights: list[NDArray[np.floating]] | None
    wait: int

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = require_count("EarlyStopping: patience", patience)
        self.start_from_epoch = require_count("EarlyStopping: start_from_epoch", start_from_epoch)
        self.baseline = None if baseline is None else require_number("EarlyStopping: baseline", baseline)
        self.verbose, self.restore_best_weights = verbose, restore_best_weights
        self._start()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        super().on_train_begin(logs)
        self._start()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        current = self.current(logs)
        if epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self.is_improvement(current, self.best):
            self.best, self.best_epoch = current, epoch
            if self.restore_best_weights:
                self.best_weights = self.model.get_weights()
            if self.baseline is None or self.is_improvement(current, self.baseline):
                self.wait = 0
        elif self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch > 0 and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.best_weights is not None:
            if self.verbose:
                print(f"Restoring model weights from the end of the best epoch: {self.best_epoch + 1}.")
            self.model.set_weights(self.best_weights)

    def _start(self) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = self.best_weights = None
