"""The layout of the compiled engine's arrays in memory: matrices in panels, the workspace, and the table of both.

The loops see one table of integers, `Work.table`: sizes, addresses of arrays and functions, then a row per layer, then
the stages of an update. This file names its columns. Offsets into the workspace are in floats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunet.engines.cpu.vectors import LANES, TILE_ROWS
from gpunet.layers import Network

Floats = NDArray[np.floating]
Stages = list[list[tuple[int, int]]]  # the parts of each stage: a kind of work, and a layer

WIDE = 2 * LANES  # columns of a panel; the last one may have LANES
LINE = 16  # floats in a cache line

# The table's first entries: sizes,
LAYERS, BATCH, EXAMPLES, UPDATES, WIDEST, IN_BYTES, ONE_HOT, X_BUFFER, SCRATCH, SCRATCH_SIZE, AWAKE = range(11)
OPENING, STAGES, PHASES, STAGE_TABLE = range(11, 15)
# functions,
ROWS, COLUMNS, EXP, COPY, TRANSPOSE, SUM_PANELS, STEP, BACKWARD, FORWARD, WAIT, WAKE = range(15, 26)
# and arrays.
WEIGHTS, SLOT_1, SLOT_2, WORKSPACE, ALIVE, AWAKE_ROWS, BYTES, FLOATS, ORDER, CLASSES, TARGETS = range(26, 37)
CONSTANTS, LOSSES, CORRECT, LOGITS, SYNC = range(37, 42)
NAP_SECONDS, NAP_NANOSECONDS = 42, 43  # how long a thread sleeps at most, in Linux' format
WEIGHTED, EXAMPLE_WEIGHTS = 44, 45  # whether examples have weights, and these
DROP, TIMES, DROPS = 47, 48, 49  # dropout's functions, and each layer's numbers (engines/dropout.py)
SETS = 46  # of constants, an update: 1, or one for biases and one for each layer if there is a penalty
# Then, for each layer:
LAYER_TABLE = 50
INPUTS, UNITS, ACTIVATE, SLOPES, FIRST_WEIGHT, X, X_STRIDE, Y, Y_STRIDE, DZ, DZ_TRANSPOSED, SUMS, SUMS_STRIDE = range(
    13
)
AFTER_Y = 13  # what follows each example's y: 1, the input whose weight is the next layer's bias, or 0 if that has none
# Dropout: an array of what the way back multiplies by, 0 or scale times slope (0 if there is none); the activation's
# slopes; and what SLOPES reads: that array, or y.
DROPPED, OWN_SLOPES, SLOPES_FROM = 14, 15, 16
LAYER_COLUMNS = 17
# Then, for each stage, a kind of work and a layer for each of its parts:
PARTS = 3
STAGE_COLUMNS = 2 * PARTS
NOTHING, FORWARD_LAYER, SOFTMAX, BACKWARD_LAYER, UPDATE_LAYER, GATHER, COPY_LOGITS = range(7)
FORWARD_ONE, SOFTMAX_ONE, BACKWARD_ONE, UPDATE_ONE, GATHER_ONE, TAIL_ONE = range(7, 13)

# Where threads meet: integers, each in its own cache line
PHASE, STOP, DONE, MADE, SLEEPERS, ACTIVE, SLEEPS = range(0, 56, 8)
PATIENCE, NEXT = 56, 64  # for each thread, 16 numbers apart


def sync_size(threads: int) -> int:
    return NEXT + 16 * threads


class Work(NamedTuple):
    """What a loop gets: the table, what must be kept alive meanwhile, and what it leaves."""

    table: NDArray[np.int64]
    sync: NDArray[np.int64]
    losses: NDArray[np.float32]
    correct: NDArray[np.uint8]
    logits: NDArray[np.float32]
    kept: Sequence[Any]


def opening_and_stages_in_batches(layers: int, training: bool) -> tuple[Stages, Stages]:
    """The stages before the first update, and those of every update. Threads meet after each stage.

    A stage depends only on earlier stages. In training, a layer's update waits until the previous layer has its dz,
    computed from the weights before their update.
    """
    opening: Stages = [[(GATHER, 0)]]
    forward: Stages = [[(FORWARD_LAYER, layer)] for layer in range(layers)]
    if not training:
        return opening, [*forward, [(COPY_LOGITS, layers - 1), (GATHER, 0)]]
    stages: Stages = [*forward, [(SOFTMAX, layers - 1)]]
    for layer in range(layers - 1, 0, -1):
        updates = [(UPDATE_LAYER, layer + 1)] if layer + 1 < layers else []
        stages.append([*updates, (BACKWARD_LAYER, layer)])
    updates = [(UPDATE_LAYER, 1)] if layers > 1 else []
    return opening, [*stages, [*updates, (UPDATE_LAYER, 0), (GATHER, 0)]]


def opening_and_stages_one_by_one(network: Network) -> tuple[Stages, Stages]:
    """As `opening_and_stages_in_batches`, for batches of one example.

    The pass that updates the first layer's weights also computes its product for the next example, in the last stage.
    If the last layer is a single panel, one thread does all of its work, in one stage.
    """
    last = network.layers - 1
    opening: Stages = [[(GATHER_ONE, 0)], [(FORWARD_ONE, 0)]]
    stages: Stages = [[(FORWARD_ONE, layer)] for layer in range(1, last)]
    behind = last
    if last > 0 and panels_of(network.classes) == 1:
        stages.append([(TAIL_ONE, last), (GATHER_ONE, 0)])
        behind = last - 1
    else:
        stages += [[(FORWARD_ONE, last)]] if last > 0 else []
        stages.append([(SOFTMAX_ONE, last), (GATHER_ONE, 0)])
    stages += [[(BACKWARD_ONE, layer)] for layer in range(behind, 0, -1)]
    return opening, [*stages, [(UPDATE_ONE, 0)]]


class Plan(NamedTuple):
    """A table without the entries of an epoch, and the workspace that it refers to."""

    table: NDArray[np.int64]
    workspace: NDArray[np.float32]


def lay_out(
    network: Network,
    starts: Sequence[int],
    batch_size: int,
    threads: int,
    stages: tuple[Stages, Stages],
    training: bool,
) -> Plan:
    """The layout for batches up to a size, with ones for the biases of the layers that have some.

    starts: offsets of each layer's weights. stages: before the first update, and in every update. training: with
    dropout, if the network has some.
    """
    used = 0

    def take(floats: int) -> int:
        nonlocal used
        start = used
        used += -(-floats // LINE) * LINE + LINE  # one line more: rows of a power of two would share few cache sets
        return start

    stage_table = LAYER_TABLE + network.layers * LAYER_COLUMNS
    opening, repeated = stages
    table = np.zeros(stage_table + (len(opening) + len(repeated)) * STAGE_COLUMNS, np.int64)
    for number, parts in enumerate([*opening, *repeated]):
        row = table[stage_table + number * STAGE_COLUMNS :]
        row[: 2 * len(parts)] = np.ravel(parts)
    table[[OPENING, STAGES, STAGE_TABLE]] = len(opening), len(repeated), stage_table
    ones: list[tuple[int, int, int]] = []  # (start, stride, number)
    stride = row_stride(network.inputs)
    x, table[X_BUFFER] = take(2 * batch_size * stride), batch_size * stride
    if network.biases[0]:
        ones.append((x + network.inputs, stride, 2 * batch_size))
    for layer, (inputs, units) in enumerate(network.sizes):
        row = table[LAYER_TABLE + layer * LAYER_COLUMNS :]
        row[[INPUTS, UNITS, FIRST_WEIGHT, X, X_STRIDE]] = inputs, units, starts[layer], x, stride
        stride = row_stride(units)
        x = take(batch_size * stride)
        row[[Y, Y_STRIDE, SLOPES_FROM]] = x, stride, x
        if training and network.dropout and network.dropout[layer]:
            row[DROPPED] = row[SLOPES_FROM] = take(batch_size * stride)
        row[AFTER_Y] = int((*network.biases, False)[layer + 1])
        if row[AFTER_Y]:
            ones.append((x + units, stride, batch_size))
        row[DZ] = take(batch_size * padded(units))
        row[DZ_TRANSPOSED] = take(-(-batch_size // LANES) * LANES * units)
        row[SUMS_STRIDE] = panels_of(inputs + 1) * WIDE + LINE
        row[SUMS] = take(panels_of(units) * int(row[SUMS_STRIDE]) if batch_size == 1 else 0)
    scratch = max(TILE_ROWS * WIDE, 2 * LANES * LANES, padded(network.classes)) + LINE
    table[SCRATCH_SIZE] = -(-scratch // LINE) * LINE
    table[SCRATCH] = take(threads * int(table[SCRATCH_SIZE]))
    workspace = aligned(used)
    for start, step, number in ones:
        workspace[start : start + step * number : step] = 1
    table[[LAYERS, WIDEST, WORKSPACE]] = network.layers, max(network.widths[:-1]) + 1, workspace.ctypes.data
    return Plan(table, workspace)


def set_entries(table: NDArray[np.int64], entries: Mapping[int, Any]) -> None:
    """Put numbers, and addresses of arrays, into the table."""
    for entry, value in entries.items():
        table[entry] = value.ctypes.data if isinstance(value, np.ndarray) else value


def aligned(floats: int) -> NDArray[np.float32]:
    """Zeros, aligned to a cache line."""
    workspace = np.zeros(floats + LINE, np.float32)
    first = -(workspace.ctypes.data // workspace.itemsize) % LINE
    return workspace[first : first + floats]


def panels_of(columns: int) -> int:
    return -(-columns // WIDE)


def padded(columns: int) -> int:
    """The columns that panels take: whole panels of WIDE, and one of LANES if that is enough for the rest."""
    whole, rest = divmod(columns, WIDE)
    return whole * WIDE + (0 if rest == 0 else LANES if rest <= LANES else WIDE)


def row_stride(columns: int) -> int:
    """Floats from one row to the next, with a column of ones at its end: an odd number of cache lines."""
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
    """The inverse of `to_panels`; the vector may be longer."""
    width = padded(columns)
    whole = width // WIDE * WIDE
    left = vector[: rows * whole].reshape(-1, rows, WIDE).transpose(1, 0, 2).reshape(rows, whole)
    right = vector[rows * whole : rows * width].reshape(rows, width - whole)
    return np.ascontiguousarray(np.hstack([left, right])[:, :columns])
