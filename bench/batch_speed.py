"""`python bench/batch_speed.py`: the lecture's experiment on batch size, on this machine.

It tests four claims: an update with batch size 1 takes as long as one with batch size 10; at the same number of
updates, 10 is more stable and converges faster; too large a batch is worse; and batching is fast because of matrix
products. Writes everything to bench/results/<device>.json, with Markdown tables and figures beside it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from gpunet import commandline, engines
from harness import arguments, figures, files, first_layer, learning, machine, processes, tables, workload
from harness import passes as speed_passes
from harness.files import RESULTS
from harness.processes import PEERS

PROGRAM = "batch_speed.py"
BATCH_SIZES = (1, 10, 100, 1_000, 10_000)
ACCURACY_BATCH_SIZES = (10, 100, 1_000, 10_000, 50_000)
ACCURACY_EPOCHS = 5
SAME_UPDATES = 50_000
SAME_UPDATES_BATCH_SIZES = (1, 10)
PARTS = ("speed", "same-updates", "batch-accuracy", "why")
PATIENCE_SECONDS = 120  # for each half of the part on equal updates; slower machines make fewer updates and say so
SEEDS = (0, 1, 2, 3, 4)  # of the initial weights and the orders
SECONDS, SECONDS_WITH_PEERS = 570, 880  # for the whole run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline)."""
    return commandline.run(PROGRAM, _batch_speed, argv)


def _batch_speed(argv: Sequence[str] | None) -> int:
    options = parser().parse_args(argv)
    until = time.monotonic() + (options.seconds or (SECONDS_WITH_PEERS if options.peers else SECONDS))
    options.device = machine.only_gpu(options.device)
    engines.check_device(options.device, options.engine)
    chosen = engines.choose(workload.NETWORK, 1, options.device, options.engine)
    print(f"device  {chosen.reason}", flush=True)
    device = engines.DEVICE_OF[chosen.engine]
    out = files.folder(options.out)
    facts = machine.describe(device == "cuda")
    stem = out / file_stem(facts, options.parts)
    result: dict[str, Any] = {"machine": facts, "full": options.full}
    files.keep(stem, result, _measurements(device, options, result, until), facts["device"], tables.whole)
    try:
        for file in figures.draw(result, stem):
            print(f"written: {file}")
    except ImportError:
        print("no figures: matplotlib is not installed (pip install '.[bench]')")
    return commandline.DONE


def file_stem(facts: dict[str, str], parts: Sequence[str] = PARTS) -> str:
    """The name of the result files; a run of selected parts does not replace a full one."""
    return "-".join([machine.file_name(facts), *(parts if set(parts) != set(PARTS) else ())])


def _measurements(device: str, options: argparse.Namespace, result: dict[str, Any], until: float) -> Iterator[None]:
    """Fill the result, part by part; yields after every change."""
    work = workload.load()

    def engine(batch_size: int) -> str:
        """The engine that was asked for, or the one that a model would train with."""
        return engines.choose(workload.NETWORK, batch_size, device, options.engine).engine

    def records(part: str, batch_sizes: Sequence[int], make: Any) -> Iterator[None]:
        found = result[part] = []
        with _progress(part.replace("_", " "), len(batch_sizes)) as bar:
            for batch_size in batch_sizes:
                bar.set_postfix_str(f"batch size {batch_size}, {len(SEEDS)} seeds")
                found += make(engine(batch_size), batch_size)
                bar.update()
                yield

    if "same-updates" in options.parts:
        names = {batch_size: engine(batch_size) for batch_size in SAME_UPDATES_BATCH_SIZES}
        updates = SAME_UPDATES if options.full else _affordable_updates(names, work)
        yield from records(
            "same_updates",
            SAME_UPDATES_BATCH_SIZES,
            lambda name, batch_size: learning.same_updates(name, batch_size, work, updates, SEEDS),
        )
    if "batch-accuracy" in options.parts:
        yield from records(
            "batch_accuracy",
            ACCURACY_BATCH_SIZES,
            lambda name, batch_size: learning.batch_accuracy(name, batch_size, work, ACCURACY_EPOCHS, SEEDS),
        )
    if "why" in options.parts:
        result["why"] = first_layer.why(device, work)
        yield
    if "speed" in options.parts:
        yield from _measure_speed(device, options, work, result, until)


def _measure_speed(
    device: str, options: argparse.Namespace, work: workload.Workload, result: dict[str, Any], until: float
) -> Iterator[None]:
    """Time every engine of the device, or the one that was asked for, and every peer, in passes."""
    names = [name for name, where in engines.DEVICE_OF.items() if where == device and options.engine in ("auto", name)]
    ours = [processes.engine(name) for name in names]
    peers = [processes.Peer(script) for peer in options.peers for script in PEERS[peer]]
    with _progress("speed", speed_passes.PASSES * (len(ours) + len(peers))) as bar:
        for label, passes in speed_passes.measured(
            ours, peers, options.batch_sizes, device, options.full, work, lambda: until - time.monotonic()
        ):
            result["speed"], result["unavailable"] = passes.records, passes.unavailable
            result["passes"] = passes.log
            bar.set_postfix_str(f"{label} done")
            bar.update()
            yield


def parser() -> commandline.Parser:
    parser = commandline.Parser(prog=PROGRAM, description="The lecture's experiment on batch size, on this machine.")
    add = parser.add_argument
    add("--device", type=commandline.device, default="auto", help=f"where to compute: {engines.DEVICE_NAMES} (auto)")
    add("--engine", choices=engines.ENGINES, default="auto", help="time one engine (all that run on the device)")
    add(
        "--batch-sizes",
        type=arguments.sizes,
        default=BATCH_SIZES,
        metavar="N,N,...",
        help="batch sizes for the speed (1,10,...,10000)",
    )
    add(
        "--peers",
        type=arguments.peers,
        default=(),
        metavar="NAMES",
        help=f"other frameworks to time, of {','.join(PEERS)} (none)",
    )
    add("--parts", type=_parts, default=PARTS, metavar="NAMES", help=f"parts to run, of {','.join(PARTS)} (all)")
    add("--full", action="store_true", help="time whole epochs, however long they take")
    add("--seconds", type=arguments.seconds, help=f"time limit ({SECONDS}; {SECONDS_WITH_PEERS} with peers)")
    add("--out", default=str(RESULTS), metavar="FOLDER", help="write the files to FOLDER (bench/results)")
    return parser


def _affordable_updates(names: dict[int, str], work: workload.Workload) -> int:
    """SAME_UPDATES, or as many thousands as fit into PATIENCE_SECONDS if the seeds were trained one by one."""
    slowest = max(learning.seconds_an_update(name, batch_size, work) for batch_size, name in names.items())
    return max(1_000, min(SAME_UPDATES, int(PATIENCE_SECONDS / len(SEEDS) / slowest) // 1_000 * 1_000))


def _progress(what: str, steps: int) -> tqdm:
    return tqdm(total=steps, desc=what, unit=" steps", dynamic_ncols=True, leave=False)


def _parts(text: str) -> tuple[str, ...]:
    return arguments.names(text, PARTS)


if __name__ == "__main__":
    sys.exit(main())
