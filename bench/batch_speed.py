"""`python bench/batch_speed.py`: the lecture's experiment on batch size, on this machine.

Four statements are put to the test: a batch of 1 costs as much an update as a batch of 10; at the same number of
updates, 10 is more stable and converges faster; too large a batch is worse; and batching is fast because of matrix
products. Writes everything to bench/results/<device>.json, a Markdown table beside it, and figures.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import figures
import machine
import measure
import tables
import workload
from files import RESULTS, write_json, write_text
from run_peers import PEERS, run_peer
from tqdm import tqdm

from gpunet import commandline, engines
from gpunet.errors import ArgumentError

PROGRAM = "batch_speed.py"
BATCH_SIZES = (1, 10, 100, 1_000, 10_000)
ACCURACY_BATCH_SIZES = (10, 100, 1_000, 10_000, 50_000)
ACCURACY_EPOCHS = 5
SAME_UPDATES = 50_000
PARTS = ("speed", "same-updates", "batch-accuracy", "why")
UNFINISHED = ".unfinished.json"  # the end of a result file's name while a run is going on
PATIENCE_SECONDS = 60  # for each half of the part on equal updates; a slower machine runs fewer, and says so


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _batch_speed, argv)


def _batch_speed(argv: Sequence[str] | None) -> int:
    options = _parse(argv)
    names = _engine_names(options)
    on_gpu = engines.DEVICE_OF[names[0]] == "cuda"
    out = Path(options.out)
    if not out.is_dir() or not os.access(out, os.W_OK):
        raise ArgumentError(f"--out: {out}: not a folder that can be written to")
    facts = machine.describe(on_gpu)
    stem = out / file_stem(facts, options.parts)
    unfinished = Path(f"{stem}{UNFINISHED}")
    result: dict[str, Any] = {"machine": facts, "full": options.full}
    for _ in _measurements(names, "cuda" if on_gpu else "cpu", options, result):
        write_json(unfinished, result)  # after each one: nothing is lost if a later one fails
    unfinished.replace(f"{stem}.json")
    markdown = tables.whole(result)
    write_text(Path(f"{stem}.md"), f"# {facts['device']}\n\n{markdown}")
    print(markdown)
    print(f"written: {stem}.json, {stem}.md")
    try:
        for file in figures.draw(result, stem):
            print(f"written: {file}")
    except ImportError:
        print("no figures: matplotlib is not installed (pip install '.[bench]')")
    return commandline.DONE


def file_stem(facts: dict[str, str], parts: Sequence[str] = PARTS) -> str:
    """The name of the result files; a run of some parts only does not replace a whole one."""
    return "-".join([machine.file_name(facts), *(parts if set(parts) != set(PARTS) else ())])


def _measurements(names: list[str], device: str, options: argparse.Namespace, result: dict[str, Any]) -> Iterator[None]:
    """Fill the result, part by part; yields whenever there is something new."""
    work = workload.load()
    name = names[-1]  # the last is the fastest at small batches
    if "same-updates" in options.parts:
        updates = SAME_UPDATES if options.full else _affordable_updates(name, work)
        result["same_updates"] = []
        with _progress("same updates", 2) as bar:
            for record in measure.same_updates(name, work, updates):
                result["same_updates"].append(record)
                bar.update()
                yield
    if "batch-accuracy" in options.parts:
        result["batch_accuracy"] = []
        with _progress("batch accuracy", len(ACCURACY_BATCH_SIZES)) as bar:
            for batch_size in ACCURACY_BATCH_SIZES:
                bar.set_postfix_str(f"batch size {batch_size}")
                result["batch_accuracy"].append(measure.batch_accuracy(name, batch_size, work, ACCURACY_EPOCHS))
                bar.update()
                yield
    if "why" in options.parts:
        result["why"] = measure.why(name, work)
        yield
    if "speed" in options.parts:
        yield from _measure_speed(names, device, options, work, result)


def _measure_speed(
    names: list[str], device: str, options: argparse.Namespace, work: workload.Workload, result: dict[str, Any]
) -> Iterator[None]:
    """Every engine, then every peer on as many updates, at every batch size."""
    scripts = [script for peer in options.peers for script in PEERS[peer]]
    records, unavailable = result.setdefault("speed", []), result.setdefault("unavailable", [])
    steps = len(options.batch_sizes) * (len(names) + len(scripts))
    with tempfile.TemporaryDirectory() as folder, _progress("speed", steps) as bar:
        data = Path(folder) / "work.npz"
        if scripts:
            work.save(data)
        for batch_size in options.batch_sizes:
            for name in names:
                bar.set_postfix_str(f"{name}, batch size {batch_size}")
                records.append(measure.speed(name, batch_size, work, options.full))
                bar.update()
                yield
            timed = records[-1]
            check = (timed["check_updates"], timed["check_loss"])
            for script in scripts:
                bar.set_postfix_str(f"{script}, batch size {batch_size}")
                updates, repeats = timed["updates_timed"], len(timed["seconds"])
                outcome = run_peer(script, data, device, batch_size, updates, repeats, check)
                (unavailable if "unavailable" in outcome else records).append(outcome)
                bar.update()
                yield


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = commandline.Parser(prog=PROGRAM, description="The lecture's experiment on batch size, on this machine.")
    add = parser.add_argument
    add("--device", choices=engines.DEVICES, default="auto", help="where to compute (auto)")
    add("--engine", choices=engines.ENGINES, default="auto", help="one engine (all that run on the device)")
    add("--batch-sizes", type=_sizes, default=BATCH_SIZES, metavar="N,N,...", help="for the speed (1,10,...,10000)")
    add("--peers", type=_peers, default=(), metavar="NAMES", help=f"of {','.join(PEERS)}, to time beside (none)")
    add("--parts", type=_parts, default=PARTS, metavar="NAMES", help=f"of {','.join(PARTS)} (all)")
    add("--full", action="store_true", help="time whole epochs, however long they take")
    add("--out", default=str(RESULTS), metavar="FOLDER", help="for the files (bench/results)")
    return parser.parse_args(argv)


def _engine_names(options: argparse.Namespace) -> list[str]:
    engines.check_device(options.device, options.engine)
    if options.engine != "auto":
        return [options.engine]
    chosen = engines.choose(workload.NETWORK, 1, options.device)
    print(f"device  {chosen.reason}", flush=True)
    device = engines.DEVICE_OF[chosen.engine]
    return [name for name, where in engines.DEVICE_OF.items() if where == device]


def _affordable_updates(name: str, work: workload.Workload) -> int:
    """SAME_UPDATES, or the thousands of them that PATIENCE_SECONDS allow for."""
    us = measure.speed(name, 10, work, full=False)["us_per_update"]
    return max(1_000, min(SAME_UPDATES, int(1e6 * PATIENCE_SECONDS / us) // 1_000 * 1_000))


def _progress(what: str, steps: int) -> tqdm:
    return tqdm(total=steps, desc=what, unit=" steps", dynamic_ncols=True, leave=False)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(sorted({commandline.whole_number(part) for part in text.split(",")}))
    for size in sizes:
        if workload.EXAMPLES % size:  # whole batches only, so that every engine and peer does the same work
            raise argparse.ArgumentTypeError(f"expected divisors of {workload.EXAMPLES}, got {size}")
    return sizes


def _peers(text: str) -> tuple[str, ...]:
    return _names(text, PEERS)


def _parts(text: str) -> tuple[str, ...]:
    return _names(text, PARTS)


def _names(text: str, known: Sequence[str] | dict[str, Any]) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"expected names of {', '.join(known)}; got {name!r}")
    return names


if __name__ == "__main__":
    sys.exit(main())
