"""How a training whose model is kept ends on Ctrl-C, SIGTERM and a closed terminal: as of the end of an epoch."""

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
    """The last of the callbacks: it ends training by KeyboardInterrupt, at a moment at which the model is whole.

    A second signal ends at once, and the model is then not to be used. One that comes within REPEATED seconds is the
    first one again: `timeout`, terminals and launchers often send it to both the process and its group.
    signal:  the first one that came, if any.
    at_once: whether a second one came.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.at_once = False
        self._signalled = 0.0

    @contextlib.contextmanager
    def catching(self) -> Iterator[None]:
        """Around `fit`, and what belongs to it: a signal waits for the next moment at which the model is whole.

        Raises KeyboardInterrupt at its end if a signal came too late to end the training.
        """
        main = threading.current_thread() is threading.main_thread()  # others get no signals
        numbers = [number for number in SIGNALS if main and signal.getsignal(number) != signal.SIG_IGN]
        handlers = [signal.signal(number, self._on_signal) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, handlers, strict=True):
                signal.signal(number, handler)
        self._heed()

    @property
    def exit_status(self) -> int:
        """The shell's number for a program that such a signal has ended."""
        return commandline.INTERRUPTED if self.signal is None else 128 + self.signal

    def on_progress(self, updates: int) -> None:
        self._heed()  # inside the epoch, which the engine then undoes

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._heed()

    def _on_signal(self, number: int, _: object) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._signalled = number, now
        elif now - self._signalled > REPEATED:
            self.at_once = True
            raise KeyboardInterrupt

    def _heed(self) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
