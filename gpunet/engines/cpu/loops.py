"""What a thread of the compiled engine executes: an epoch's updates, from gathering a batch to the optimizer's step.

An update is a sequence of stages, and a stage consists of many independent units of work: a tile of a product, a panel,
a few examples. Every thread has its share of each stage's units. It claims them one at a time from the share's counter,
then helps the others with theirs. The thread that finishes the stage's last unit opens the next stage. So a thread that
is slow, late or asleep does less, and the others wait at most for the unit that it is working on. What a unit computes,
and the order of every sum in it, do not depend on the thread: results have the same bits with any number of threads.
There is no Python between updates. docs/cpu.md explains the design, layout.py the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import int64, types
from numba.extending import intrinsic

from gpunet.engines.cpu.formulas import MOST_CONSTANTS
from gpunet.engines.cpu.intrinsics import (
    at,
    atomic_add,
    atomic_get,
    atomic_set,
    atomic_swap_if,
    bytes_at,
    call,
    floats,
    ints,
    ints_of_32,
    pause,
)
from gpunet.engines.cpu.layout import (
    ACTIVATE,
    ACTIVE,
    AFTER_Y,
    ALIVE,
    AWAKE,
    AWAKE_ROWS,
    BACKWARD,
    BACKWARD_LAYER,
    BACKWARD_ONE,
    BATCH,
    BYTES,
    CLASSES,
    COLUMNS,
    CONSTANTS,
    COPY,
    CORRECT,
    DONE,
    DROP,
    DROPPED,
    DROPS,
    DZ,
    DZ_TRANSPOSED,
    EXAMPLE_WEIGHTS,
    EXAMPLES,
    EXP,
    FIRST_WEIGHT,
    FLOATS,
    FORWARD,
    FORWARD_LAYER,
    FORWARD_ONE,
    GATHER,
    GATHER_ONE,
    IN_BYTES,
    INPUTS,
    LAYER_COLUMNS,
    LAYER_TABLE,
    LAYERS,
    LOGITS,
    LOSSES,
    MADE,
    NAP_SECONDS,
    NEXT,
    NOTHING,
    ONE_HOT,
    OPENING,
    ORDER,
    OWN_SLOPES,
    PARTS,
    PATIENCE,
    PHASE,
    PHASES,
    ROWS,
    SCRATCH,
    SCRATCH_SIZE,
    SETS,
    SLEEPERS,
    SLEEPS,
    SLOPES,
    SLOPES_FROM,
    SLOT_1,
    SLOT_2,
    SOFTMAX,
    SOFTMAX_ONE,
    STAGE_COLUMNS,
    STAGE_TABLE,
    STAGES,
    STEP,
    STOP,
    SUM_PANELS,
    SUMS,
    SUMS_STRIDE,
    SYNC,
    TAIL_ONE,
    TARGETS,
    TIMES,
    TRANSPOSE,
    UNITS,
    UPDATE_LAYER,
    UPDATE_ONE,
    UPDATES,
    WAIT,
    WAKE,
    WEIGHTED,
    WEIGHTS,
    WIDE,
    WORKSPACE,
    X_BUFFER,
    X_STRIDE,
    Y_STRIDE,
    X,
    Y,
)
from gpunet.engines.cpu.vectors import LANES, TILE_ROWS
from gpunet.engines.cpu.waiting import FUTEX, FUTEX_CALL, KIND_OF_WAITING, NAP_MILLISECONDS, WAIT_ON_ADDRESS
from gpunet.engines.dropout import NUMBERS as DROP_NUMBERS

TABLE = types.CPointer(types.int64)
LOOP = (TABLE, types.int64, types.int64)  # table, thread, threads

BLOCK_TILES = 8  # tiles of examples that pass through all of a share's panels before the next ones do
# Polls of a counter before a waiting thread sleeps: many if waits are mostly short; few if at least every ninth wait
# ends in sleep, for example because the other thread needs this core.
LEAST_PATIENCE, MOST_PATIENCE, PATIENCE_GAIN, PATIENCE_LOSS = 1000, 4000, 50, 200


def compiled(function: Callable[..., Any]) -> Any:
    """numba.njit, without the wrappers for calls from Python.

    contract: a product and the addition after it may share one rounding. Nothing else is relaxed.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    return numba.njit(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)


