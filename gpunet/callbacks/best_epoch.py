"""BestEpoch: what `gpunet train --keep best` and `--early-stopping` remember of the epochs so far."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.callbacks.base import Callback, Logs
from gpunet.checks import require_count, require_number


class BestEpoch(Callback):
    """Remembers the epoch with the lowest validation loss and, with `keep`, its weights. Ends training `patience`
    epochs after it, unless that is None.

    epochs: how many were done when it was reached; 0 before the first epoch. waited: epochs since then.
    weights: as `get_weights` gives them; None before the first epoch, or without `keep`.
    """

    def __init__(self, keep: bool, patience: int | None) -> None:
        self._keep, self._patience = keep, patience
        self.loss, self.epochs, self.waited = math.inf, 0, 0
        self.weights: list[NDArray[np.floating]] | None = None

    @property
    def ended(self) -> bool:
        """Whether training ends, or ended, for lack of a better epoch."""
        return self._patience is not None and self.waited >= self._patience

    @property
    def state(self) -> dict[str, Any] | None:
        """What a checkpoint keeps, apart from `weights`."""
        return {"loss": self.loss, "epochs": self.epochs, "waited": self.waited} if self.epochs else None

    def take(self, state: dict[str, Any], weights: list[NDArray[np.floating]] | None) -> None:
        """Continue from a checkpoint's state. Raises ArgumentError, LookupError or TypeError if it is invalid."""
        self.loss = require_number("loss", state["loss"])
        self.epochs, self.waited = (require_count(name, state[name]) for name in ("epochs", "waited"))
        self.weights = weights

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        loss = (logs or {})["val_loss"]
        if loss < self.loss:
            self.loss, self.epochs, self.waited = loss, epoch + 1, 0
            self.weights = self.model.get_weights() if self._keep else None
        else:
            self.waited += 1
        if self.ended:
            self.model.stop_training = True

    def bring_back(self) -> None:
        """Give the model the weights of the best epoch, if they were kept. Call this when training has ended."""
        if self.weights is None:
            return
        scale = self.model.scale
        self.model.set_weights(self.weights)
        self.model.scale, self.model.epochs_trained = scale, self.epochs

    def told(self) -> str | None:
        """What it did, in one line."""
        if not self.epochs:
            return None
        best = f"epoch {self.epochs}, validation loss {self.loss:.4f}"
        early = f"ended early: {self.waited} epochs without a lower one" if self.ended else ""
        if self.weights is not None:
            return f"best    {best}, is kept{f'; {early}' if early else ''}"
        return f"best    {best}; {early}" if early else None
