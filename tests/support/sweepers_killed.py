"""Two workers of one sweep, one of which is killed -9 again and again: `sweepers_killed.py KILLS WORDS...`.

The surviving worker keeps in step with the kills, so that they are spread over the whole study however fast the machine
is; each worker uses one core. The workers are forks, which start in a moment. This is a separate process, because
forking needs one without threads.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import RawValue

import alembic.command  # noqa: F401 - which a worker would import otherwise, and the next one again
import optuna.storages._rdb.models  # noqa: F401

from gpunet import sweep
from gpunet.sweep import running  # noqa: F401
from gpunet.sweep.seed_training import SeedTraining

with contextlib.suppress(ImportError):
    import psycopg  # noqa: F401

TRIALS_A_KILL = 6  # that the worker that stays may end before the next kill


def main(kills: int, words: Sequence[str]) -> None:
    done, begun = RawValue("i", 0), RawValue("i", 0)  # kills, and trainings that the other worker has begun
    stays = start(words, lambda ended: wait(lambda: done.value >= kills or ended < TRIALS_A_KILL * (1 + done.value)))
    rng = random.Random(0)
    while done.value < kills:
        begun.value = 0
        started = time.monotonic()
        other = start(words, lambda _: setattr(begun, "value", 1))
        if done.value == 0:
            wait(lambda: begun.value)
            seconds = time.monotonic() - started
        else:
            time.sleep(rng.uniform(0, 1.5 * seconds))  # while it starts, claims, trains or tells
        os.kill(other, signal.SIGKILL)
        os.waitpid(other, 0)
        done.value += 1
    last = start(words, lambda _: None)
    for worker in (stays, last):
        _, status = os.waitpid(worker, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def start(words: Sequence[str], at_training: Callable[[int], object]) -> int:
    """A worker that calls this, with the number of trials that have ended, before each training."""
    child = os.fork()
    if child == 0:
        begin = SeedTraining.on_train_begin

        def on_train_begin(self: SeedTraining, logs: object = None) -> None:
            at_training(self._progress.ended)
            begin(self)

        SeedTraining.on_train_begin = on_train_begin  # type: ignore[method-assign,assignment]
        os._exit(sweep.main(words))
    return child


def wait(until: Callable[[], object]) -> None:
    while not until():
        time.sleep(0.005)


if __name__ == "__main__":
    main(int(sys.argv[1]), [*sys.argv[2:], "--threads", "1"])