# Sizes and offsets


@intrinsic
def entry(typing, table, layer, column):
    """An entry of a layer's row in the table; always inlined, because it is used everywhere."""

    def generate(context, builder, signature, arguments):
        start, row, place = arguments
        row = builder.mul(row, row.type(LAYER_COLUMNS))
        return builder.load(builder.gep(start, [builder.add(builder.add(row, place), row.type(LAYER_TABLE))]))

    return types.int64(table, types.int64, types.int64), generate


@compiled
def panels_in(columns):
    return (columns + WIDE - 1) // WIDE


@compiled
def vectors_of(columns, panel):
    """The number of vectors in a row of a panel."""
    return 1 if columns - panel * WIDE <= LANES else 2


@compiled
def scratch_of(table, thread):
    return table[SCRATCH] + thread * table[SCRATCH_SIZE]


@compiled
def inputs_of(table, layer, update):
    """The layer's x. There are two for the first layer: for this update's batch and for the next one's."""
    return entry(table, layer, X) + (update % 2 * table[X_BUFFER] if layer == 0 else 0)


@compiled
def rows_in(table, update):
    """The number of examples in an update's batch."""
    return min(table[BATCH], table[EXAMPLES] - update * table[BATCH])


# Meeting


@compiled
def doze(table, thread, word, seen):
    """Sleep until a shared counter is no longer what was seen, or for a few milliseconds."""
    sync = ints(table[SYNC])
    if KIND_OF_WAITING == FUTEX:
        call(table[WAIT], FUTEX_CALL, at(sync, word), 128, seen & 0xFFFFFFFF, at(table, NAP_SECONDS), 0, 0)
    elif KIND_OF_WAITING == WAIT_ON_ADDRESS:
        compared = at(sync, PATIENCE + 16 * thread + 1)
        compared[0] = seen
        call(table[WAIT], at(sync, word), compared, 8, NAP_MILLISECONDS)
    else:
        call(table[WAIT], 50)


@compiled
def rouse(table, word):
    """Wake the threads that sleep on a shared counter."""
    if KIND_OF_WAITING == FUTEX:
        call(table[WAKE], FUTEX_CALL, at(ints(table[SYNC]), word), 129, 0x7FFFFFFF, 0, 0, 0)
    elif KIND_OF_WAITING == WAIT_ON_ADDRESS:
        call(table[WAKE], at(ints(table[SYNC]), word))


@compiled
def next_phase(table, seen, thread):
    """Wait for a stage after the one seen last, counted from the start; -1 when there is nothing left to do.

    A thread polls the counter for a while, and for less long if that did not help before. Then it sleeps, because the
    thread that it is waiting for may need this core.
    """
    sync = ints(table[SYNC])
    patience = at(sync, PATIENCE + 16 * thread)
    looks = 0
    while True:
        phase = atomic_get(at(sync, PHASE))
        if phase >= table[PHASES] or atomic_get(at(sync, STOP)) != 0:
            rouse(table, int64(PHASE))
            rouse(table, int64(ACTIVE))
            return -1
        active = atomic_get(at(sync, ACTIVE))
        if thread >= active:  # not needed at the moment
            doze(table, thread, int64(ACTIVE), active)
        elif phase != seen:
            if looks > 0:
                patience[0] = min(patience[0] + PATIENCE_GAIN, MOST_PATIENCE)
            return phase
        elif looks < patience[0]:
            looks += 1
            pause()
        else:
            atomic_add(at(sync, SLEEPS), 1)
            atomic_add(at(sync, SLEEPERS), 1)
            doze(table, thread, int64(PHASE), phase)
            atomic_add(at(sync, SLEEPERS), -1)
            patience[0] = max(patience[0] - PATIENCE_LOSS, LEAST_PATIENCE)
            looks = 0


