"""The speed part: passes over engines and peers in turn, so that a disturbance affects them alike.

A pass runs every engine, then every peer, each in a fresh process that goes through the batch sizes. A record's time is
the median over passes of each pass's median. If passes disagree, that engine or peer gets more of them.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import learning, machine
from harness.processes import GRACE_SECONDS, Peer, Runner
from harness.workload import EXAMPLES, LECTURE_SECONDS, Workload, epoch_updates

PASSES = 3
EXTRA_PASSES = 2
STEADY = 1.2  # the largest ratio between passes of a steady record
LEAST_SECONDS = GRACE_SECONDS + 10  # with less time left, a process is not started

Run = Callable[[Peer, Sequence[int], float], list[dict[str, Any]]]


class Passes:
    """The results of the passes so far.

    records:     one for each engine or peer and batch size that was timed (see `record`).
    unavailable: {"name", "unavailable"}, with "batch_size" if other sizes worked.
    log:         {"load_average", "seconds", "again"} of each pass; again: whether it only repeated unsteady records.
    """

    def __init__(self, engines: Sequence[Peer], peers: Sequence[Peer], batch_sizes: Sequence[int], run: Run) -> None:
        self.records: list[dict[str, Any]] = []
        self.unavailable: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self._engines, self._contestants = set(engines), [*engines, *peers]
        self._batch_sizes, self._run = list(batch_sizes), run
        self._reports: dict[tuple[Peer, int], list[dict[str, Any]]] = {}
        self._seconds: dict[Peer, float] = {}  # of each contestant's last process

    def run(self, left: Callable[[], float]) -> Iterator[str]:
        """Run passes while another one fits into the seconds left; yields after each process.

        In the first pass, gpunet's engines always run, other frameworks while there is time.
        """
        for number in range(PASSES):
            if number and sum(self._seconds.values()) > left():
                return
            work = {peer: self._sizes(peer) for peer in self._contestants} if number else self._everything()
            yield from self._pass(work, left, again=False)
        for _ in range(EXTRA_PASSES):
            work = {peer: self._unsteady_sizes(peer) for peer in self._contestants}
            work = {peer: sizes for peer, sizes in work.items() if sizes and self._seconds[peer] <= left()}
            if not work:
                return
            yield from self._pass(work, left, again=True)

    def _pass(self, work: dict[Peer, list[int]], left: Callable[[], float], again: bool) -> Iterator[str]:
        started = time.monotonic()
        entry = {"load_average": machine.load_average(), "seconds": 0.0, "again": again}
        self.log.append(entry)
        for number, (peer, sizes) in enumerate(work.items()):
            if not sizes or (again and self._seconds[peer] > left()):
                continue
            began = time.monotonic()
            known = peer in self._engines or peer in self._seconds
            seconds = left() if known else left() / (len(work) - number)  # time left over is shared
            self._take(peer, self._begun(peer, sizes, seconds))
            if not again:
                self._seconds[peer] = time.monotonic() - began
            entry["seconds"] = time.monotonic() - started
            yield peer.label

    def _begun(self, peer: Peer, sizes: list[int], seconds: float) -> list[dict[str, Any]]:
        """The outcomes of a process, if there is time to start one."""
        if seconds < LEAST_SECONDS and peer not in self._engines:
            return [{"name": peer.label, "unavailable": "no time left"}]
        return self._run(peer, sizes, max(LEAST_SECONDS, seconds))

    def _take(self, peer: Peer, outcomes: list[dict[str, Any]]) -> None:
        for outcome in outcomes:
            if "unavailable" not in outcome:
                self._reports.setdefault((peer, outcome["batch_size"]), []).append(outcome)
            elif (peer, outcome.get("batch_size")) not in self._reports:  # otherwise an earlier pass has timed it
                self.unavailable.append(outcome)
        self.records = [record(reports) for reports in self._reports.values()]

    def _everything(self) -> dict[Peer, list[int]]:
        return dict.fromkeys(self._contestants, self._batch_sizes)

    def _sizes(self, peer: Peer) -> list[int]:
        """The sizes that an earlier pass could time."""
        return [size for size in self._batch_sizes if (peer, size) in self._reports]

    def _unsteady_sizes(self, peer: Peer) -> list[int]:
        return [size for size in self._sizes(peer) if record(self._reports[peer, size])["unsteady"]]


def measured(
    engines: Sequence[Peer],
    peers: Sequence[Peer],
    batch_sizes: Sequence[int],
    device: str,
    full: bool,
    work: Workload,
    left: Callable[[], float],
) -> Iterator[tuple[str, Passes]]:
    """Run the passes; yields who has just run, and all results so far."""

    @functools.cache
    def expected(batch_size: int, updates: int) -> float:
        """The reference engine's loss, which all others are checked against."""
        engine = learning.make_engine("reference", work.weights)
        return engine.train_epoch(work.images, work.labels, work.order[: updates * batch_size], batch_size).loss

    with tempfile.TemporaryDirectory() as folder:
        work.save(Path(folder) / "work.npz")
        passes = Passes(engines, peers, batch_sizes, Runner(Path(folder), device, full, expected).run)
        for label in passes.run(left):
            yield label, passes


def record(reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The record that follows from the reports of several passes, the first of which compiled.

    us_per_update_range: over the passes, or over the repeats if there was one pass.
    unsteady:            the middle three differ by more than STEADY, or there is only one.
    projected:           a repeat was shorter than an epoch.
    """
    first = reports[0]
    repeats = [[1e6 * s / (report["updates"] * report["calls"]) for s in report["seconds"]] for report in reports]
    each = sorted(map(statistics.median, repeats)) if len(repeats) > 1 else sorted(repeats[0])
    outer = max(0, (len(each) - 3) // 2)
    epoch = epoch_updates(first["batch_size"])
    epoch_seconds = statistics.median(each) * epoch / 1e6
    result = {
        **{name: first[name] for name in ("name", "batch_size", "versions", "check_updates", "check_loss")},
        "first_run_seconds": first["first_run_seconds"],
        "passes": [{name: report[name] for name in ("updates", "calls", "seconds")} for report in reports],
        "us_per_update": statistics.median(each),
        "us_per_update_range": [each[0], each[-1]],
        "unsteady": len(each) == 1 or each[-1 - outer] > STEADY * each[outer],
        "epoch_updates": epoch,
        "epoch_seconds": epoch_seconds,
        "projected": min(report["updates"] for report in reports) < epoch,
        "examples_per_second": EXAMPLES / epoch_seconds,
    }
    if first["batch_size"] in LECTURE_SECONDS:
        result["times_faster_than_lecture"] = LECTURE_SECONDS[first["batch_size"]] / epoch_seconds
    return result
