"""Turns: who may use a model, when it is in the hands of several threads.

Short uses (predict, evaluate, get_weights, save and so on) wait for one another. A training takes long, and in the
middle of an epoch the weights are neither the old ones nor the new; while it runs, other threads are refused.

Locks are held by `with` alone, and by none of Python's own context managers: Ctrl-C may come at any moment, and between
the beginning of a context manager that is written in Python and the `with` that ends it, it would leave a lock taken.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from gpunet.errors import ArgumentError


class Turns:
    """Of one model. lock: held for a short use, and for the moment in which a training begins."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.in_epoch = False  # the weights are changing
        self._running: threading.Lock | None = None  # locked for as long as the last training runs
        self._thread = 0

    @property
    def training(self) -> bool:
        return self._running is not None and self._running.locked()

    def begin_training(self, running: threading.Lock) -> None:
        """To be called with `lock` and `running` held; the training ends when `running` is released."""
        if self.training:
            where = "; a callback cannot call it"
            if not self._is_here():
                where = " in another thread; wait until it has returned"
            raise ArgumentError(f"fit: already running{where}")
        self._running, self._thread, self.in_epoch = running, threading.get_ident(), False

    def require(self, use: str) -> None:
        """Raise ArgumentError if a training forbids this use; to be called with `lock` held."""
        if not self.training:
            return
        if not self._is_here():
            raise ArgumentError(
                f"{use}: fit is running in another thread; wait until it has returned, or use a copy of the model that "
                "was made before (copy.deepcopy)"
            )
        if self.in_epoch:
            raise ArgumentError(f"{use}: not possible inside an epoch; on_epoch_end is called when it is over")

    def _is_here(self) -> bool:
        return self._thread == threading.get_ident()


class HasTurns(Protocol):
    _turns: Turns


Model = TypeVar("Model", bound=HasTurns)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
Method = Callable[Concatenate[Model, Arguments], Result]


def short(method: Method[Model, Arguments, Result]) -> Method[Model, Arguments, Result]:
    """A method that waits for its turn, and is refused while another thread trains."""

    @functools.wraps(method)
    def in_turn(self: Model, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with self._turns.lock:
            self._turns.require(method.__name__)
            return method(self, *args, **kwargs)

    return in_turn


def training(method: Method[Model, Arguments, Result]) -> Method[Model, Arguments, Result]:
    """`fit`: one at a time; it waits for short uses that have begun, and is refused while another one runs."""

    @functools.wraps(method)
    def alone(self: Model, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        running = threading.Lock()
        with running:
            with self._turns.lock:
                self._turns.begin_training(running)
            return method(self, *args, **kwargs)

    return alone
