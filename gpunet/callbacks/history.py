"""History: the record of a training."""

from __future__ import annotations

from gpunet.callbacks.base import Callback, Logs


class History(Callback):
    """What `fit` returns.

    epoch: numbers of the epochs, from 0; history: for each name in the logs, one value per epoch.
    error: what ended this training early, if it is one of several in `fit_many`; else None.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}
        self.error: Exception | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)
