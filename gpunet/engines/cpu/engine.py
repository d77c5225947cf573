"""The engine for CPUs: fused like the CUDA kernels, on all cores, with no Python between updates. See docs/cpu.md.

This file holds the network's weights and runs epochs. layout.py has the layout of arrays in memory, loops.py what
threads execute, workers.py how they are started and stopped.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunet import threads
from gpunet.engines import dropout
from gpunet.engines.base import FORWARD_ROWS, Array, Engine, EpochStatistics, OptimizerState, Progress, on_host
from gpunet.engines.cpu import compiler, drop, layout, vectors, waiting
from gpunet.engines.cpu.formulas import ACTIVATIONS, EXPONENTIALS, RULES, TIMES, constants_of
from gpunet.engines.cpu.layout import Floats, Plan, Work, aligned, from_panels, padded, to_panels
from gpunet.engines.cpu.vectors import VectorFunction
from gpunet.engines.cpu.workers import Pace, run_aside, run_on_threads
from gpunet.engines.reference import softmax, softmax_cross_entropy
from gpunet.engines.weighted import Weighted, without_weights
from gpunet.errors import TrainingDivergedError
from gpunet.layers import Network
from gpunet.optimizers import Optimizer

FIRST_PATIENCE = 4000  # polls of a counter, at first; loops.py adapts it
# Two threads are faster than one from about this much work per update, in multiply-adds; measured on two cores. The
# optimizer's step on a weight counts as STEP_WORK of them.
WORK_OF_A_THREAD, STEP_WORK = 1_500_000, 12


class Job(NamedTuple):
    """What the threads do in an epoch: whether they train, the largest batch, and how many threads there are."""

    training: bool
    batch_size: int
    threads: int

    @property
    def loop(self) -> str:
        return "one_by_one" if self.training and self.batch_size == 1 else "in_batches"


class CompiledEngine(Engine):
    """See Engine. threads: use at most this many cores; by default all that the process may use."""

    name: ClassVar[str] = "compiled"

    def __init__(
        self, network: Network, optimizer: Optimizer, weights: Sequence[Floats], threads: int | None = None
    ) -> None:
        self._most_threads = threads
        self._inferring = threading.Lock()
        super().__init__(network, optimizer, weights)

    def _allocate(self) -> None:
        self._plans: dict[bool, tuple[Job, Plan, Pace]] = {}  # the last one for training, and the last one for the rest
        sizes = [(inputs + 1) * padded(units) for inputs, units in self.network.sizes]
        self._starts = [int(start) for start in np.cumsum([0, *sizes])]
        self._arrays = {name: aligned(self._starts[-1]) for name in ("weights", *self._slots)}
        self._updates = 0

    def _get_weights(self) -> list[Floats]:
        return self._unpacked(self._arrays["weights"])

    def _set_weights(self, weights: Sequence[Floats]) -> None:
        self._pack(weights, self._arrays["weights"])

    def _get_state(self) -> OptimizerState:
        return OptimizerState(self._updates, {slot: self._unpacked(self._arrays[slot]) for slot in self._slots})

    def _set_state(self, state: OptimizerState) -> None:
        for slot in self._slots:
            self._pack(state.slots[slot], self._arrays[slot])
        self._updates = state.updates

    def _back_up(self) -> None:
        self._backup = {name: array.copy() for name, array in self._arrays.items()}, self._updates

    def _restore(self) -> None:
        arrays, self._updates = self._backup
        for name, array in arrays.items():
            self._arrays[name][:] = array

    def _pack(self, arrays: Sequence[Floats], vector: NDArray[np.float32]) -> None:
        for layer, start in enumerate(self._starts[:-1]):
            panels = to_panels(np.vstack([arrays[2 * layer], arrays[2 * layer + 1]]))
            vector[start : start + panels.size] = panels

    def _unpacked(self, vector: NDArray[np.float32]) -> list[Floats]:
        result: list[Floats] = []
        for (inputs, units), start in zip(self.network.sizes, self._starts, strict=False):
            matrix = from_panels(vector[start:], inputs + 1, units)
            result += [matrix[:inputs], matrix[inputs].copy()]
        return result

    def _upload(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(on_host(array))

    def prepare(
        self,
        images: NDArray[Any],
        labels: Array,
        examples: int,
        batch_size: int,
        validation: tuple[NDArray[Any], Array] | None = None,
    ) -> None:
        compile_loops(self.network, self.optimizer.rule, self._job(True, batch_size).loop)

    def release(self) -> None:
        with self._inferring:
            self._plans.clear()  # the workspace of a large batch is larger than the network

    def _train_epoch(
        self, images: NDArray[Any], labels: Array, order: NDArray[np.int32], batch_size: int, progress: Progress
    ) -> EpochStatistics:
        work, seconds = self._run(self._job(True, batch_size), images, labels, order, progress)
        bad = ~np.isfinite(work.losses)
        if bad.any():
            raise TrainingDivergedError(int(bad.argmax()) // batch_size + 1)
        updates = -(-len(order) // batch_size)
        self._updates += updates
        progress(updates)
        loss = float(work.losses.mean(dtype=np.float64))
        return EpochStatistics(loss, float(work.correct.mean()), updates, seconds)

    @np.errstate(all="ignore")
    def predict(self, images: NDArray[Any]) -> Floats:
        return softmax(self._logits(images))

    @np.errstate(all="ignore")
    def evaluate(self, images: NDArray[Any], labels: Array) -> tuple[float, float]:
        losses, correct, _ = softmax_cross_entropy(self._logits(images), labels)
        return float(losses.mean(dtype=np.float64)), correct / len(images)

    def _logits(self, images: NDArray[Any]) -> Floats:
        order = np.arange(len(images), dtype=np.int32)
        job = self._job(False, min(FORWARD_ROWS, len(images)))
        with self._inferring:  # a plan's workspace serves one thread at a time; several may call predict
            work, _ = self._run(job, self.upload(images), np.zeros(0, np.int32), order, lambda updates: None)
        return work.logits

    def _job(self, training: bool, batch_size: int) -> Job:
        useful = 1 + self.network.parameters * (batch_size + STEP_WORK) // WORK_OF_A_THREAD
        return Job(training, batch_size, min(self._most_threads or threads.count(), useful))

    def _run(
        self, job: Job, images: NDArray[Any], labels: Array, order: NDArray[np.int32], progress: Progress
    ) -> tuple[Work, float]:
        """Run a job's loop over all examples of an order; returns its results and the seconds it took."""
        compile_loops(self.network, self.optimizer.rule, job.loop)
        plan, pace = self._planned(job)
        work = self._work(job, plan, images, labels, order)
        started = time.perf_counter()
        run_on_threads(compiler.loop(job.loop), work, job.threads, progress, pace)
        return work, time.perf_counter() - started

    def _planned(self, job: Job) -> tuple[Plan, Pace]:
        """The plan for a job, and its pace. The last ones are kept, so that their memory is warm."""
        previous, plan, pace = self._plans.get(job.training, (None, None, None))
        if previous != job or plan is None or pace is None:
            self._plans.pop(job.training, None)  # frees its memory before the next one takes some
            stages = (
                layout.opening_and_stages_one_by_one(self.network)
                if job.loop == "one_by_one"
                else layout.opening_and_stages_in_batches(self.network.layers, job.training)
            )
            plan, pace = (
                layout.lay_out(self.network, self._starts, job.batch_size, job.threads, stages, job.training),
                Pace(job.threads),
            )
            self._plans[job.training] = job, plan, pace
        return plan, pace

    def _work(self, job: Job, plan: Plan, images: NDArray[Any], labels: Array, order: NDArray[np.int32]) -> Work:
        """Everything that the threads share during one epoch."""
        table = plan.table
        updates = -(-len(order) // job.batch_size)
        weights_of_examples = labels.weights if isinstance(labels, Weighted) else None
        labels = without_weights(labels)
        in_bytes, one_hot = images.dtype == np.uint8, labels.ndim == 2
        sync = aligned(2 * layout.sync_size(job.threads)).view(np.int64)
        sync[layout.PATIENCE :: 16] = FIRST_PATIENCE
        weights, slot_1, slot_2 = [*self._arrays.values(), *[self._arrays["weights"]] * (2 - len(self._slots))]
        losses, correct = np.zeros(len(order), np.float32), np.zeros(len(order), np.uint8)
        logits = np.zeros((0 if job.training else len(order), self.network.classes), np.float32)
        entries = {
            layout.BATCH: job.batch_size,
            layout.EXAMPLES: len(order),
            layout.UPDATES: updates,
            layout.PHASES: int(table[layout.OPENING] + updates * table[layout.STAGES]),
            layout.IN_BYTES: in_bytes,
            layout.ONE_HOT: one_hot,
            layout.WEIGHTS: weights,
            layout.SLOT_1: slot_1,
            layout.SLOT_2: slot_2,
            layout.ALIVE: self._moving_inputs(),
            layout.AWAKE_ROWS: np.zeros(self.network.inputs + 1, np.int32),
            layout.BYTES: images,
            layout.FLOATS: images,
            layout.ORDER: np.require(order, np.int32, ["C"]),
            layout.CLASSES: labels.argmax(axis=1).astype(np.int32) if one_hot else labels,
            layout.TARGETS: labels,
            layout.WEIGHTED: weights_of_examples is not None,
            layout.EXAMPLE_WEIGHTS: losses if weights_of_examples is None else weights_of_examples,
            layout.CONSTANTS: constants_of(self.optimizer, self._updates, updates, self.network.twice_l2),
            layout.SETS: 1 + len(self.network.l2),
            layout.DROPS: dropout.table(self.network, self._key),
            layout.LOSSES: losses,
            layout.CORRECT: correct,
            layout.LOGITS: logits,
            layout.SYNC: sync,
            layout.NAP_NANOSECONDS: waiting.NAP_MILLISECONDS * 1_000_000,
        }
        layout.set_entries(table, entries)
        self._set_functions(table)
        return Work(table, sync, losses, correct, logits, [plan, *entries.values()])

    def _set_functions(self, table: NDArray[np.int64]) -> None:
        rule = RULES[self.optimizer.rule, bool(self.network.l2)]
        functions = {layout.STEP: rule.step, layout.BACKWARD: rule.backward, layout.FORWARD: rule.forward}
        functions.update(SHARED_FUNCTIONS)
        if self.network.dropout:
            functions.update(DROPOUT_FUNCTIONS)
        for layer, name in enumerate(self.network.functions):
            row = layout.LAYER_TABLE + layer * layout.LAYER_COLUMNS
            functions[row + layout.ACTIVATE] = ACTIVATIONS[name].rows
            functions[row + layout.OWN_SLOPES] = ACTIVATIONS[name].slopes
            functions[row + layout.SLOPES] = TIMES if table[row + layout.DROPPED] else ACTIVATIONS[name].slopes
        table[list(functions)] = [compiler.address(function) for function in functions.values()]
        table[[layout.WAIT, layout.WAKE]] = waiting.addresses()

    def _moving_inputs(self) -> NDArray[np.uint8]:
        """1 for each row of the first layer's weights that moves even without a gradient, and for the bias."""
        inputs, units = self.network.sizes[0]
        if not self.optimizer.rests or (self.network.l2 and self.network.l2[0]):
            return np.ones(inputs + 1, np.uint8)
        moving = np.zeros(inputs + 1, np.uint8)
        moving[inputs] = 1
        for slot in self._slots:
            moving |= from_panels(self._arrays[slot], inputs + 1, units).any(axis=1)
        return moving


SHARED_FUNCTIONS: dict[int, VectorFunction] = {
    layout.ROWS: vectors.PRODUCT_OF_ROWS,
    layout.COLUMNS: vectors.PRODUCT_OF_COLUMNS,
    layout.EXP: EXPONENTIALS,
    layout.COPY: ACTIVATIONS["linear"].rows,
    layout.TRANSPOSE: vectors.TRANSPOSE,
    layout.SUM_PANELS: vectors.SUMS_OVER_PANELS,
}

DROPOUT_FUNCTIONS: dict[int, VectorFunction] = {layout.DROP: drop.DROP, layout.TIMES: TIMES}


def compile_loops(network: Network, rule: str, *loops: str) -> None:
    """Compile what loops need for a network and an optimizer's rule, or load it from the cache. Default: all loops.

    Prints a line to stderr before it compiles. Ctrl-C is raised when the function that is being compiled is done.
    """
    needed = [*SHARED_FUNCTIONS.values(), *RULES[rule, bool(network.l2)]]
    if network.dropout:
        needed += DROPOUT_FUNCTIONS.values()
    for activation in network.functions:
        needed += ACTIVATIONS[activation]
    loops = loops or ("in_batches", "one_by_one")
    if not compiler.has(needed, loops):
        run_aside(functools.partial(compiler.compile_all, needed, loops))
