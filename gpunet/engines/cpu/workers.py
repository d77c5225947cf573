"""Starts the compiled engine's threads, waits for them, stops them, and finds out how many of them are worthwhile."""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Sized
from queue import Empty, SimpleQueue

from gpunet.engines.base import Progress
from gpunet.engines.cpu.layout import ACTIVE, DONE, PHASE, SLEEPS, STOP, Work

AIR_SECONDS = 0.05  # how often the main thread checks the progress and Ctrl-C


class Pace:
    """How many threads work at a time: fewer if other programs want the cores so much that fewer are faster.

    Threads that often fall asleep while they wait for others are a sign of that. Then half of them are tried for a
    moment, and kept if the work goes faster. Now and then more are tried again. Without that sign, half are tried
    rarely: cores may be so far apart that a batch is over before they have told one another about it. Results do not
    depend on any of this.
    """

    WINDOW_SECONDS = 0.1  # of one measurement
    SLEEPS_A_SECOND = 30.0  # per thread; above that, fewer threads are tried
    GAIN = 1.05  # how much faster more threads must be, because fewer leave cores to other programs
    LONGEST_PAUSE = 32  # windows between two trials
    LONG_PAUSE = 64  # windows between two trials of fewer threads without a sign, each of half a window

    def __init__(self, threads: int) -> None:
        self.threads = self.active = threads
        self._phases = self._sleeps = 0
        self._seconds = 0.0
        self._rate = 0.0  # recent phases per second with the usual number of threads
        self._usual: int | None = None  # that number, while another one is being tried
        self._pause = self._left = 1  # windows between trials, and until the next one
        self._left_without_sign = 1  # windows until fewer threads are tried in any case
        self._has_sign = True  # for what is being tried

    def note(self, phases: int, seconds: float, sleeps: int) -> int:
        """Note what the active threads did in some seconds; returns how many threads should work from now on."""
        self._phases, self._seconds, self._sleeps = (
            self._phases + phases,
            self._seconds + seconds,
            self._sleeps + sleeps,
        )
        window = self.WINDOW_SECONDS if self._has_sign else self.WINDOW_SECONDS / 2
        if self._seconds >= window and self._phases and self.threads > 1:
            rate, sleeps_a_second = self._phases / self._seconds, self._sleeps / self._seconds / self.active
            self._phases, self._seconds, self._sleeps = 0, 0.0, 0
            if self._usual is None:
                self._rate = (self._rate or rate) + (rate - (self._rate or rate)) / 3
                self._try_others(sleeps_a_second)
            else:
                self._decide(rate)
        return self.active

    def _try_others(self, sleeps_a_second: float) -> None:
        self._left -= 1
        self._left_without_sign -= 1
        wanted = self.active
        if self.active > 1 and sleeps_a_second > self.SLEEPS_A_SECOND:
            wanted = self.active // 2
        elif self.active < self.threads:
            wanted = min(2 * self.active, self.threads)
        if self._left <= 0 and wanted != self.active:
            self._usual, self.active = self.active, wanted
        elif self._left_without_sign <= 0 and self.active == self.threads:
            self._usual, self.active, self._has_sign = self.active, self.active // 2, False
            self._left_without_sign = self.LONG_PAUSE

    def _decide(self, rate: float) -> None:
        """Keep the number that was tried, or go back to the usual one."""
        usual, self._usual = self._usual or self.active, None
        needed = self.GAIN if self.active > usual or not self._has_sign else 1 / self.GAIN
        if rate > self._rate * needed:
            self._rate, self._pause = rate, 1
        else:
            self.active = usual
            if self._has_sign:
                self._pause = min(2 * self._pause, self.LONGEST_PAUSE)
        self._left, self._has_sign = self._pause, True


