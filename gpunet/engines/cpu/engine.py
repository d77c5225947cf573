"""The engine for CPUs: fused as the CUDA kernels are, on all cores, with no Python between updates. See docs/cpu.md.

This file places what the threads work on, starts them and waits for them; what they do is in loops.py.
"""

from __future__ import annotations

import _thread
import contextlib
import ctypes
import functools
import sys
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, ClassVar, get_args, get_type_hints

import numba
import numpy as np
from numpy.typing import NDArray

from gpunet import threads
from gpunet.engines.base import Engine, EpochStatistics, OptimizerState, Progress, on_host
from gpunet.engines.cpu import loops as loops
from gpunet.engines.cpu import vectors as vectors
from gpunet.engines.cpu.loops import WIDE, Work
from gpunet.engines.cpu.vectors import LANES, MOST_CONSTANTS, TILE_ROWS, CFunction
from gpunet.engines.reference import softmax, softmax_cross_entropy
from gpunet.errors import DeviceError, TrainingDivergedError
from gpunet.layers import Network
from gpunet.optimizers import Optimizer

Floats = NDArray[np.floating]
Plan = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]  # table, sizes and room of a Work

FORWARD_ROWS = 1008  # rows of examples at a time in predict and evaluate
AIR_SECONDS = 0.05  # how often the main thread looks at the progress, and for Ctrl-C
LINE = 16  # floats in a cache line
# Two threads beat one where an update has about this much to do, in multiply-adds; measured on two cores. The
# optimizer's step on a weight counts as STEP_WORK of them.
WORK_OF_A_THREAD, STEP_WORK = 1_500_000, 12


