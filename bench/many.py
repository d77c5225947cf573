"""`python bench/many.py`: many networks at once, each with its own learning rate.

It compares `fit_many` with successive calls of `fit`, JAX' vmap, torch.func's ensemble and scikit-learn's classifier in
processes, for the lecture's network and a small one. It makes passes over all of them in turn, so that a disturbance
affects them alike. Writes bench/results/<device>-many.json, with a Markdown table beside it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gpunet import commandline
from harness import files, machine, many_table
from harness.arguments import names, seconds
from harness.files import RESULTS
from harness.many_runs import CASES, OURS, PEERS, ManyRunner, us_a_network_update
from harness.passes import LEAST_SECONDS
from harness.processes import Peer

PROGRAM = "many.py"
SECONDS, SHORT_SECONDS = 1_800, 240  # for the whole run
SHORT_CASES = ("lecture-10-4", "small-32-16")
MOST_PASSES = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _many, argv)


def _many(argv: Sequence[str] | None) -> int:
    options = parser().parse_args(argv)
    until = time.monotonic() + (options.seconds or (SHORT_SECONDS if options.short else SECONDS))
    cases = options.cases or (SHORT_CASES if options.short else CASES)
    out = files.folder(options.out)
    facts = machine.describe(on_gpu=False)
    stem = out / f"{machine.file_name(facts)}-many{'-short' if options.short else ''}"
    result: dict[str, Any] = {"machine": facts, "passes": 0, "records": [], "unavailable": []}
    contestants = [*OURS, *(PEERS[name] for name in options.peers)]
    with tempfile.TemporaryDirectory() as folder:
        run = ManyRunner(Path(folder), cases).run
        steps = measure(run, contestants, cases, result, lambda: until - time.monotonic())
        files.keep(stem, result, steps, f"{facts['device']}, many networks at once", many_table.whole)
    return commandline.DONE


def measure(
    run: Callable[[Peer, Sequence[str], float], list[dict[str, Any]]],
    contestants: Sequence[Peer],
    cases: Sequence[str],
    result: dict[str, Any],
    left: Callable[[], float],
) -> Iterator[str]:
    """Make passes over all contestants while there is time, and at least one. Yields the one that has just run."""
    for number in range(MOST_PASSES):
        began = left()
        for place, contestant in enumerate(contestants):
            allowed = left() / (len(contestants) - place) if number == 0 else left()
            _take(result, run(contestant, cases, max(LEAST_SECONDS, allowed)))
            yield f"pass {number + 1}: {contestant.label}"
        result["passes"] = number + 1
        yield f"pass {number + 1} done"
        if began - left() > left():
            return


def _take(result: dict[str, Any], outcomes: list[dict[str, Any]]) -> None:
    """Add a process' reports to the records. What could not be timed is noted once, unless another pass timed it."""
    for outcome in outcomes:
        name, case = outcome["name"], outcome["case"]
        known = [record for record in result["records"] if (record["name"], record["case"]) == (name, case)]
        if "unavailable" in outcome:
            if not known and not any((said["name"], said["case"]) == (name, case) for said in result["unavailable"]):
                result["unavailable"].append(outcome)
            continue
        if not known:
            facts = ("name", "case", "networks", "versions", "check_updates", "check_losses", "first_run_seconds")
            known = [{**{fact: outcome[fact] for fact in facts}, "us": []}]
            result["records"] += known
        known[0]["us"].append(us_a_network_update(outcome))


def parser() -> commandline.Parser:
    parser = commandline.Parser(prog=PROGRAM, description="Compare training many networks at once.")
    add = parser.add_argument
    add(
        "--peers",
        type=_peers,
        default=tuple(PEERS),
        metavar="NAMES",
        help=f"other frameworks, of {','.join(PEERS)}, or none (all)",
    )
    add("--cases", type=_cases, metavar="NAMES", help=f"of {','.join(CASES)} (all): network-batch size-networks")
    add("--short", action="store_true", help=f"{' and '.join(SHORT_CASES)} only, in {SHORT_SECONDS} s")
    add("--seconds", type=seconds, help=f"time limit ({SECONDS}; {SHORT_SECONDS} with --short)")
    add("--out", default=str(RESULTS), metavar="FOLDER", help="write the files to FOLDER (bench/results)")
    return parser


def _peers(text: str) -> tuple[str, ...]:
    return () if text == "none" else names(text, PEERS)


def _cases(text: str) -> tuple[str, ...]:
    return names(text, CASES)


if __name__ == "__main__":
    sys.exit(main())
