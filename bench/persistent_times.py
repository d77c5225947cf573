"""`python bench/persistent_times.py`: times the variants that decide the persistent engine's design, on the GPU.

Prints one JSON object per line, the most important first, so that stopping it loses nothing that was printed.

It times an update of the lecture's network as it is; with each phase left out, or made twice (kernels/phases.cuh); with
nothing but its exchanges, every thread polling; with other numbers of threads; and with other arrays in shared memory.
Needs a GPU.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from gpunet import commandline, engines
from gpunet.engines.cuda.device import Device
from gpunet.engines.cuda.persistent import PersistentEngine
from gpunet.engines.cuda.persistent_plan import Plan
from gpunet.errors import DeviceError, TrainingDivergedError
from harness import workload
from harness.records import tell, why

PROGRAM = "persistent_times.py"
BATCH_SIZES = (1, 10)
EXAMPLES = 10_000  # per epoch: at least 50 ms, while compiling each variant takes a second
SAMPLES = 5
PHASES = ("FORWARD", "LOSS", "BACKWARD", "STEPS", "STAGE")
THREADS = (128, 256, 384, 512)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (see gpunet.commandline). Prints one JSON object per line."""
    return commandline.run(PROGRAM, _persistent_times, argv)


def _persistent_times(argv: Sequence[str] | None) -> int:
    parser = commandline.Parser(prog=PROGRAM, description="Time the phases of the persistent engine on the GPU.")
    parser.parse_args(argv)
    engines.check_device("cuda", "persistent")
    for record in measure(engines.cuda_device()):
        tell(record)
    return commandline.DONE


def measure(
    device: Device, batch_sizes: Sequence[int] = BATCH_SIZES, examples: int = EXAMPLES
) -> Iterator[dict[str, Any]]:
    """A record for each variant and batch size: us per update and its samples, or why it did not run."""
    work = workload.load()
    for name, adjust in variants():
        for batch_size in batch_sizes:
            record = {"batch_size": batch_size, "variant": name}
            try:
                yield record | _variant(device, work, batch_size, examples, adjust)
            except DeviceError as error:
                yield record | {"unavailable": str(error)}
            except Exception as error:  # other variants may work
                yield record | {"unavailable": why(error)}


def variants() -> Iterator[tuple[str, Callable[[Plan], Plan]]]:
    """The variants' names, and what each changes in the plan."""
    yield "as planned", lambda plan: plan
    yield "exchanges alone", _with(**{f"{phase}_TIMES": 0 for phase in PHASES})
    yield "without waiting", _with(WAIT_TIMES=0)
    for phase in PHASES:
        yield f"without {phase.lower()}", _with(**{f"{phase}_TIMES": 0})
        yield f"{phase.lower()} twice", _with(**{f"{phase}_TIMES": 2})
    yield "weights between hidden layers once", _once
    for threads in THREADS:
        yield f"{threads} threads", lambda plan, threads=threads: replace(plan, threads=threads)
    for arrays in range(4):
        yield f"{arrays} arrays of the output layer in shared memory", _output_in_shared(arrays)
    yield "inputs not staged", lambda plan: replace(plan, staged=False)


def _with(**extra: int) -> Callable[[Plan], Plan]:
    return lambda plan: replace(plan, extra=tuple(extra.items()))


def _once(plan: Plan) -> Plan:
    """With weights between hidden layers in one block instead of two; what lies in shared memory stays there."""
    return replace(plan, twice=False, in_shared=plan.in_shared[: plan.hidden + 1])


def _output_in_shared(arrays: int) -> Callable[[Plan], Plan]:
    def adjust(plan: Plan) -> Plan:
        in_shared = (arrays if number == plan.hidden else count for number, count in enumerate(plan.in_shared))
        return replace(plan, in_shared=tuple(in_shared))

    return adjust


def _variant(
    device: Device, work: workload.Workload, batch_size: int, examples: int, adjust: Callable[[Plan], Plan]
) -> dict[str, Any]:
    engine = PersistentEngine(workload.NETWORK, workload.optimizer(), work.weights, device, adjust=adjust)
    uploaded, order = (engine.upload(work.images), engine.upload(work.labels)), work.order[:examples]
    engine.prepare(*uploaded, examples, batch_size)
    _epoch(engine, uploaded, order, batch_size)  # warm-up
    seconds = [_epoch(engine, uploaded, order, batch_size) for _ in range(SAMPLES)]
    updates = -(-examples // batch_size)
    return {"us": 1e6 * statistics.median(seconds) / updates, "samples": [1e6 * s / updates for s in seconds]}


def _epoch(engine: PersistentEngine, uploaded: tuple[Any, Any], order: Any, batch_size: int) -> float:
    """Wall-clock seconds. What is learned does not matter here, and without some phases it is NaN."""
    started = time.perf_counter()
    with contextlib.suppress(TrainingDivergedError):
        engine.train_epoch(*uploaded, order, batch_size)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