@compiled
def claim(table, phase, share, units):
    """Claim a unit of a share of this stage; -1 if none is left, or the stage is over.

    The counter holds the lower 32 bits of the stage above the number of the next unit, so that the counter of another
    stage gives no valid unit.
    """
    counter = at(ints(table[SYNC]), NEXT + 16 * share)
    while True:
        found = atomic_get(counter)
        unit = found ^ (phase << 32)
        if unit < 0 or unit >= units:
            return -1
        if atomic_swap_if(counter, found, found + 1):
            return unit


@compiled
def finish(table, phase, made, units, threads):
    """Add the units that this thread has done; if they were the last, open the next stage."""
    sync = ints(table[SYNC])
    if atomic_add(at(sync, MADE), made) + made < units:
        return
    atomic_set(at(sync, MADE), 0)
    for share in range(threads):
        atomic_set(at(sync, NEXT + 16 * share), (phase + 1) << 32)
    sync[DONE] = (phase + 1 - table[OPENING]) // table[STAGES]
    atomic_set(at(sync, PHASE), phase + 1)
    if atomic_get(at(sync, SLEEPERS)) > 0:
        rouse(table, int64(PHASE))


@compiled
def part_of(units, share, threads):
    return units * (share + 1) // threads - units * share // threads


def loop_over(units_of: Any, share_of: Any, do: Any) -> Any:
    """The loop of a thread over the stages of all updates.

    units_of: (table, kind, layer, rows) -> units in a part of a stage.
    share_of: (table, kind, layer, rows, share, threads) -> how many of them are in a share.
    do:       (table, update, kind, layer, rows, unit, share, threads, thread) does one unit of a share.
    """

    @compiled
    def loop(table, thread, threads):
        phase = next_phase(table, int64(-1), thread)
        while phase >= 0:
            update = (phase - table[OPENING]) // table[STAGES]
            number = phase if update < 0 else table[OPENING] + (phase - table[OPENING]) % table[STAGES]
            rows = rows_in(table, max(update, 0))
            stage = at(table, table[STAGE_TABLE] + number * STAGE_COLUMNS)
            total = int64(0)
            for part in range(PARTS):
                total += units_of(table, stage[2 * part], stage[2 * part + 1], rows)
            made = int64(0)
            for further in range(threads):
                share = (thread + further) % threads
                mine = int64(0)
                for part in range(PARTS):
                    mine += share_of(table, stage[2 * part], stage[2 * part + 1], rows, share, threads)
                unit = claim(table, phase, share, mine)
                while unit >= 0:
                    part = 0
                    here = share_of(table, stage[0], stage[1], rows, share, threads)
                    while unit >= here:
                        unit -= here
                        part += 1
                        here = share_of(table, stage[2 * part], stage[2 * part + 1], rows, share, threads)
                    do(table, update, stage[2 * part], stage[2 * part + 1], rows, unit, share, threads, thread)
                    made += 1
                    unit = claim(table, phase, share, mine)
            if made > 0:
                finish(table, phase, made, total, threads)
            phase = next_phase(table, phase, thread)

    return loop


# Examples


@compiled
def gather(table, x, example):
    """Copy one example into the workspace as floats; bytes become x / 255. The column of ones is already there."""
    target, inputs = at(floats(table[WORKSPACE]), x), entry(table, 0, INPUTS)
    if table[IN_BYTES]:
        image = at(bytes_at(table[BYTES]), example * inputs)
        for n in range(inputs):
            target[n] = np.float32(image[n]) / np.float32(255)
    else:
        given = at(floats(table[FLOATS]), example * inputs)
        for n in range(inputs):
            target[n] = given[n]


