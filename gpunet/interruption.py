"""Ctrl-C, SIGTERM and a closed terminal, where the model is to be saved: training ends with a whole epoch."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

from gpunet import commandline
from gpunet.callbacks import Callback, Logs

REPEATED = 1.0  # seconds
SIGNALS = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None))]


class Interruption(Callback):
    """The last of the callbacks. It ends training by KeyboardInterrupt at a moment when the model is consistent.

    A second signal ends the process immediately, and the model must not be used then. A signal within REPEATED seconds
    counts as the first one again: `timeout`, terminals and launchers often send it to the process and to its group.
    signal:  the first one received, if any.
    at_once: whether a second one was received.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.at_once = False
        self._signalled = 0.0

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        """Around `fit`: a signal takes effect at the next moment when the model is consistent.

        Raises KeyboardInterrupt at its end if a signal came too late to end the training.
        """
        main = threading.current_thread() is threading.main_thread()  # others get no signals
        before = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
        # Signals that are ignored stay so. None is a handler that is not Python's, which Python could not put back.
        taken = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
        try:
            for number in taken:
                signal.signal(number, self._on_signal)
            yield
        finally:
            for number, handler in reversed(taken.items()):  # Ctrl-C last: it may come from then on
                signal.signal(number, handler)
        self.heed()

    @property
    def exit_status(self) -> int:
        """The shell's exit status for a program ended by this signal."""
        return commandline.INTERRUPTED if self.signal is None else 128 + self.signal

    def on_progress(self, updates: int) -> None:
        self.heed()  # inside the epoch, which the engine then rolls back

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.heed()

    def _on_signal(self, number: int, _: object) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._signalled = number, now
        elif now - self._signalled > REPEATED:
            self.at_once = True
            raise KeyboardInterrupt

    def heed(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self.signal is not None:
            raise KeyboardInterrupt