def run_on_threads(
    loop: Callable[[Work, int, int], None], work: Work, count: int, progress: Progress, pace: Pace | None = None
) -> None:
    """Run `loop` on `count` threads until all finish, polling progress and Ctrl-C.

    Whatever ends the wait, such as Ctrl-C, also ends the threads: when this returns or raises, none is running. Ctrl-C
    may come at any moment, so nothing here waits on a lock from Python's library, which could then stay locked for
    ever.
    """
    begun: list[int] = []  # filled by the threads: Ctrl-C may come between starting a thread and counting it
    outcomes: list[BaseException | None] = []
    bell: SimpleQueue[None] = SimpleQueue()
    first_core, pace = _current_core(), pace or Pace(count)
    work.sync[ACTIVE] = pace.active

    def run(thread: int) -> None:
        begun.append(thread)
        outcome: BaseException | None = None
        try:
            if count > 1:
                _go_to_core(first_core + thread)
            loop(work, thread, count)
        except BaseException as error:  # the others would wait for this one
            work.sync[STOP], outcome = 1, error
        outcomes.append(outcome)
        bell.put(None)

    since, phases, sleeps = time.perf_counter(), 0, 0

    def look() -> None:
        nonlocal since, phases, sleeps
        now, phase, slept = time.perf_counter(), int(work.sync[PHASE]), int(work.sync[SLEEPS])
        work.sync[ACTIVE] = pace.note(phase - phases, now - since, slept - sleeps)
        since, phases, sleeps = now, phase, slept

    try:
        for thread in range(count):
            _thread.start_new_thread(run, (thread,))
        while len(outcomes) < count:
            try:
                bell.get(timeout=AIR_SECONDS)
            except Empty:
                look()
                progress(int(work.sync[DONE]))
        look()
    except BaseException:
        _stop_in_any_case(work, begun, outcomes)
        raise
    for error in outcomes:
        if error is not None:
            raise error


def _stop_in_any_case(work: Work, begun: Sized, outcomes: Sized) -> None:
    """Wait for the threads to end, even after a second Ctrl-C: nobody may touch the weights before.

    A thread that only begins now sees that it has to stop before it does anything.
    """
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            work.sync[STOP] = 1  # seen at the next stage
            while len(outcomes) < len(begun):
                time.sleep(0.001)
            return


def run_aside(task: Callable[[Callable[[], None]], None]) -> None:
    """Run task(check) in another thread and wait for it, so that Ctrl-C does not interrupt it at any point.

    check: the task calls it wherever it may be ended; after Ctrl-C it raises. Ctrl-C is raised here after the task has
    ended.
    """
    outcomes: list[BaseException | None] = []
    bell: SimpleQueue[None] = SimpleQueue()
    interrupts: list[KeyboardInterrupt] = []
    tickets = [None]  # Ctrl-C may come right after a thread's start, which is then repeated: only one of them works

    def check() -> None:
        if interrupts:
            raise interrupts[0]

    def run() -> None:
        try:
            tickets.pop()
        except IndexError:
            return
        outcome: BaseException | None = None
        try:
            task(check)
        except BaseException as error:
            outcome = error
        outcomes.append(outcome)
        bell.put(None)

    while not outcomes:
        try:
            if tickets:
                _thread.start_new_thread(run, ())
            while not outcomes:
                with contextlib.suppress(Empty):
                    bell.get(timeout=AIR_SECONDS)
        except KeyboardInterrupt as interrupt:
            interrupts.append(interrupt)
    if interrupts:
        raise interrupts[0]
    if outcomes[0] is not None:
        raise outcomes[0]


def _current_core() -> int:
    """The number of the core that this thread runs on, among those that the process may use; 0 if unknown."""
    try:
        return sorted(os.sched_getaffinity(0)).index(ctypes.CDLL(None).sched_getcpu())
    except (AttributeError, OSError, ValueError):
        return 0


def _go_to_core(number: int) -> None:
    """Move this thread to a core without binding it: threads that start on one core may stay there for long."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError):
        try:
            os.sched_setaffinity(0, {cores[number % len(cores)]})
        finally:
            os.sched_setaffinity(0, cores)