class CompiledEngine(Engine):
    """See Engine. threads: at most so many cores; all that the process may use if not given."""

    name: ClassVar[str] = "compiled"

    def __init__(
        self, network: Network, optimizer: Optimizer, weights: Sequence[Floats], threads: int | None = None
    ) -> None:
        self._most_threads = threads
        self._inferring = threading.Lock()
        super().__init__(network, optimizer, weights)

    def _allocate(self) -> None:
        self._plans: dict[str, tuple[tuple[int, int], Plan]] = {}
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

    def place(self, array: NDArray[Any]) -> NDArray[Any]:
        return unprotected(np.ascontiguousarray(on_host(array)))

    def prepare(self, images: NDArray[Any], labels: NDArray[Any], examples: int, batch_size: int) -> None:
        compile_loops(self.network, self.optimizer.rule)

    def _train_epoch(
        self, images: NDArray[Any], labels: NDArray[Any], order: NDArray[np.int32], batch_size: int, progress: Progress
    ) -> EpochStatistics:
        compile_loops(self.network, self.optimizer.rule)
        count = self._threads(batch_size)
        work = self._work("train", images, labels, order, batch_size, count)
        started = time.perf_counter()
        loop = loops.train_one_by_one if batch_size == 1 else loops.train_in_batches
        run_on_threads(loop, work, count, progress)
        seconds = time.perf_counter() - started
        bad = ~np.isfinite(work.losses)
        if bad.any():
            raise TrainingDivergedError(int(bad.argmax()) // batch_size + 1)
        self._updates += len(work.steps)
        progress(len(work.steps))
        loss = float(work.losses.mean(dtype=np.float64))
        return EpochStatistics(loss, float(work.hits.mean()), len(work.steps), seconds)

    @np.errstate(all="ignore")
    def predict(self, images: NDArray[Any]) -> Floats:
        return softmax(self._logits(images))

    @np.errstate(all="ignore")
    def evaluate(self, images: NDArray[Any], labels: NDArray[Any]) -> tuple[float, float]:
        losses, correct, _ = softmax_cross_entropy(self._logits(images), labels)
        return float(losses.mean(dtype=np.float64)), correct / len(images)

    def _logits(self, images: NDArray[Any]) -> Floats:
        compile_loops(self.network, self.optimizer.rule)
        order, batch_size = np.arange(len(images), dtype=np.int32), min(FORWARD_ROWS, len(images))
        count = self._threads(batch_size)
        # A batch of one is laid out for training on single examples, so there are two.
        no_labels = np.zeros(0, np.int32)
        with self._inferring:  # a plan's room serves one at a time, and predict may be called from several threads
            work = self._work("infer", self.place(images), no_labels, order, max(2, batch_size), count)
            work = work._replace(logits=np.zeros((len(images), self.network.classes), np.float32))
            run_on_threads(loops.infer, work, count, lambda updates: None)
        return work.logits

    def _threads(self, batch_size: int) -> int:
        useful = 1 + self.network.parameters * (batch_size + STEP_WORK) // WORK_OF_A_THREAD
        return min(self._most_threads or threads.count(), useful)

    def _plan(self, purpose: str, batch_size: int, count: int) -> Plan:
        """The plan for batches of that size; the last one of each purpose is kept, so that its memory is warm."""
        size, plan = self._plans.get(purpose, (None, None))
        if size != (batch_size, count) or plan is None:
            self._plans.pop(purpose, None)  # frees its memory before the next one takes some
            plan = lay_out(self.network, self._starts, batch_size, count)
            self._plans[purpose] = (batch_size, count), plan
        return plan

    def _work(
        self,
        purpose: str,
        images: NDArray[Any],
        labels: NDArray[Any],
        order: NDArray[np.int32],
        batch_size: int,
        count: int,
    ) -> Work:
        """Everything the threads share for one epoch."""
        table, sizes, room = self._plan(purpose, batch_size, count)
        arrays = [*self._arrays.values(), *[self._arrays["weights"]] * (2 - len(self._slots))]
        widest = max(self.network.widths[:-1]) + 1
        no_matrix = np.zeros((0, 0), np.float32)
        in_bytes, one_hot = images.dtype == np.uint8, labels.ndim == 2
        updates = -(-len(order) // batch_size)
        sizes[loops.LAYERS], sizes[loops.BATCH], sizes[loops.EXAMPLES] = self.network.layers, batch_size, len(order)
        sizes[loops.UPDATES], sizes[loops.WIDEST] = updates, widest
        sizes[loops.IN_BYTES], sizes[loops.ONE_HOT] = in_bytes, one_hot
        return Work(
            table=table,
            sizes=sizes,
            functions=np.array([*[f.address for f in functions_of(self.optimizer.rule)], yield_address()], np.int64),
            weights=arrays[0],
            slot_1=arrays[1],
            slot_2=arrays[2],
            room=room,
            alive=np.tile(self._moving_inputs(), (count, 1)) if batch_size == 1 else np.zeros((0, 0), np.uint8),
            rows=np.tile(np.arange(widest, dtype=np.int32), (count + 1, 1)),
            images_bytes=images if in_bytes else np.zeros((0, 0), np.uint8),
            images_floats=no_matrix if in_bytes else images,
            order=np.require(order, np.int32, ["C", "W"]),
            classes=labels.argmax(axis=1).astype(np.int32) if one_hot else labels,
            targets=labels if one_hot else no_matrix,
            steps=constants_of(self.optimizer, self._updates, updates),
            losses=np.zeros(len(order), np.float32),
            hits=np.zeros(len(order), np.uint8),
            logits=no_matrix,
            sync=aligned(2 * loops.SYNC_SIZE).view(np.int64),
        )

    def _moving_inputs(self) -> NDArray[np.uint8]:
        """1 for each row of the first layer's weights that has a slot other than 0, and for the bias."""
        inputs, units = self.network.sizes[0]
        moving = np.zeros(inputs + 1, np.uint8)
        moving[inputs] = 1
        for slot in self._slots:
            moving |= from_panels(self._arrays[slot], inputs + 1, units).any(axis=1)
        return moving


def lay_out(network: Network, starts: Sequence[int], batch_size: int, count: int) -> Plan:
    """Where in `room` things are for batches up to a size, and ones for the biases."""
    used = 0

    def take(floats: int) -> int:
        nonlocal used
        start = used
        used += -(-floats // LINE) * LINE + LINE  # a line more: rows of a power of two would share few cache sets
        return start

    table = np.zeros((network.layers, loops.TABLE_COLUMNS), np.int64)
    sizes = np.zeros(loops.SIZES, np.int64)
    ones: list[tuple[int, int, int]] = []  # (start, stride, number)
    stride = row_stride(network.inputs)
    buffers = 2 * count if batch_size == 1 else 2
    x, sizes[loops.X_BUFFER] = take(buffers * batch_size * stride), batch_size * stride
    ones.append((x + network.inputs, stride, buffers * batch_size))
    for layer, (inputs, units) in enumerate(network.sizes):
        activation = network.activations[layer]
        row = table[layer]
        row[loops.INPUTS], row[loops.UNITS] = inputs, units
        row[loops.ACTIVATE], row[loops.SLOPES] = [function.address for function in activation_functions(activation)]
        row[loops.WEIGHTS] = starts[layer]
        row[loops.X], row[loops.X_STRIDE] = x, stride
        stride = row_stride(units)
        x = take(batch_size * stride)
        row[loops.Y], row[loops.Y_STRIDE] = x, stride
        ones.append((x + units, stride, batch_size))
        row[loops.DZ] = take(batch_size * padded(units))
        row[loops.DZ_TRANSPOSED] = take(-(-batch_size // LANES) * LANES * units)
        row[loops.PARTIALS] = take(count * (inputs + 1) * LANES if batch_size == 1 else 0)
    sizes[loops.Z] = take(padded(network.sizes[0][1]))
    scratch = max(TILE_ROWS * WIDE, 2 * LANES * LANES, padded(network.classes)) + LINE
    sizes[loops.SCRATCH_SIZE] = -(-scratch // LINE) * LINE
    sizes[loops.SCRATCH] = take(count * int(sizes[loops.SCRATCH_SIZE]))
    room = aligned(used)
    for start, step, number in ones:
        room[start : start + step * number : step] = 1
    return table, sizes, room


def constants_of(optimizer: Optimizer, updates_before: int, updates: int) -> NDArray[np.float32]:
    """(updates, MOST_CONSTANTS): what the steps in vectors.py take, in their order, for each update."""
    constants = optimizer.constants(updates_before + 1 + np.arange(updates))
    return np.pad(constants, ((0, 0), (0, MOST_CONSTANTS - constants.shape[1])))


def run_on_threads(loop: Callable[..., None], work: Work, count: int, progress: Progress) -> None:
    """Run a loop on so many threads until all are done, coming up for air now and then.

    Whatever ends the wait, such as Ctrl-C, ends the threads too: when this returns or raises, none is running. Ctrl-C
    may come at any moment, so nothing here waits with a lock of Python's library, which it could leave taken for ever.
    """
    outcomes: list[BaseException | None] = []
    bell: SimpleQueue[None] = SimpleQueue()

    def run(thread: int) -> None:
        outcome: BaseException | None = None
        try:
            loop(work, thread, count)
        except BaseException as error:  # the others would wait for this one
            work.sync[loops.STOP], outcome = 1, error
        outcomes.append(outcome)
        bell.put(None)

    started = 0
    try:
        for thread in range(count):
            _thread.start_new_thread(run, (thread,))
            started += 1
        while len(outcomes) < count:
            try:
                bell.get(timeout=AIR_SECONDS)
            except Empty:
                progress(int(work.sync[loops.DONE]))
    except BaseException:
        _stop_in_any_case(work, outcomes, started)
        raise
    for error in outcomes:
        if error is not None:
            raise error


def _stop_in_any_case(work: Work, outcomes: Sequence[BaseException | None], started: int) -> None:
    """Nobody may touch the weights before the threads have ended; a second Ctrl-C does not change that."""
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            work.sync[loops.STOP] = 1  # seen at the next meeting
            while len(outcomes) < started:
                time.sleep(0.001)
            return


def functions_of(optimizer: str) -> list[CFunction]:
    """The C functions for an optimizer of that name, in the order of Work.functions."""
    products = (vectors.product_of_rows, vectors.product_of_columns)
    return [*products, *vectors.OPTIMIZERS[optimizer], vectors.exp_rows, vectors.linear_rows, vectors.transpose]


def activation_functions(activation: str) -> tuple[CFunction, CFunction]:
    """An activation's C functions; softmax is the loss's, and linear here."""
    return vectors.ACTIVATIONS["linear" if activation == "softmax" else activation]


MATRICES = {"table", "alive", "rows", "images_bytes", "images_floats", "targets", "steps", "logits"}
WORK_TYPE = numba.typeof(
    Work(
        **{
            name: np.zeros((0, 0) if name in MATRICES else 0, get_args(get_args(hint)[1])[0])
            for name, hint in get_type_hints(Work).items()
        }
    )
)
compiling = threading.Lock()


def compile_loops(network: Network, optimizer: str) -> None:
    """Compile what a network and an optimizer need, or load it from disk. Says so where it has to compile.

    Raises DeviceError where the folder of Numba's cache is full.
    """
    try:
        _compile_loops(network, optimizer)
    except OSError as error:
        raise DeviceError(
            f"engine compiled: what was compiled cannot be kept in Numba's cache folder ({error.strerror}); make room "
            "there, or name another folder in NUMBA_CACHE_DIR"
        ) from error


def _compile_loops(network: Network, optimizer: str) -> None:
    with compiling:
        needed = [*functions_of(optimizer)]
        for activation in network.activations:
            needed += activation_functions(activation)
        for function in needed:
            if not function.compile():
                _announce_once()
        for loop in (loops.train_in_batches, loops.train_one_by_one, loops.infer):
            if not loop.signatures:
                loop.compile((WORK_TYPE, numba.int64, numba.int64))
                if not loop.stats.cache_hits:
                    _announce_once()


@functools.cache
def _announce_once() -> None:
    print("compiling for this processor, first run only", file=sys.stderr, flush=True)


def yield_address() -> int:
    """The address of a C function that lets another thread have the core."""
    if sys.platform == "win32":
        return int(ctypes.cast(ctypes.windll.kernel32.SwitchToThread, ctypes.c_void_p).value or 0)
    return int(ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0)


class _Memory:
    """An array's memory, as one that may be written to."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array  # which is kept for as long as this is
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def unprotected(array: NDArray[Any]) -> NDArray[Any]:
    """The array, or one over the same memory if it is read-only: the loops are compiled for arrays that are not.

    They only read examples and targets; a copy would take as much memory again, and all of a file that is mapped.
    """
    return array if array.flags.writeable else np.asarray(_Memory(array))


def aligned(floats: int) -> NDArray[np.float32]:
    """Zeros that begin at a cache line."""
    room = np.zeros(floats + LINE, np.float32)
    first = -(room.ctypes.data // room.itemsize) % LINE
    return room[first : first + floats]


def padded(columns: int) -> int:
    """Columns as panels keep them: whole panels of WIDE, and one of LANES if that is enough for the rest."""
    whole, rest = divmod(columns, WIDE)
    return whole * WIDE + (0 if rest == 0 else LANES if rest <= LANES else WIDE)


def row_stride(columns: int) -> int:
    """Floats from one row to the next where a column of ones follows: an odd number of cache lines."""
    lines = -(-(columns + 1) // LINE)
    return LINE * (lines | 1)


def to_panels(matrix: Floats) -> NDArray[np.float32]:
    """A matrix, panel after panel (see vectors.py), as one vector."""
    rows, columns = matrix.shape
    wide = np.zeros((rows, padded(columns)), np.float32)
    wide[:, :columns] = matrix
    whole = columns // WIDE * WIDE if padded(columns) % WIDE else padded(columns)
    panels = wide[:, :whole].reshape(rows, -1, WIDE).transpose(1, 0, 2)
    return np.concatenate([panels.ravel(), wide[:, whole:].ravel()])


def from_panels(vector: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """The reverse of `to_panels`; vector may be longer."""
    width = padded(columns)
    whole = width // WIDE * WIDE
    left = vector[: rows * whole].reshape(-1, rows, WIDE).transpose(1, 0, 2).reshape(rows, whole)
    right = vector[rows * whole : rows * width].reshape(rows, width - whole)
    return np.ascontiguousarray(np.hstack([left, right])[:, :columns])
