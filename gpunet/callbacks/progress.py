"""ProgressDisplay: what `fit` and the command line show during and after an epoch."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from gpunet.callbacks.base import Callback, Logs


class ProgressDisplay(Callback):
    """A progress bar while an epoch runs (where the output is a terminal), and a line when it ends."""

    def __init__(self, stream: TextIO | None = None, bars: bool | None = None) -> None:
        self._stream = stream or sys.stdout
        self._bars = self._stream.isatty() if bars is None else bars
        self._bar: Any = None

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        from tqdm import tqdm  # here, to keep it out of gpunet's import time

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
        print(f"{self._title(epoch)}  {epoch_line(logs or {})}", file=self._stream, flush=True)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._bar is not None:
            self._bar.close()

    def _title(self, epoch: int) -> str:
        epochs = self.params["epochs"]
        return f"epoch {epoch + 1:{len(str(epochs))}}/{epochs}"


def epoch_line(logs: Logs) -> str:
    """An epoch's logs as a line of text."""
    line = f"loss {logs['loss']:.4f}  accuracy {100 * logs['accuracy']:6.2f} %"
    if "val_loss" in logs:
        line += f"  validation loss {logs['val_loss']:.4f}  accuracy {100 * logs['val_accuracy']:6.2f} %"
    return f"{line}  {logs['seconds']:.2f} s"
