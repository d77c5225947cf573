"""What a thread of the compiled engine does: an epoch's updates, from the gather of a batch to the optimizer's step.

Every thread runs a loop from the epoch's first update to its last, on its own share of every operation, and meets the
others where one needs what another has made. There is no Python between updates. docs/cpu.md explains the plan.

Arrays are long vectors, and a matrix in them is an offset: `Work.table` has a row of offsets and sizes for each layer.
A layer's bias is the last row of its weights, and meets a column of ones behind the layer's inputs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from gpunet.engines.cpu import vectors
from gpunet.engines.cpu.vectors import LANES, MOST_CONSTANTS, TILE_ROWS, at, atomic_add, atomic_get, call, pause

WIDE = 2 * LANES  # columns of a panel; the last one may have LANES

# Columns of Work.table
INPUTS, UNITS, ACTIVATE, SLOPES, WEIGHTS, X, X_STRIDE, Y, Y_STRIDE, DZ, DZ_TRANSPOSED, PARTIALS = range(12)
TABLE_COLUMNS = 12
# Entries of Work.sizes
LAYERS, BATCH, EXAMPLES, UPDATES, WIDEST, IN_BYTES, ONE_HOT, X_BUFFER, Z, SCRATCH, SCRATCH_SIZE = range(11)
SIZES = 11
# Entries of Work.functions: addresses of C functions
ROWS, COLUMNS, STEP, BACKWARD, FORWARD, EXP, COPY, TRANSPOSE, YIELD = range(9)
# Entries of Work.sync, each in a cache line of its own
ARRIVED, STOP, DONE = 0, 8, 16
SYNC_SIZE = 24

BLOCK_TILES = 8  # tiles of examples that go through all of a thread's panels before the next ones do
# Numba keeps a function until this file changes. What it was compiled with is in vectors.py, so its name on the
# disk names that file's contents too.
VECTORS = hashlib.sha256(Path(vectors.__file__).read_bytes()).hexdigest()[:12]
SPINS = 2000  # looks at the others before a waiting thread offers its core to someone else


class Work(NamedTuple):
    """All that the threads share. Offsets are in floats."""

    table: NDArray[np.int64]  # (layers, TABLE_COLUMNS)
    sizes: NDArray[np.int64]  # (SIZES,)
    functions: NDArray[np.int64]
    weights: NDArray[np.float32]  # all layers' panels; slots the same
    slot_1: NDArray[np.float32]
    slot_2: NDArray[np.float32]
    room: NDArray[np.float32]  # what an update computes on the way
    alive: NDArray[np.uint8]  # (threads, inputs + 1): inputs whose weights may move; for batches of one
    rows: NDArray[np.int32]  # (threads + 1, widest input + 1): their numbers; the last row has all numbers
    images_bytes: NDArray[np.uint8]  # (examples, inputs), or (0, 0) if the images are floats
    images_floats: NDArray[np.float32]  # (examples, inputs), or (0, 0)
    order: NDArray[np.int32]
    classes: NDArray[np.int32]  # (examples,): the targets' classes
    targets: NDArray[np.float32]  # (examples, classes), or (0, 0) if the targets are classes
    steps: NDArray[np.float32]  # (updates, MOST_CONSTANTS): the optimizer's numbers for each update
    losses: NDArray[np.float32]  # (len(order),)
    hits: NDArray[np.uint8]  # (len(order),): 1 where the most probable class is the target's
    logits: NDArray[np.float32]  # (len(order), classes) for `infer`, or (0, 0)
    sync: NDArray[np.int64]  # (SYNC_SIZE,)


def compiled(function: Callable[..., Any]) -> Any:
    """numba.njit, kept on disk where there is a place for it: beside this file, or in the user's cache folder.

    contract: a product and the sum that follows may be one rounding. Nothing else is relaxed.
    """
    function.__qualname__ += f"_{VECTORS}"
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        return numba.njit(function, cache=True, **options)
    except RuntimeError:  # no folder that could be written to
        return numba.njit(function, **options)


class Pointers(NamedTuple):
    """A Work's arrays as pointers. Arrays are counted by who uses them, with all threads waiting for one counter."""

    table: Any
    sizes: Any
    functions: Any
    weights: Any
    slot_1: Any
    slot_2: Any
    room: Any
    alive: Any
    rows: Any
    images_bytes: Any
    images_floats: Any
    order: Any
    classes: Any
    targets: Any
    steps: Any
    losses: Any
    hits: Any
    logits: Any
    sync: Any


