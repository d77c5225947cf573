"""Timing: how long training took, for the last line of `gpunet train`."""

from __future__ import annotations

from gpunet.callbacks.base import Callback, Logs


class Timing(Callback):
    """Adds up the epochs' training time and updates. done: epochs of the earlier run that this one continues."""

    def __init__(self, done: int = 0) -> None:
        self._done = done
        self.epochs, self.seconds, self.updates = 0, 0.0, 0
        self._last: Logs = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._last = logs = logs or {}
        self.epochs += 1
        self.seconds += logs["seconds"]
        self.updates += int(logs["updates"])

    def summary(self) -> str:
        epochs = self._done + self.epochs
        text = f"{epochs} epoch{'' if epochs == 1 else 's'}" + (f" ({self.epochs} now)" if self._done else "")
        if not self.updates:
            return text
        us = 1e6 * self.seconds / self.updates
        return f"{text}: {self.seconds:.2f} s of training, {self.updates:,} updates, {us:,.1f} us per update"

    def last_epoch(self) -> str:
        """The last epoch's results, for the end of a line; empty before the first epoch is over."""
        if not self._last:
            return ""
        return f"; last validation accuracy {100 * self._last['val_accuracy']:.2f} %, loss {self._last['val_loss']:.4f}"
