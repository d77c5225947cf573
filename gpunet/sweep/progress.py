"""Progress: what a sweep shows while it runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from gpunet.sweep import report
from gpunet.sweep.outcome import Outcome, best_of
from gpunet.sweep.space import Space


class Progress:
    """A line for each trial that this worker ends, and on a terminal a bar over all trials of the study.

    trials: how many are planned. ended: how many have ended, as far as this worker knows.
    """

    def __init__(self, space: Space, trials: int, quiet: bool) -> None:
        self._space, self._trials, self._quiet = space, trials, quiet
        self.ended = 0
        self._waiting = False
        self._bar: Any = None

    def begin(self, outcomes: Sequence[Outcome]) -> None:
        """Show the bar. outcomes: the trials so far."""
        if not self._quiet and sys.stdout.isatty():
            from tqdm import tqdm  # here, because it is not always needed

            form = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
            self._bar = tqdm(total=self._trials, file=sys.stdout, leave=False, dynamic_ncols=True, bar_format=form)
        self.update(outcomes)

    def advance(self, share: float) -> None:
        """Advance the bar by a part of a trial."""
        if self._bar is not None:
            self._bar.update(min(share, self._trials - self._bar.n))

    def show(self, outcomes: Sequence[Outcome], number: int) -> None:
        """Show a trial of this worker that has ended."""
        self.update(outcomes)
        outcome = next(outcome for outcome in outcomes if outcome.number == number)
        best = best_of(outcomes)
        so_far = f"; best {report.accuracy(best)}" if best else ""
        count = f"{self.ended:{len(str(self._trials))}}/{self._trials}"
        self._print(f"{count}  {report.line(self._space, outcome)}{so_far}")

    def update(self, outcomes: Sequence[Outcome]) -> None:
        """Update the bar with the progress of all workers."""
        self.ended = sum(outcome.state.is_end for outcome in outcomes)
        if self._bar is not None:
            best = best_of(outcomes)
            self._bar.n = max(self._bar.n, self.ended)
            found = f", best {report.accuracy(best)}" if best else ""
            self._bar.set_description_str(f"{self.ended} of {self._trials}{found} ")

    def wait(self, outcomes: Sequence[Outcome], elsewhere: int) -> None:
        self.update(outcomes)
        if not self._waiting:
            self._print(f"waiting for other workers, which train the last {elsewhere}")
        self._waiting = True

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.write(line, file=sys.stdout)
        elif not self._quiet:
            print(line, flush=True)
