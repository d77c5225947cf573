"""Keeps a machine busy, and trains several networks on it at once, in processes that it ends by their ids."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

TRAINING = Path(__file__).parent / "one_training.py"
START_SECONDS = 120  # time limit for a process to compile and report that it is ready

BUSY = """
import os, sys, threading
nice, core = int(sys.argv[1]), int(sys.argv[2])
os.nice(nice)
if core >= 0:
    os.sched_setaffinity(0, {core})
def end_with_the_parent():
    sys.stdin.read()
    os._exit(0)
threading.Thread(target=end_with_the_parent, daemon=True).start()
print("busy", flush=True)
while True:
    pass
"""


class Load(NamedTuple):
    """What else the machine does. nice: of one busy process, or None. held: pinned to the last core."""

    nice: int | None = None
    held: bool = False

    @property
    def label(self) -> str:
        if self.nice is None:
            return "quiet"
        return f"nice {self.nice}, {'on one core' if self.held else 'on any core'}"


QUIET = Load()
LOADS = (QUIET, Load(5, True), Load(0, True), Load(5, False), Load(0, False))


def possible(load: Load) -> bool:
    """Whether this system can produce such a load."""
    return load.nice is None or (hasattr(os, "nice") and (not load.held or hasattr(os, "sched_setaffinity")))


@contextlib.contextmanager
def making(load: Load) -> Iterator[None]:
    """Keep up the load meanwhile."""
    if load.nice is None:
        yield
        return
    core = max(os.sched_getaffinity(0)) if load.held else -1
    command = [sys.executable, "-c", BUSY, str(load.nice), str(core)]
    with _process(command, "busy"):
        yield


@contextlib.contextmanager
def _process(command: Sequence[str], ready: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has reported that it is ready; it is killed at the end."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if process.stdout.readline().strip() != ready:
            raise RuntimeError(f"{Path(command[1]).name}: ended with status {process.wait(START_SECONDS)}")
        yield process
    finally:
        process.kill()
        process.communicate()


class Training:
    """A process that continues to train a network whenever it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, updates: int) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{updates}\n")
        self._process.stdin.flush()

    def wait(self) -> float:
        """The seconds that the training took."""
        assert self._process.stdout is not None
        return float(self._process.stdout.readline())


@contextlib.contextmanager
def training(hidden: Sequence[int], batch_size: int, threads: int) -> Iterator[Training]:
    """784-hidden-10 with sigmoids, Adam and the compiled engine, compiled and warm. threads: 0 for the default."""
    layers = ",".join(map(str, hidden))
    command = [sys.executable, str(TRAINING), layers, str(batch_size), str(threads)]
    with _process(command, "ready") as process:
        yield Training(process)


def together(trainings: Sequence[Training], updates: int) -> float:
    """Seconds from the start of all trainings to the end of the last."""
    started = time.monotonic()
    for one in trainings:
        one.start(updates)
    for one in trainings:
        one.wait()
    return time.monotonic() - started
