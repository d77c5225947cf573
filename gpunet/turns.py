"""Turns: which thread may use a model that several threads share.

Short uses (predict, evaluate, get_weights, save and so on) wait for one another. Training takes long, and in the middle
of an epoch the weights are neither the old nor the new ones; while it runs, other threads are refused.

Locks are held by `with` alone, never through a context manager written in Python: Ctrl-C may come at any moment, and
between the start of such a context manager and its `with`, it would leave the lock taken.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from gpunet.errors import ArgumentError


class Turns:
    """The turns of one model. lock: held during a short use, and while a training begins."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.in_epoch = False  # the weights are changing
        self._running: threading.Lock | None = None  # locked while the latest training runs
        self._thread = 0

    @property
    def training(self) -> bool:
        return self._running is not None and self._running.locked()

    def begin_training(self, running: threading.Lock) -> None:
        """Call it with `lock` and `running` held; the training ends when `running` is released."""
        if self.training:
            where = "; a callback cannot call it"
            if not self._is_here():
                where = " in another thread; wait until it returns"
            raise ArgumentError(f"fit: already running{where}")
        self._running, self._thread, self.in_epoch = running, threading.get_ident(), False

    def require(self, use: str) -> None:
        """Raise ArgumentError if a training forbids this use. Call it with `lock` held."""
        if not self.training:
            return
        if not self._is_here():
            raise ArgumentError(
                f"{use}: fit is running in another thread; wait until it returns, or use a copy of the model made "
                "before (copy.deepcopy)"
            )
        if self.in_epoch:
            raise ArgumentError(f"{use}: not possible during an epoch; call it in on_epoch_end")

    def _is_here(self) -> bool:
        return self._thread == threading.get_ident()


class HasTurns(Protocol):
    _turns: Turns


Model = TypeVar("Model", bound=HasTurns)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Method = Callable[Concatenate[Model, Arguments], Result]


def short(method: Method[Model, Arguments, Result]) -> Method[Model, Arguments, Result]:
    """Decorate a method that waits for its turn, and is refused while another thread trains."""

    @functools.wraps(method)
    def in_turn(self: Model, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with self._turns.lock:
            self._turns.require(method.__name__)
            return method(self, *args, **kwargs)

    return in_turn


def training(method: Method[Model, Arguments, Result]) -> Method[Model, Arguments, Result]:
    """Decorate `fit`: it waits for short uses in progress, and is refused while another training runs."""

    @functools.wraps(method)
    def alone(self: Model, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        running = threading.Lock()
        with running:
            with self._turns.lock:
                self._turns.begin_training(running)
            return method(self, *args, **kwargs)

    return alone
