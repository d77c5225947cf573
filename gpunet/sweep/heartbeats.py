"""Heartbeats: how workers know that other workers are alive."""

from __future__ import annotations

import contextlib
import threading

from optuna.storages import RDBStorage


class Heartbeats:
    """Records a heartbeat for each of this worker's trials at regular intervals."""

    def __init__(self, storage: RDBStorage) -> None:
        self._storage, self.trials, self._ended = storage, set[int](), threading.Event()
        interval = storage.get_heartbeat_interval()
        assert interval is not None
        self._seconds = min(interval, storage.grace_period / 4) if storage.grace_period else interval
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def start(self, trial: int) -> None:
        self._storage.record_heartbeat(trial)
        self.trials.add(trial)

    def stop(self, trial: int) -> None:
        self.trials.discard(trial)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(1.0)  # an unreachable database may block the thread; the process may end anyway

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            for trial in list(self.trials):
                with contextlib.suppress(Exception):  # the database is unreachable: the worker will report it
                    self._storage.record_heartbeat(trial)
        self._storage.remove_session()