@compiled
def pointers(work):
    return Pointers(
        at(work.table, 0), at(work.sizes, 0), at(work.functions, 0), at(work.weights, 0), at(work.slot_1, 0),
        at(work.slot_2, 0), at(work.room, 0), at(work.alive, 0), at(work.rows, 0), at(work.images_bytes, 0),
        at(work.images_floats, 0), at(work.order, 0), at(work.classes, 0), at(work.targets, 0), at(work.steps, 0),
        at(work.losses, 0), at(work.hits, 0), at(work.logits, 0), at(work.sync, 0),
    )  # fmt: skip


@compiled
def entry(work, layer, column):
    return work.table[layer * TABLE_COLUMNS + column]


@compiled
def panels_of(columns):
    return (columns + WIDE - 1) // WIDE


@compiled
def vectors_of(columns, panel):
    """Vectors in a row of a panel."""
    return 1 if columns - panel * WIDE <= LANES else 2


@compiled
def meet(work, goal):
    """Wait until all threads have come here; False if they are to stop. goal: arrivals since the start."""
    sync = work.sync
    atomic_add(at(sync, ARRIVED), 1)
    spins = 0
    while atomic_get(at(sync, ARRIVED)) < goal:
        if atomic_get(at(sync, STOP)) != 0:
            return False
        spins += 1
        if spins < SPINS:
            pause()
        else:
            call(work.functions[YIELD])
    return atomic_get(at(sync, STOP)) == 0


@compiled
def gather(work, x, example):
    """One example into `room`, as floats; bytes count as x / 255. The column of ones is there already."""
    room, inputs = work.room, entry(work, 0, INPUTS)
    if work.sizes[IN_BYTES]:
        for n in range(inputs):
            room[x + n] = np.float32(work.images_bytes[example * inputs + n]) / np.float32(255)
    else:
        for n in range(inputs):
            room[x + n] = work.images_floats[example * inputs + n]


