"""`python bench/loaded.py`: the engines for CPUs on a machine that has other work too.

It makes the load itself: one busy process, at nice 5 and at nice 0, pinned to one core and free to move. It measures
engines and other frameworks on a quiet machine and beside each load, in passes over all of them in turn, so that a
disturbance affects them alike; then a small network, and four trainings at once. Writes
bench/results/<device>-loaded.json, with a Markdown table beside it.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpunet import commandline
from harness import files, learning, loaded_table, machine, workload
from harness.arguments import peers, seconds, sizes
from harness.files import RESULTS
from harness.loads import LOADS, Load, making, possible, together, training
from harness.passes import LEAST_SECONDS
from harness.processes import PEERS, Peer, Runner, engine

PROGRAM = "loaded.py"
BATCH_SIZES = (1, 10, 100, 1_000)
SECONDS = 1_800  # for the whole run
SMALL_UNITS, SMALL_BATCH = 20, 100
FOUR_BATCH = 10
SMALL_SECONDS, FOUR_SECONDS = 1.0, 5.0  # about as long as one such training takes alone
MOST_PASSES = 9
ONE_THREAD = "NUMBA_NUM_THREADS"


class Contestant(NamedTuple):
    """An engine or another framework. one_thread: limited to one thread."""

    peer: Peer
    one_thread: bool = False

    @property
    def label(self) -> str:
        return f"{self.peer.label}{', one thread' if self.one_thread else ''}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _loaded, argv)


def _loaded(argv: Sequence[str] | None) -> int:
    options = parser().parse_args(argv)
    until = time.monotonic() + options.seconds
    out = files.folder(options.out)
    facts = machine.describe(on_gpu=False)
    stem = out / f"{machine.file_name(facts)}-loaded"
    result: dict[str, Any] = {"machine": facts, "batches": [], "small": [], "four": [], "unavailable": []}
    contestants = [Contestant(engine("compiled")), Contestant(engine("compiled"), one_thread=True)]
    contestants += [Contestant(engine("reference"))] if options.reference else []
    contestants += [Contestant(Peer(script)) for peer in options.peers for script in PEERS[peer]]
    steps = _measurements(contestants, options.batch_sizes, result, lambda: until - time.monotonic())
    files.keep(stem, result, steps, f"{facts['device']}, loaded", loaded_table.whole)
    return commandline.DONE


def _measurements(
    contestants: Sequence[Contestant],
    batch_sizes: Sequence[int],
    result: dict[str, Any],
    left: Callable[[], float],
) -> Iterator[str]:
    """Make passes over everything while there is time, and at least one. Yields what was just done."""
    loads = [load for load in LOADS if possible(load)]
    with tempfile.TemporaryDirectory() as folder, _small_trainings() as small, _four_trainings() as four:
        run = _runner(Path(folder)).run
        for number in range(MOST_PASSES):
            began = left()
            for load in loads:
                with making(load):
                    for contestant in contestants:
                        _take(result, load, contestant, _run(run, contestant, batch_sizes, left()))
                        yield f"pass {number + 1}: {load.label}: {contestant.label}"
                    for name, one in small.items():
                        _note(result["small"], {"load": load.label, "name": name}, "us", one())
                    yield f"pass {number + 1}: {load.label}: small network"
            for name, one in four.items():
                _note(result["four"], {"name": name}, "seconds", one())
                yield f"pass {number + 1}: four trainings: {name}"
            if began - left() > left():
                return


def _runner(folder: Path) -> Runner:
    work = workload.load()
    work.save(folder / "work.npz")
    known: dict[tuple[int, int], float] = {}

    def expected(batch_size: int, updates: int) -> float:
        """The reference engine's loss, which all others are checked against."""
        if (batch_size, updates) not in known:
            reference = learning.make_engine("reference", work.weights)
            order = work.order[: updates * batch_size]
            known[batch_size, updates] = reference.train_epoch(work.images, work.labels, order, batch_size).loss
        return known[batch_size, updates]

    return Runner(folder, "cpu", False, expected)


def _run(run: Any, contestant: Contestant, batch_sizes: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    with _environment({ONE_THREAD: "1"} if contestant.one_thread else {}):
        outcomes: list[dict[str, Any]] = run(contestant.peer, batch_sizes, max(LEAST_SECONDS, seconds))
        return outcomes


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started meanwhile."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _take(result: dict[str, Any], load: Load, contestant: Contestant, outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:
        if "unavailable" in outcome:
            said = {"name": contestant.label, "unavailable": outcome["unavailable"]}
            if said not in result["unavailable"]:
                result["unavailable"].append(said)
            continue
        us = [1e6 * each / (outcome["updates"] * outcome["calls"]) for each in outcome["seconds"]]
        key = {"load": load.label, "name": contestant.label, "batch_size": outcome["batch_size"]}
        _note(result["batches"], key, "us", statistics.median(us))


def _note(records: list[dict[str, Any]], key: dict[str, Any], what: str, value: float) -> None:
    """Add the value of a pass to the record with that key."""
    for record in records:
        if all(record[name] == wanted for name, wanted in key.items()):
            record[what].append(value)
            return
    records.append({**key, what: [value]})


@contextlib.contextmanager
def _small_trainings() -> Iterator[dict[str, Callable[[], float]]]:
    """By name, functions that measure the us per update of a small network."""
    with contextlib.ExitStack() as stack:
        found: dict[str, Callable[[], float]] = {}
        for name, threads in (("compiled", 0), ("compiled, one thread", 1)):
            one = stack.enter_context(training([SMALL_UNITS], SMALL_BATCH, threads))
            updates = _updates_for(SMALL_SECONDS, lambda updates, one=one: together([one], updates))
            found[name] = lambda one=one, updates=updates: 1e6 * _alone(one, updates) / updates
        yield found


def _alone(one: Any, updates: int) -> float:
    one.start(updates)
    return float(one.wait())


@contextlib.contextmanager
def _four_trainings() -> Iterator[dict[str, Callable[[], float]]]:
    """By name, functions that measure the seconds of four trainings at once, all of equal length."""
    with contextlib.ExitStack() as stack:
        found: dict[str, Callable[[], float]] = {}
        updates = 0
        for name, threads in (("compiled", 0), ("compiled, one thread", 1)):
            four = [stack.enter_context(training([500, 500], FOUR_BATCH, threads)) for _ in range(4)]
            updates = updates or _updates_for(FOUR_SECONDS / 4, lambda updates, four=four: together(four[:1], updates))
            found[name] = lambda four=four, updates=updates: together(four, updates)
        yield found


def _updates_for(wanted: float, timed: Callable[[int], float]) -> int:
    """The number of updates that take about this many seconds."""
    updates = 20
    while (took := timed(updates)) < wanted / 10:
        updates *= 4
    return max(20, int(updates * wanted / took))


def parser() -> commandline.Parser:
    parser = commandline.Parser(prog=PROGRAM, description="Time the engines for CPUs beside a busy process.")
    add = parser.add_argument
    add(
        "--batch-sizes",
        type=sizes,
        default=BATCH_SIZES,
        metavar="N,N,...",
        help="batch sizes for the lecture's network (1,...,1000)",
    )
    add(
        "--peers",
        type=peers,
        default=(),
        metavar="NAMES",
        help=f"other frameworks to time, of {','.join(PEERS)} (none)",
    )
    add("--reference", action="store_true", help="time the reference engine too")
    add("--seconds", type=seconds, default=SECONDS, help=f"time limit; one pass is always made ({SECONDS})")
    add("--out", default=str(RESULTS), metavar="FOLDER", help="write the files to FOLDER (bench/results)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
