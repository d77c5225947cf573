"""Hooks around epochs, with Keras' names. There are none per batch: an engine may run an epoch as one launch."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from gpunet.model import Sequential

Logs = Mapping[str, float]


class Callback:
    """Override what you need; the names and arguments are Keras'. Epochs count from 0.

    logs at the end of an epoch: loss, accuracy, seconds, updates, and with validation data val_loss, val_accuracy.
    params: "epochs" planned and "steps", the updates an epoch.
    Set `self.model.stop_training = True` to end training after the epoch.
    """

    model: Sequential
    params: dict[str, int]

    def set_model(self, model: Sequential) -> None:
        self.model = model

    def set_params(self, params: dict[str, int]) -> None:
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None: ...

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None: ...

    def on_progress(self, updates: int) -> None:
        """updates: how many of this epoch have been started; called as often as the engine comes up for air."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None: ...

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called however training ends."""


class History(Callback):
    """What `fit` returns.

    epoch: numbers of the epochs, from 0; history: for each name in the logs, one value an epoch.
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)


class ProgressDisplay(Callback):
    """A progress bar while an epoch runs (where the output is a terminal), and a line when it ends."""

    def __init__(self, stream: TextIO | None = None, bars: bool | None = None) -> None:
        self._stream = stream or sys.stdout
        self._bars = self._stream.isatty() if bars is None else bars
        self._bar: Any = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        from tqdm import tqdm  # here, because importing gpunet should not pay for it

        self._bar = tqdm(
            total=self.params["steps"],
            desc=self._title(epoch),
            unit=" updates",
            file=self._stream,
            leave=False,
            dynamic_ncols=True,
            disable=not self._bars,
        )

    def on_progress(self, updates: int) -> None:
        self._bar.update(updates - self._bar.n)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._bar.close()
        logs = logs or {}
        line = f"{self._title(epoch)}  loss {logs['loss']:.4f}  accuracy {100 * logs['accuracy']:6.2f} %"
        if "val_loss" in logs:
            line += f"  validation loss {logs['val_loss']:.4f}  accuracy {100 * logs['val_accuracy']:6.2f} %"
        print(f"{line}  {logs['seconds']:.2f} s", file=self._stream, flush=True)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._bar is not None:
            self._bar.close()

    def _title(self, epoch: int) -> str:
        epochs = self.params["epochs"]
        return f"epoch {epoch + 1:{len(str(epochs))}}/{epochs}"