@compiled
def gather_batch(work, update, thread, threads):
    """This thread's share of a batch's examples."""
    first = update * work.sizes[BATCH]
    rows = min(work.sizes[BATCH], work.sizes[EXAMPLES] - first)
    x = entry(work, 0, X) + update % 2 * work.sizes[X_BUFFER]
    for row in range(rows * thread // threads, rows * (thread + 1) // threads):
        gather(work, x + row * entry(work, 0, X_STRIDE), work.order[first + row])


@compiled
def forward(work, layer, x, rows, thread, threads):
    """This thread's share of y = activation(x weights + bias), tile by tile."""
    tiles = (rows + TILE_ROWS - 1) // TILE_ROWS
    panels = panels_of(entry(work, layer, UNITS))
    for block in range(0, tiles, BLOCK_TILES):
        deep = min(BLOCK_TILES, tiles - block)
        for index in range(panels * deep * thread // threads, panels * deep * (thread + 1) // threads):
            tile = block + index % deep
            forward_tile(work, layer, x, rows * tile // tiles, rows * (tile + 1) // tiles, index // deep, thread)


@compiled
def forward_tile(work, layer, x, first, last, panel, thread):
    """y of the examples from first to last, in one panel of units."""
    room = work.room
    steps, units = entry(work, layer, INPUTS) + 1, entry(work, layer, UNITS)
    vectors, stride = vectors_of(units, panel), entry(work, layer, Y_STRIDE)
    z = at(room, work.sizes[SCRATCH] + thread * work.sizes[SCRATCH_SIZE])
    call(
        work.functions[ROWS], z, at(room, x + first * entry(work, layer, X_STRIDE)), entry(work, layer, X_STRIDE),
        at(work.weights, entry(work, layer, WEIGHTS) + panel * WIDE * steps), steps, last - first, vectors, 1,
    )  # fmt: skip
    y = entry(work, layer, Y) + first * stride
    call(entry(work, layer, ACTIVATE), at(room, y + panel * WIDE), stride, z, last - first, vectors)
    if units < panel * WIDE + vectors * LANES:
        for row in range(last - first):
            room[y + row * stride + units] = 1


@compiled
def softmax_loss(work, position, row, rows, thread):
    """Loss, hit and d(mean loss)/d(logits) of one example: the row of its batch of `rows`, at `position` of the order.

    dz is written twice: in panels of units for the update; transposed, in blocks of LANES examples, for the way back.
    """
    last, room = work.sizes[LAYERS] - 1, work.room
    classes, logits = entry(work, last, UNITS), entry(work, last, Y) + row * entry(work, last, Y_STRIDE)
    scratch = work.sizes[SCRATCH] + thread * work.sizes[SCRATCH_SIZE]
    best = 0
    for c in range(1, classes):
        if room[logits + c] > room[logits + best]:
            best = c
    peak = room[logits + best]
    for c in range(classes):
        room[scratch + c] = room[logits + c] - peak
    call(work.functions[EXP], at(room, scratch), 0, at(room, scratch), 1, (classes + LANES - 1) // LANES)
    total = 0.0
    for c in range(classes):
        total += room[scratch + c]
    example = work.order[position]
    one_hot = work.sizes[ONE_HOT] != 0
    loss = math.log(total)
    if one_hot:
        for c in range(classes):
            if work.targets[example * classes + c] != 0:  # 0 times minus infinity would be NaN
                loss -= np.float64(work.targets[example * classes + c]) * np.float64(room[logits + c] - peak)
    else:
        loss -= np.float64(room[logits + work.classes[example]] - peak)
    work.losses[position] = loss
    work.hits[position] = best == work.classes[example]
    if not math.isfinite(loss):
        atomic_add(at(work.sync, STOP), 1)
    dz = entry(work, last, DZ)
    transposed = entry(work, last, DZ_TRANSPOSED) + row // LANES * LANES * classes + row % LANES
    for c in range(classes):
        target = work.targets[example * classes + c] if one_hot else np.float32(c == work.classes[example])
        value = (np.float32(room[scratch + c] / total) - target) / np.float32(rows)
        panel = c // WIDE
        room[dz + panel * WIDE * rows + row * vectors_of(classes, panel) * LANES + c % WIDE] = value
        room[transposed + c * LANES] = value


@compiled
def backward(work, layer, rows, thread, threads):
    """This thread's share of the previous layer's dz = (dz weights^T) * activation'(y), tile by tile.

    A tile is LANES units of the previous layer by LANES examples.
    """
    tiles, blocks = (entry(work, layer, INPUTS) + LANES - 1) // LANES, (rows + LANES - 1) // LANES
    for index in range(tiles * blocks * thread // threads, tiles * blocks * (thread + 1) // threads):
        backward_tile(work, layer, rows, index // blocks * LANES, index % blocks, thread)


@compiled
def backward_tile(work, layer, rows, unit, block, thread):
    """dz of the units from `unit` on, for the examples of a block; transposed, as the product gives it, and straight.

    Where a tile has less than LANES of either, what lies beyond them is computed too, and used by nobody.
    """
    room = work.room
    inputs, units, previous = entry(work, layer, INPUTS) + 1, entry(work, layer, UNITS), entry(work, layer - 1, UNITS)
    scratch = at(room, work.sizes[SCRATCH] + thread * work.sizes[SCRATCH_SIZE])
    straight = at(room, work.sizes[SCRATCH] + thread * work.sizes[SCRATCH_SIZE] + LANES * LANES)
    dz_of_units = entry(work, layer, DZ_TRANSPOSED) + block * LANES * units
    for part in range(panels_of(units)):
        stride = vectors_of(units, part) * LANES
        call(
            work.functions[ROWS],
            scratch,
            at(work.weights, entry(work, layer, WEIGHTS) + part * WIDE * inputs + unit * stride),
            stride,
            at(room, dz_of_units + part * WIDE * LANES),
            min(stride, units - part * WIDE),
            min(LANES, previous - unit),
            1,
            1 if part == 0 else 0,
        )
    examples = min(LANES, rows - block * LANES)
    y = entry(work, layer - 1, Y) + block * LANES * entry(work, layer - 1, Y_STRIDE) + unit
    call(work.functions[TRANSPOSE], straight, LANES, scratch, LANES)
    call(entry(work, layer - 1, SLOPES), straight, LANES, at(room, y), entry(work, layer - 1, Y_STRIDE), examples)
    part = unit // WIDE
    stride = vectors_of(previous, part) * LANES
    dz = entry(work, layer - 1, DZ) + part * WIDE * rows + block * LANES * stride + unit % WIDE
    call(work.functions[COPY], at(room, dz), stride, straight, examples, 1)
    if layer > 1:
        transposed = entry(work, layer - 1, DZ_TRANSPOSED) + (block * previous + unit) * LANES
        call(work.functions[TRANSPOSE], scratch, LANES, straight, LANES)
        call(work.functions[COPY], at(room, transposed), LANES, scratch, min(LANES, previous - unit), 1)


@compiled
def update_layer(work, layer, update, x, rows, thread, threads):
    """This thread's share of weights, slots <- optimizer(x^T dz); a tile's gradient goes no further than the cache."""
    room = work.room
    inputs, units = entry(work, layer, INPUTS) + 1, entry(work, layer, UNITS)
    gradient = at(room, work.sizes[SCRATCH] + thread * work.sizes[SCRATCH_SIZE])
    constants = at(work.steps, update * MOST_CONSTANTS)
    tiles, panels = (inputs + TILE_ROWS - 1) // TILE_ROWS, panels_of(units)
    for index in range(panels * tiles * thread // threads, panels * tiles * (thread + 1) // threads):
        panel, tile = index // tiles, index % tiles
        first, last = inputs * tile // tiles, inputs * (tile + 1) // tiles
        vectors = vectors_of(units, panel)
        call(
            work.functions[COLUMNS], gradient, at(room, x + first), entry(work, layer, X_STRIDE),
            at(room, entry(work, layer, DZ) + panel * WIDE * rows), rows, last - first, vectors, 1,
        )  # fmt: skip
        w = entry(work, layer, WEIGHTS) + panel * WIDE * inputs + first * vectors * LANES
        call(
            work.functions[STEP], at(work.weights, w), at(work.slot_1, w), at(work.slot_2, w), gradient,
            (last - first) * vectors, constants,
        )  # fmt: skip


@compiled
def train_in_batches(arrays, thread, threads):
    """All updates of an epoch, as one of `threads` threads. Ends early if `sync[STOP]` is set."""
    work = pointers(arrays)
    batch, layers, goal = work.sizes[BATCH], work.sizes[LAYERS], 0
    gather_batch(work, 0, thread, threads)
    for update in range(work.sizes[UPDATES]):
        first = update * batch
        rows = min(batch, work.sizes[EXAMPLES] - first)
        goal += threads
        if not meet(work, goal):
            return
        x_0 = entry(work, 0, X) + update % 2 * work.sizes[X_BUFFER]
        for layer in range(layers):
            forward(work, layer, x_0 if layer == 0 else entry(work, layer, X), rows, thread, threads)
            goal += threads
            if not meet(work, goal):
                return
        for row in range(rows * thread // threads, rows * (thread + 1) // threads):
            softmax_loss(work, first + row, row, rows, thread)
        goal += threads
        if not meet(work, goal):
            return
        for layer in range(layers - 1, 0, -1):
            backward(work, layer, rows, thread, threads)
            goal += threads
            if not meet(work, goal):  # from here on the layer's weights may change, and the next dz is complete
                return
            update_layer(work, layer, update, entry(work, layer, X), rows, thread, threads)
        update_layer(work, 0, update, x_0, rows, thread, threads)
        if update + 1 < work.sizes[UPDATES]:
            gather_batch(work, update + 1, thread, threads)
        if thread == 0:
            work.sync[DONE] = update + 1


@compiled
def train_one_by_one(arrays, thread, threads):
    """As `train_in_batches`, for batches of one example.

    The work then is to move weights and slots through the processor, so each takes that way once: a thread owns panels
    of every layer, updates the first layer and forms the next example's product in one pass, and in the other layers
    the pass of the update gives the previous layer's dz. Inputs that were 0 in all examples so far have gradients and
    slots of 0: their weights stay, and are left out.
    """
    work = pointers(arrays)
    layers, updates, goal = work.sizes[LAYERS], work.sizes[UPDATES], 0
    x = entry(work, 0, X) + 2 * thread * work.sizes[X_BUFFER]
    gather(work, x, work.order[0])
    wake(work, x, thread)
    forward_own(work, 0, x, thread, threads)
    for update in range(updates):
        for layer in range(layers):
            if layer > 0:
                forward_own(work, layer, entry(work, layer, X), thread, threads)
            goal += threads
            if not meet(work, goal):
                return
        if thread == 0:
            softmax_loss(work, update, 0, 1, thread)
        goal += threads
        if not meet(work, goal):
            return
        for layer in range(layers - 1, 0, -1):
            backward_own(work, layer, update, thread, threads)
            goal += threads
            if not meet(work, goal):
                return
            collect_dz(work, layer, thread, threads)
        next_x = entry(work, 0, X) + (2 * thread + (update + 1) % 2) * work.sizes[X_BUFFER]
        gather(work, next_x, work.order[min(update + 1, updates - 1)])
        count = wake(work, next_x, thread)
        update_and_forward_own(work, update, x, next_x, count, thread, threads)
        x = next_x
        if thread == 0:
            work.sync[DONE] = update + 1


@compiled
def forward_own(work, layer, x, thread, threads):
    """y of one example, in the panels that are this thread's."""
    panels = panels_of(entry(work, layer, UNITS))
    for panel in range(panels * thread // threads, panels * (thread + 1) // threads):
        forward_tile(work, layer, x, 0, 1, panel, thread)


@compiled
def backward_own(work, layer, update, thread, threads):
    """The update of this thread's panels, and their part of the previous layer's dz."""
    room = work.room
    inputs, units = entry(work, layer, INPUTS) + 1, entry(work, layer, UNITS)
    partials = entry(work, layer, PARTIALS) + thread * inputs * LANES
    for n in range(inputs * LANES):
        room[partials + n] = 0
    panels = panels_of(units)
    for panel in range(panels * thread // threads, panels * (thread + 1) // threads):
        w = entry(work, layer, WEIGHTS) + panel * WIDE * inputs
        call(
            work.functions[BACKWARD], at(work.weights, w), at(work.slot_1, w), at(work.slot_2, w),
            at(work.rows, threads * work.sizes[WIDEST]), inputs, at(room, entry(work, layer, X)),
            at(room, entry(work, layer, DZ) + panel * WIDE), at(room, partials), at(room, 0), vectors_of(units, panel),
            at(work.steps, update * MOST_CONSTANTS),
        )  # fmt: skip


@compiled
def collect_dz(work, layer, thread, threads):
    """The previous layer's dz in this thread's panels, from what every thread has made of its own units."""
    room, units = work.room, entry(work, layer - 1, UNITS)
    size, panels = (units + 1) * LANES, panels_of(units)
    first = panels * thread // threads * WIDE
    last = min(panels * (thread + 1) // threads * WIDE, units)
    for unit in range(first, last):
        total = np.float32(0)
        for other in range(threads):
            total += sum_of_lanes(room, entry(work, layer, PARTIALS) + other * size + unit * LANES)
        room[entry(work, layer - 1, DZ) + unit] = total
    dz, y = at(room, entry(work, layer - 1, DZ) + first), at(room, entry(work, layer - 1, Y) + first)
    call(entry(work, layer - 1, SLOPES), dz, LANES, y, LANES, (last - first + LANES - 1) // LANES)


@compiled
def sum_of_lanes(room, first):
    total = np.float32(0)
    for lane in range(LANES):
        total += room[first + lane]
    return total


@compiled
def wake(work, x, thread):
    """Take the inputs that are not 0 among those whose weights may move; returns how many these are now."""
    inputs = entry(work, 0, INPUTS)
    alive, rows = at(work.alive, thread * (inputs + 1)), at(work.rows, thread * work.sizes[WIDEST])
    for n in range(inputs):
        alive[n] |= work.room[x + n] != 0
    count = 0
    for n in range(inputs + 1):
        rows[count] = n
        count += alive[n]
    return count


@compiled
def update_and_forward_own(work, update, x, next_x, count, thread, threads):
    """The first layer's update in this thread's panels, and its y for the next example."""
    room = work.room
    inputs, units = entry(work, 0, INPUTS) + 1, entry(work, 0, UNITS)
    panels = panels_of(units)
    for panel in range(panels * thread // threads, panels * (thread + 1) // threads):
        vectors, z = vectors_of(units, panel), work.sizes[Z] + panel * WIDE
        for lane in range(vectors * LANES):
            room[z + lane] = 0
        w = entry(work, 0, WEIGHTS) + panel * WIDE * inputs
        call(
            work.functions[FORWARD], at(work.weights, w), at(work.slot_1, w), at(work.slot_2, w),
            at(work.rows, thread * work.sizes[WIDEST]), count, at(room, x), at(room, entry(work, 0, DZ) + panel * WIDE),
            at(room, next_x), at(room, z), vectors, at(work.steps, update * MOST_CONSTANTS),
        )  # fmt: skip
        call(entry(work, 0, ACTIVATE), at(room, entry(work, 0, Y) + panel * WIDE), 0, at(room, z), 1, vectors)
        if units < panel * WIDE + vectors * LANES:
            room[entry(work, 0, Y) + units] = 1


@compiled
def infer(arrays, thread, threads):
    """The logits of all examples of the order, as one of `threads` threads."""
    work = pointers(arrays)
    batch, layers, goal = work.sizes[BATCH], work.sizes[LAYERS], 0
    for update in range((work.sizes[EXAMPLES] + batch - 1) // batch):
        first = update * batch
        rows = min(batch, work.sizes[EXAMPLES] - first)
        gather_batch(work, update, thread, threads)
        goal += threads
        if not meet(work, goal):
            return
        x_0 = entry(work, 0, X) + update % 2 * work.sizes[X_BUFFER]
        for layer in range(layers):
            forward(work, layer, x_0 if layer == 0 else entry(work, layer, X), rows, thread, threads)
            goal += threads
            if not meet(work, goal):
                return
        y, stride, units = entry(work, layers - 1, Y), entry(work, layers - 1, Y_STRIDE), entry(work, layers - 1, UNITS)
        for row in range(rows * thread // threads, rows * (thread + 1) // threads):
            for unit in range(units):
                work.logits[(first + row) * units + unit] = work.room[y + row * stride + unit]
