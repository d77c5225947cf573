"""ProgressOfMany: what `fit_many` shows of its models."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TextIO

from gpunet.callbacks.base import Callback, Logs
from gpunet.callbacks.history import History
from gpunet.callbacks.progress import epoch_line
from gpunet.fit_arguments import Training


class ProgressOfMany:
    """A progress bar over the updates of all models (where the output is a terminal), and a line at each one's end.

    verbose: as in `fit_many`; 2 is a line an epoch, without a bar.
    """

    def __init__(self, trainings: Sequence[Training], verbose: str | int, stream: TextIO | None = None) -> None:
        self._trainings, self._stream = trainings, stream or sys.stdout
        self._quiet, self._each_epoch = not verbose, verbose == 2
        self._left = [len(training.epochs) * training.epoch_updates for training in trainings]  # updates, of each
        self._ended = 0
        self._bar: Any = None
        if not self._quiet and not self._each_epoch and self._stream.isatty():
            from tqdm import tqdm  # here, because importing gpunet should not pay for it

            self._bar = tqdm(
                total=sum(self._left), desc=self._state, unit=" updates", file=self._stream, leave=False,
                dynamic_ncols=True,
            )  # fmt: skip

    def of(self, number: int) -> Callback:
        """What a model's training calls."""
        return _ProgressOfOne(self, number)

    def count(self, number: int, updates: int) -> None:
        self._left[number] -= updates
        if self._bar is not None:
            self._bar.update(updates)

    def epoch_ended(self, number: int, epoch: int, logs: Logs) -> None:
        if self._each_epoch:
            epochs = self._trainings[number].epochs.stop
            self._print(f"{self._title(number)}  epoch {epoch + 1:{len(str(epochs))}}/{epochs}  {epoch_line(logs)}")

    def ended(self, number: int, history: History, error: str) -> None:
        """error: in words, or nothing."""
        self._ended += 1
        if self._bar is not None:
            self._bar.total -= self._left[number]  # of a training that ended early
            self._bar.set_description(self._state)
        epochs = len(history.epoch)
        parts = [f"{epochs} {'epoch' if epochs == 1 else 'epochs'}"]
        if history.epoch:
            logs = {name: values[-1] for name, values in history.history.items()}
            parts.append(epoch_line(logs | {"seconds": sum(history.history["seconds"])}))
        if error:
            parts.append(f"ended by {error}")
        if not self._each_epoch or error:
            self._print("  ".join([self._title(number), *parts]))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    @property
    def _state(self) -> str:
        return f"{self._ended} of {len(self._trainings)} models"

    def _title(self, number: int) -> str:
        return f"models[{number}]{' ' * (len(str(len(self._trainings) - 1)) - len(str(number)))}"

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        elif not self._quiet:
            print(line, file=self._stream, flush=True)


class _ProgressOfOne(Callback):
    """Counts a model's updates for the display of all."""

    def __init__(self, display: ProgressOfMany, number: int) -> None:
        self._display, self._number, self._counted = display, number, 0

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._counted = 0

    def on_progress(self, updates: int) -> None:
        self._display.count(self._number, updates - self._counted)
        self._counted = updates

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.on_progress(self.params["steps"])
        self._display.epoch_ended(self._number, epoch, logs or {})
