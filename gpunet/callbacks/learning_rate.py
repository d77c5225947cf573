"""LearningRateScheduler and ReduceLROnPlateau: the learning rate, changed between epochs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from gpunet.callbacks.base import Callback, Logs
from gpunet.callbacks.monitor import Monitor
from gpunet.checks import require_count, require_number
from gpunet.errors import ArgumentError


class LearningRateScheduler(Callback):
    """Sets the learning rate before every epoch to schedule(epoch, current rate), or to schedule(epoch).

    Adds learning_rate to the logs.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        self.schedule, self.verbose = schedule, verbose
        self._arguments = _arguments_taken(schedule)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        assert optimizer is not None
        rate = self.schedule(*(epoch, optimizer.learning_rate)[: self._arguments])
        name = f"LearningRateScheduler: schedule({epoch})"
        if require_number(name, rate) < 0:
            raise ArgumentError(f"{name}: expected a learning rate from 0 on, got {rate!r}")
        optimizer.learning_rate = float(rate)
        if self.verbose:
            print(f"Epoch {epoch + 1}: LearningRateScheduler setting learning rate to {optimizer.learning_rate}.")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        _log_rate(self, logs)


class ReduceLROnPlateau(Monitor):
    """Multiplies the learning rate by `factor` when a quantity has not improved for `patience` epochs.

    cooldown: epochs after a reduction that do not count.  min_lr: the rate does not fall below it.
    Its state is not saved: a training resumed in Python starts counting again.
    Adds learning_rate, that of the epoch that has ended, to the logs.
    """

    best: float | None
    wait: int

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.factor = require_number("ReduceLROnPlateau: factor", factor)
        if not 0 < self.factor < 1:
            raise ArgumentError(f"ReduceLROnPlateau: factor: expected a number between 0 and 1, got {factor!r}")
        self.min_lr = require_number("ReduceLROnPlateau: min_lr", min_lr)
        self.patience = require_count("ReduceLROnPlateau: patience", patience)
        self.cooldown = require_count("ReduceLROnPlateau: cooldown", cooldown)
        self.verbose = verbose
        self._start()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        super().on_train_begin(logs)
        self._start()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        _log_rate(self, logs)
        current = self.current(logs)
        if self.in_cooldown():
            self.cooldown_counter -= 1
            self.wait = 0
        if self.is_improvement(current, self.best):
            self.best, self.wait = current, 0
        elif not self.in_cooldown():
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def in_cooldown(self) -> bool:
        return self.cooldown_counter > 0

    def _reduce(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        assert optimizer is not None
        if optimizer.learning_rate <= self.min_lr:
            return
        optimizer.learning_rate = max(optimizer.learning_rate * self.factor, self.min_lr)
        self.cooldown_counter, self.wait = self.cooldown, 0
        if self.verbose:
            print(f"Epoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {optimizer.learning_rate}.")

    def _start(self) -> None:
        self.best = None
        self.cooldown_counter = self.wait = 0


def _log_rate(callback: Callback, logs: Logs | None) -> None:
    assert callback.model.optimizer is not None
    if logs is not None:
        logs["learning_rate"] = callback.model.optimizer.learning_rate


def _arguments_taken(schedule: Any) -> int:
    """1 for schedule(epoch), 2 for schedule(epoch, rate)."""
    if not callable(schedule):
        raise ArgumentError(f"LearningRateScheduler: schedule: expected a function of the epoch, got {schedule!r}")
    try:
        signature = inspect.signature(schedule)
    except ValueError:  # some functions written in C have no signature
        return 2
    for arguments in (2, 1):
        try:
            signature.bind(*range(arguments))
        except TypeError:
            continue
        return arguments
    raise ArgumentError(
        f"LearningRateScheduler: schedule: expected schedule(epoch, rate) or schedule(epoch), got {schedule}{signature}"
    )