@compiled
def softmax_loss(table, position, row, rows, thread):
    """Loss, correctness and d(mean loss)/d(logits) of one example: a row of its batch of `rows`, at `position` in
    order.

    dz is written twice: in panels of units for the update, and transposed, in blocks of LANES examples, for the
    backward pass.
    """
    last, workspace = table[LAYERS] - 1, floats(table[WORKSPACE])
    classes, logits = (
        entry(table, last, UNITS),
        at(workspace, entry(table, last, Y) + row * entry(table, last, Y_STRIDE)),
    )
    powers = at(workspace, scratch_of(table, thread))
    best = 0
    for c in range(1, classes):
        if logits[c] > logits[best]:
            best = c
    peak = logits[best]
    for c in range(classes):
        powers[c] = logits[c] - peak
    call(table[EXP], powers, 0, powers, 1, (classes + LANES - 1) // LANES)
    total = 0.0
    for c in range(classes):
        total += powers[c]
    example = ints_of_32(table[ORDER])[position]
    label = ints_of_32(table[CLASSES])[example]
    one_hot, targets = table[ONE_HOT] != 0, at(floats(table[TARGETS]), example * classes)
    loss = math.log(total)
    if one_hot:
        for c in range(classes):
            if targets[c] != 0:  # 0 times minus infinity would be NaN
                loss -= np.float64(targets[c]) * np.float64(logits[c] - peak)
    else:
        loss -= np.float64(logits[label] - peak)
    weight = floats(table[EXAMPLE_WEIGHTS])[example] if table[WEIGHTED] != 0 else np.float32(1)
    loss *= np.float64(weight)
    floats(table[LOSSES])[position] = loss
    bytes_at(table[CORRECT])[position] = best == label
    if not math.isfinite(loss):
        atomic_add(at(ints(table[SYNC]), STOP), 1)
    dz = entry(table, last, DZ)
    transposed = entry(table, last, DZ_TRANSPOSED) + row // LANES * LANES * classes + row % LANES
    for c in range(classes):
        target = targets[c] if one_hot else np.float32(c == label)
        value = (np.float32(powers[c] / total) - target) * weight / np.float32(rows)
        panel = c // WIDE
        workspace[dz + panel * WIDE * rows + row * vectors_of(classes, panel) * LANES + c % WIDE] = value
        workspace[transposed + c * LANES] = value


# Layers, tile by tile


@compiled
def constants_for(table, layer, update):
    """The numbers of an update's step for the weights of a layer; -1: for biases, which no penalty is for."""
    which = layer + 1 if table[SETS] > 1 else 0
    return at(floats(table[CONSTANTS]), (update * table[SETS] + which) * MOST_CONSTANTS)


@compiled
def step(table, place, gradient, count, constants):
    """The optimizer's step of `count` vectors of weights."""
    call(
        table[STEP], at(floats(table[WEIGHTS]), place), at(floats(table[SLOT_1]), place),
        at(floats(table[SLOT_2]), place), gradient, count, constants,
    )  # fmt: skip


@compiled
def drop_tile(table, layer, first, count, position, panel, thread):
    """Multiply a tile of activations by 0 or the scale, and store what the way back multiplies by (layout.DROPPED).

    position: of the first example in the epoch.
    """
    workspace = floats(table[WORKSPACE])
    stride, factors = entry(table, layer, Y_STRIDE), at(workspace, scratch_of(table, thread))
    key, numbers = ints_of_32(table[DROPS]), at(ints_of_32(table[DROPS]), (1 + layer) * DROP_NUMBERS)
    for vector in range(vectors_of(entry(table, layer, UNITS), panel)):
        unit = panel * WIDE + vector * LANES
        y = at(workspace, entry(table, layer, Y) + first * stride + unit)
        kept = at(workspace, entry(table, layer, DROPPED) + first * stride + unit)
        call(table[DROP], factors, count, unit, position, layer, key, numbers)
        call(table[COPY], kept, stride, factors, count, 1)
        call(entry(table, layer, OWN_SLOPES), kept, stride, y, stride, count)
        call(table[TIMES], y, stride, factors, LANES, count)


@compiled
def forward_tile(table, layer, x, first, last, position, panel, thread):
    """y = activation(x weights + bias) for examples first to last - 1 and one panel of units.

    position: of example `first` in the epoch.
    """
    workspace = floats(table[WORKSPACE])
    steps, units = entry(table, layer, INPUTS) + 1, entry(table, layer, UNITS)
    vectors, stride = vectors_of(units, panel), entry(table, layer, Y_STRIDE)
    z = at(workspace, scratch_of(table, thread))
    weights = at(floats(table[WEIGHTS]), entry(table, layer, FIRST_WEIGHT) + panel * WIDE * steps)
    x_stride = entry(table, layer, X_STRIDE)
    call(table[ROWS], z, at(workspace, x + first * x_stride), x_stride, weights, steps, last - first, vectors, 1)
    y = entry(table, layer, Y) + first * stride
    call(entry(table, layer, ACTIVATE), at(workspace, y + panel * WIDE), stride, z, last - first, vectors)
    if entry(table, layer, DROPPED) != 0:
        drop_tile(table, layer, first, last - first, position, panel, thread)
    if units < panel * WIDE + vectors * LANES:
        for row in range(last - first):
            workspace[y + row * stride + units] = entry(table, layer, AFTER_Y)


@compiled
def backward_tile(table, layer, rows, unit, block, thread):
    """The previous layer's dz = (dz weights^T) * activation'(y), for LANES units from `unit` on and a block of LANES
    examples; both transposed, as the product gives it, and untransposed.

    If a tile has fewer than LANES of either, the rest is computed too, but not used.
    """
    workspace = floats(table[WORKSPACE])
    inputs, units, previous = (
        entry(table, layer, INPUTS) + 1,
        entry(table, layer, UNITS),
        entry(table, layer - 1, UNITS),
    )
    scratch = at(workspace, scratch_of(table, thread))
    straight = at(scratch, LANES * LANES)
    dz_of_units = entry(table, layer, DZ_TRANSPOSED) + block * LANES * units
    weights = at(floats(table[WEIGHTS]), entry(table, layer, FIRST_WEIGHT))
    for part in range(panels_in(units)):
        stride = vectors_of(units, part) * LANES
        call(
            table[ROWS], scratch, at(weights, part * WIDE * inputs + unit * stride), stride,
            at(workspace, dz_of_units + part * WIDE * LANES), min(stride, units - part * WIDE),
            min(LANES, previous - unit), 1, 1 if part == 0 else 0,
        )  # fmt: skip
    examples = min(LANES, rows - block * LANES)
    y_stride = entry(table, layer - 1, Y_STRIDE)
    y = entry(table, layer - 1, SLOPES_FROM) + block * LANES * y_stride + unit
    call(table[TRANSPOSE], straight, LANES, scratch, LANES)
    call(entry(table, layer - 1, SLOPES), straight, LANES, at(workspace, y), y_stride, examples)
    part = unit // WIDE
    stride = vectors_of(previous, part) * LANES
    dz = entry(table, layer - 1, DZ) + part * WIDE * rows + block * LANES * stride + unit % WIDE
    call(table[COPY], at(workspace, dz), stride, straight, examples, 1)
    if layer > 1:
        transposed = entry(table, layer - 1, DZ_TRANSPOSED) + (block * previous + unit) * LANES
        call(table[TRANSPOSE], scratch, LANES, straight, LANES)
        call(table[COPY], at(workspace, transposed), LANES, scratch, min(LANES, previous - unit), 1)


@compiled
def update_tile(table, layer, update, rows, panel, first, last, thread):
    """weights, slots <- optimizer(x^T dz), for inputs first to last - 1; the gradient stays in the cache."""
    workspace = floats(table[WORKSPACE])
    units = entry(table, layer, UNITS)
    vectors, gradient = vectors_of(units, panel), at(workspace, scratch_of(table, thread))
    x = at(workspace, inputs_of(table, layer, update) + first)
    dz = at(workspace, entry(table, layer, DZ) + panel * WIDE * rows)
    call(table[COLUMNS], gradient, x, entry(table, layer, X_STRIDE), dz, rows, last - first, vectors, 1)
    inputs = entry(table, layer, INPUTS) + 1
    w = entry(table, layer, FIRST_WEIGHT) + panel * WIDE * inputs + first * vectors * LANES
    penalized = last - first
    if table[SETS] > 1 and last == inputs:
        penalized -= 1
        bias = penalized * vectors * LANES
        step(table, w + bias, at(gradient, bias), vectors, constants_for(table, int64(-1), update))
    step(table, w, gradient, penalized * vectors, constants_for(table, layer, update))


# Batches


@compiled
def tiles_of(rows):
    return (rows + TILE_ROWS - 1) // TILE_ROWS


@compiled
def rows_of_a_unit(rows):
    """How many examples one unit gathers, or passes through the softmax."""
    return 1 + rows // 32


@compiled
def tiles_of_an_update(rows):
    """How many tiles one unit updates: more if each is little work."""
    return 1 + 64 // rows


@compiled
def units_in_batches(table, kind, layer, rows):
    if kind == NOTHING:
        return 0
    inputs, units = entry(table, layer, INPUTS), entry(table, layer, UNITS)
    if kind == FORWARD_LAYER:
        return tiles_of(rows) * panels_in(units)
    if kind == BACKWARD_LAYER:
        return (inputs + LANES - 1) // LANES * ((rows + LANES - 1) // LANES)
    if kind == UPDATE_LAYER:
        step = tiles_of_an_update(rows)
        return (tiles_of(inputs + 1) + step - 1) // step * panels_in(units)
    step = rows_of_a_unit(rows)
    return (rows + step - 1) // step


@compiled
def share_in_batches(table, kind, layer, rows, share, threads):
    if kind != FORWARD_LAYER:
        return part_of(units_in_batches(table, kind, layer, rows), share, threads)
    blocks, rest = tiles_of(rows) // BLOCK_TILES, tiles_of(rows) % BLOCK_TILES
    panels = panels_in(entry(table, layer, UNITS))
    return blocks * part_of(panels * BLOCK_TILES, share, threads) + part_of(panels * rest, share, threads)


@compiled
def do_in_batches(table, update, kind, layer, rows, unit, share, threads, thread):
    if kind == FORWARD_LAYER:
        forward_unit(table, layer, update, rows, unit, share, threads, thread)
        return
    unit += units_in_batches(table, kind, layer, rows) * share // threads
    if kind == BACKWARD_LAYER:
        blocks = (rows + LANES - 1) // LANES
        backward_tile(table, layer, rows, unit // blocks * LANES, unit % blocks, thread)
    elif kind == UPDATE_LAYER:
        inputs, step = entry(table, layer, INPUTS) + 1, tiles_of_an_update(rows)
        tiles = tiles_of(inputs)
        units_of_a_panel = (tiles + step - 1) // step
        first = unit % units_of_a_panel * step
        for tile in range(first, min(first + step, tiles)):
            start, end = inputs * tile // tiles, inputs * (tile + 1) // tiles
            update_tile(table, layer, update, rows, unit // units_of_a_panel, start, end, thread)
    else:
        step = rows_of_a_unit(rows)
        for row in range(unit * step, min((unit + 1) * step, rows)):
            position = update * table[BATCH] + row
            if kind == SOFTMAX:
                softmax_loss(table, position, row, rows, thread)
            elif kind == GATHER:
                position += table[BATCH]
                if position < table[EXAMPLES]:
                    x = inputs_of(table, 0, update + 1) + row * entry(table, 0, X_STRIDE)
                    gather(table, x, ints_of_32(table[ORDER])[position])
            else:
                y, units = entry(table, layer, Y) + row * entry(table, layer, Y_STRIDE), entry(table, layer, UNITS)
                for n in range(units):
                    floats(table[LOGITS])[position * units + n] = floats(table[WORKSPACE])[y + n]


@compiled
def forward_unit(table, layer, update, rows, unit, share, threads, thread):
    """A share has its own panels, as far as they divide evenly, so that they stay in its thread's cache."""
    tiles, panels = tiles_of(rows), panels_in(entry(table, layer, UNITS))
    blocks, deep = tiles // BLOCK_TILES, BLOCK_TILES
    each = part_of(panels * BLOCK_TILES, share, threads)
    block = unit // each if blocks > 0 and unit < blocks * each else blocks
    if block == blocks:
        deep = tiles % BLOCK_TILES
    index = panels * deep * share // threads + unit - block * each
    tile = block * BLOCK_TILES + index % deep
    first, last = rows * tile // tiles, rows * (tile + 1) // tiles
    position = update * table[BATCH] + first
    forward_tile(table, layer, inputs_of(table, layer, update), first, last, position, index // deep, thread)


# Batches of one example: the work is to move weights and slots through the processor, so each is read and written once


@compiled
def units_one_by_one(table, kind, layer, rows):
    if kind == NOTHING:
        return 0
    if kind in (FORWARD_ONE, BACKWARD_ONE, UPDATE_ONE):
        return panels_in(entry(table, layer, UNITS))
    return 1


@compiled
def share_one_by_one(table, kind, layer, rows, share, threads):
    return part_of(units_one_by_one(table, kind, layer, rows), share, threads)


@compiled
def do_one_by_one(table, update, kind, layer, rows, unit, share, threads, thread):
    unit += units_one_by_one(table, kind, layer, rows) * share // threads
    if kind in (FORWARD_ONE, TAIL_ONE):
        forward_tile(table, layer, entry(table, layer, X), int64(0), int64(1), max(update, 0), unit, thread)
    if kind in (SOFTMAX_ONE, TAIL_ONE):
        softmax_loss(table, update, int64(0), int64(1), thread)
    if kind in (BACKWARD_ONE, TAIL_ONE):
        backward_one(table, layer, update, unit, thread)
    if kind == UPDATE_ONE:
        update_and_forward_one(table, update, unit, thread)
    if kind == GATHER_ONE:
        gather_one(table, update + 1)


@compiled
def gather_one(table, update):
    """Gather the next example, and add its inputs that are not 0 to those whose weights may move.

    Inputs that were 0 in all examples so far have gradients and slots of 0: their weights do not move and are skipped.
    """
    inputs, x = entry(table, 0, INPUTS), inputs_of(table, 0, update)
    example = ints_of_32(table[ORDER])[min(update, table[UPDATES] - 1)]
    gather(table, x, example)
    values, alive, rows = at(floats(table[WORKSPACE]), x), bytes_at(table[ALIVE]), ints_of_32(table[AWAKE_ROWS])
    for n in range(inputs):
        alive[n] |= values[n] != 0
    count = 0
    for n in range(inputs + 1):
        rows[count] = n
        count += alive[n]
    table[AWAKE] = count


@compiled
def complete_dz(table, layer, panel):
    """Complete a panel of a layer's dz by adding the next layer's parts; the last layer's dz is complete already."""
    if layer < table[LAYERS] - 1:
        workspace, units = floats(table[WORKSPACE]), entry(table, layer, UNITS)
        dz, y = entry(table, layer, DZ) + panel * WIDE, entry(table, layer, SLOPES_FROM) + panel * WIDE
        sums, stride = entry(table, layer + 1, SUMS) + panel * WIDE, entry(table, layer + 1, SUMS_STRIDE)
        vectors = vectors_of(units, panel)
        panels = panels_in(entry(table, layer + 1, UNITS))
        call(table[SUM_PANELS], at(workspace, dz), at(workspace, sums), stride, panels, vectors)
        call(entry(table, layer, SLOPES), at(workspace, dz), LANES, at(workspace, y), LANES, vectors)


@compiled
def step_of_bias(table, layer, update, panel, thread):
    """One example's step of a panel's biases, which take another step than its weights where these have a penalty."""
    workspace = floats(table[WORKSPACE])
    inputs, units = entry(table, layer, INPUTS), entry(table, layer, UNITS)
    vectors, gradient = vectors_of(units, panel), at(workspace, scratch_of(table, thread))
    dz = at(workspace, entry(table, layer, DZ) + panel * WIDE)
    one = workspace[inputs_of(table, layer, update) + inputs]
    for n in range(vectors * LANES):
        gradient[n] = one * dz[n]
    w = entry(table, layer, FIRST_WEIGHT) + panel * WIDE * (inputs + 1) + inputs * vectors * LANES
    step(table, w, gradient, vectors, constants_for(table, int64(-1), update))


@compiled
def backward_one(table, layer, update, panel, thread):
    """Update a panel, and compute its part of the previous layer's dz."""
    complete_dz(table, layer, panel)
    workspace = floats(table[WORKSPACE])
    inputs, units, stride = entry(table, layer, INPUTS), entry(table, layer, UNITS), entry(table, layer, SUMS_STRIDE)
    sums = at(workspace, entry(table, layer, SUMS) + panel * stride)
    w = entry(table, layer, FIRST_WEIGHT) + panel * WIDE * (inputs + 1)
    rows = inputs if table[SETS] > 1 else inputs + 1
    call(
        table[BACKWARD], at(floats(table[WEIGHTS]), w), at(floats(table[SLOT_1]), w), at(floats(table[SLOT_2]), w),
        rows, at(workspace, entry(table, layer, X)), at(workspace, entry(table, layer, DZ) + panel * WIDE), sums,
        at(workspace, scratch_of(table, thread)), vectors_of(units, panel), constants_for(table, layer, update),
    )  # fmt: skip
    if table[SETS] > 1:
        step_of_bias(table, layer, update, panel, thread)
    for n in range(inputs, stride):  # the bias and what is beyond it: no unit's dz
        sums[n] = 0


@compiled
def update_and_forward_one(table, update, panel, thread):
    """Update a panel of the first layer, and compute its y for the next example."""
    complete_dz(table, int64(0), panel)
    workspace = floats(table[WORKSPACE])
    inputs, units = entry(table, 0, INPUTS) + 1, entry(table, 0, UNITS)
    vectors, z = vectors_of(units, panel), at(workspace, scratch_of(table, thread))
    w, y = entry(table, 0, FIRST_WEIGHT) + panel * WIDE * inputs, entry(table, 0, Y)
    next_x = inputs_of(table, 0, update + 1)
    if table[SETS] > 1:
        step_of_bias(table, int64(0), update, panel, thread)
    call(
        table[FORWARD], at(floats(table[WEIGHTS]), w), at(floats(table[SLOT_1]), w), at(floats(table[SLOT_2]), w),
        ints_of_32(table[AWAKE_ROWS]), table[AWAKE] - (1 if table[SETS] > 1 else 0),
        at(workspace, inputs_of(table, 0, update)), at(workspace, entry(table, 0, DZ) + panel * WIDE),
        at(workspace, next_x), z, vectors, constants_for(table, int64(0), update),
    )  # fmt: skip
    if table[SETS] > 1:
        bias = at(floats(table[WEIGHTS]), w + (inputs - 1) * vectors * LANES)
        for n in range(vectors * LANES):
            z[n] += workspace[next_x + inputs - 1] * bias[n]
    call(entry(table, 0, ACTIVATE), at(workspace, y + panel * WIDE), 0, z, 1, vectors)
    if entry(table, 0, DROPPED) != 0:
        drop_tile(table, int64(0), int64(0), int64(1), update + 1, panel, thread)
    if units < panel * WIDE + vectors * LANES:
        workspace[y + units] = entry(table, 0, AFTER_Y)


in_batches = loop_over(units_in_batches, share_in_batches, do_in_batches)
one_by_one = loop_over(units_one_by_one, share_one_by_one, do_one_by_one)
LOOPS = {"in_batches": in_batches, "one_by_one": one_by_one}
