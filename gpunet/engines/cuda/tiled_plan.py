"""The tiled engine's choice: from shapes and device to kernel, compile-time parameters and launch geometry.

At batch 1, a layer is a matrix-vector product, bound by memory: its kernels read each weight once and share nothing.
Larger batches are tiled matrix products; where there are too few tiles to fill the GPU, blocks split the inner
dimension.

Independent operations share a launch: a layer's backward pass beside the update of the layer above, and the updates of
the first two layers. The forward pass, loss and backward pass of a small output layer are one launch too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gpunet.engines.cuda.configuration import (
    ACTIVATION_NAMES,
    Configuration,
    Defines,
    Grid,
    Hardware,
    Launch,
    Tile,
    ceil_div,
    in_order,
)
from gpunet.layers import HIDDEN_ACTIVATIONS
from gpunet.optimizers import RULES

VECTOR_THREADS = 256
VECTOR_COLUMNS = 8  # units that a block of kernels/dense_forward_vector.cu computes
VECTOR_WARPS = 8  # inputs that a block of kernels/dense_backward_vector.cu computes
SOFTMAX_ROWS = 4  # rows that a block of kernels/softmax_cross_entropy.cu computes
OUTPUT_THREADS = 256  # of a block of kernels/dense_output.cu, which computes a row
OUTPUT_CLASSES = 32  # the most that this kernel takes
VECTOR_UPDATE_BATCH = 16  # up to this many examples, optimizer steps need no tiles: moving the weights bounds them
SPLITS = tuple(range(1, 17))
MOST_ARITHMETIC = "softplus"  # the activation with the longest code, forward and back
# The rule whose step needs the most registers: the one with the most constants.
MOST_REGISTERS = max(RULES, key=lambda name: RULES[name].constants(np.ones(1, np.int64)).shape[1])


class Profile(NamedTuple):
    """What matters about a compute capability; see PROFILES."""

    multiply_adds: int
    vector_batch: int


# What a multiprocessor does in a clock cycle, and up to which batch size tiles do not pay, by the first compute
# capability for which this holds.
#   multiply_adds  CUDA C++ Programming Guide, "Arithmetic Instructions": 32-bit floating-point multiply-add
#   vector_batch   matrix-vector products up to this many examples. 6: in cycle-level simulations of an H100-like GPU, a
#                  vector forward launch takes 4,000 cycles and 850 more for each further example, a tiled one 8,400.
#                  2, where the cache holds little more than the weights, is an estimate
PROFILES = {
    (5, 0): Profile(multiply_adds=128, vector_batch=2),
    (6, 0): Profile(multiply_adds=64, vector_batch=2),
    (6, 1): Profile(multiply_adds=128, vector_batch=2),
    (7, 0): Profile(multiply_adds=64, vector_batch=2),
    (8, 0): Profile(multiply_adds=64, vector_batch=6),
    (8, 6): Profile(multiply_adds=128, vector_batch=6),
}

# For comparing tilings, in clock cycles of a multiprocessor. Estimates, to be replaced by measurements; the first two
# are from a timing model of the machine code (docs/performance.md).
LAUNCH_CYCLES = 2300  # from one kernel of a graph to the next
PANEL_LATENCY = 450  # from one panel to the next, if bound by latency alone
READ_COST = 1  # to read a number from shared memory, in multiply-adds of a thread
CACHE_BYTES_A_CYCLE = 32  # to and from the second-level cache
SPLIT_LATENCY = 2500  # fences, counting the arrivals, and the first shares
SHARE_LATENCY = 150  # for each share that the last block adds, at least


def profile(capability: tuple[int, int]) -> Profile:
    """The profile of the newest compute capability in the table that is not newer than this one."""
    return PROFILES[max((known for known in PROFILES if known <= capability), default=min(PROFILES))]


SMALL = Tile(16, 64, 16, 2, 4, resident_blocks=5)
MEDIUM = Tile(64, 64, 16, 4, 4, resident_blocks=3)
LARGE = Tile(128, 128, 8, 8, 8, resident_blocks=2)


def tiles_for(capability: tuple[int, int], step: bool = False, several: bool = False) -> tuple[Tile, ...]:
    """The tiles for a compute capability, small to large, with as many resident blocks as fit without register spills.

    For compute capability 12, three medium blocks leave too few registers, and so do two large ones whose products end
    in an optimizer `step`. In launches of `several` products, a block needs registers for the position of its tile. A
    block with a large tile has none left.
    """
    newest = capability[0] >= 12
    medium = MEDIUM._replace(resident_blocks=2) if newest else MEDIUM
    if several:
        return SMALL, medium
    return SMALL, medium, LARGE._replace(resident_blocks=1) if step and newest else LARGE


class Product(NamedTuple):
    """m x n sums of k terms. step_bytes: what an optimizer's step after each sum reads and writes."""

    m: int
    n: int
    k: int
    step_bytes: int = 0


def dense_forward(
    input_bytes: bool,
    activation: str,
    batch: int,
    inputs: int,
    units: int,
    hardware: Hardware,
    dropout: bool = False,
) -> Launch:
    """For y (batch, units) = activation(x (batch, inputs) weights + bias). input_bytes: x is uint8. dropout: of y."""
    if batch <= profile(hardware.capability).vector_batch:
        return Launch(_forward_vector(input_bytes, activation, dropout), (ceil_div(units, VECTOR_COLUMNS), batch, 1))
    tile, (grid,) = choose_tiling([Product(batch, units, inputs)], tiles_for(hardware.capability), hardware)
    return Launch(_forward(input_bytes, activation, tile, dropout), grid, (grid,))


def softmax_cross_entropy(classes_as_targets: bool, batch: int, weighted: bool = False) -> Launch:
    """For the loss and the gradient of logits (batch, classes). classes_as_targets: integers, not probabilities.
    weighted: each example has a weight.
    """
    return Launch(_softmax_cross_entropy(classes_as_targets, weighted), (ceil_div(batch, SOFTMAX_ROWS), 1, 1))


def dense_output(
    input_bytes: bool, activation: str, classes_as_targets: bool, batch: int, weighted: bool = False
) -> Launch:
    """For the forward pass, the loss and the backward pass of an output layer of at most OUTPUT_CLASSES units.

    activation: the previous layer's. classes_as_targets, weighted: as in softmax_cross_entropy.
    """
    return Launch(_output(input_bytes, activation, classes_as_targets, weighted), (batch, 1, 1))


def dense_backward(
    activation: str, batch: int, inputs: int, units: int, hardware: Hardware, dropout: bool = False
) -> Launch:
    """For dz_previous (batch, inputs) from dz (batch, units). activation, dropout: the previous layer's."""
    if batch <= profile(hardware.capability).vector_batch:
        return Launch(_backward_vector(activation, dropout), (ceil_div(inputs, VECTOR_WARPS), batch, 1))
    tile, (grid,) = choose_tiling([Product(batch, inputs, units)], tiles_for(hardware.capability), hardware)
    return Launch(_backward(activation, tile, dropout), grid, (grid,))


def dense_update(
    input_bytes: bool,
    optimizer: str,
    batch: int,
    inputs: int,
    units: int,
    hardware: Hardware,
    bias: bool = True,
    l2: bool = False,
) -> Launch:
    """For the step of weights (inputs + 1, units), from x (batch, inputs) and dz (batch, units).

    bias: has the layer biases? l2: is there a penalty on its weights?
    """
    if batch <= VECTOR_UPDATE_BATCH:
        return Launch(_update_vector(input_bytes, optimizer, bias, l2), (vector_update_blocks(inputs, units), 1, 1))
    product = update_product(optimizer, batch, inputs, units)
    tile, (grid,) = choose_tiling([product], tiles_for(hardware.capability, step=True), hardware)
    return Launch(_update(input_bytes, optimizer, tile, bias, l2), grid, (grid,))


def dense_update_pair(
    input_bytes: bool,
    optimizer: str,
    batch: int,
    widths: tuple[int, int, int],
    hardware: Hardware,
    bias: bool = True,
    l2: bool = False,
) -> Launch | None:
    """For the steps of the two layers between these widths; the first layer reads the images.

    bias: both have biases, or neither has. l2: is there a penalty on the weights of one or both?
    None if two launches are estimated to take less time: for large batches, whose tiles are too large for this.
    """
    layers = list(itertools.pairwise(widths))
    if batch <= VECTOR_UPDATE_BATCH:
        first, second = (vector_update_blocks(*layer) for layer in layers)
        return Launch(
            _update_pair_vector(input_bytes, optimizer, bias, l2), (first + second, 1, 1), counts=((first,), ())
        )
    chosen = _chosen_together([update_product(optimizer, batch, *layer) for layer in layers], hardware)
    return chosen and _launch_of_several(_update_pair(input_bytes, optimizer, chosen[0], bias, l2), chosen[1])


def dense_backward_update(
    activation: str,
    optimizer: str,
    batch: int,
    widths: tuple[int, int, int],
    hardware: Hardware,
    bias: bool = True,
    l2: bool = False,
) -> Launch | None:
    """For the backward pass of the first of the two layers between these widths, and the step of the second.

    activation: of the layer before both. bias, l2: of the second, as in dense_update. None: as in dense_update_pair.
    """
    inputs, units, upper_units = widths
    if batch <= profile(hardware.capability).vector_batch:
        blocks = ceil_div(inputs, VECTOR_WARPS)
        grid = (blocks * batch + vector_update_blocks(units, upper_units), 1, 1)
        return Launch(_backward_update_vector(activation, optimizer, bias, l2), grid, counts=((blocks,), ()))
    products = [Product(batch, inputs, units), update_product(optimizer, batch, units, upper_units)]
    chosen = _chosen_together(products, hardware)
    return chosen and _launch_of_several(_backward_update(activation, optimizer, chosen[0], bias, l2), chosen[1])


def update_product(optimizer: str, batch: int, inputs: int, units: int) -> Product:
    """The product that gives the gradient of weights (inputs + 1, units), whose last row is the bias."""
    arrays = 1 + len(RULES[optimizer].slots)
    return Product(inputs + 1, units, batch, step_bytes=2 * 4 * arrays)


def vector_update_blocks(inputs: int, units: int) -> int:
    """Blocks of kernels/dense_update_vector.cu for a layer."""
    return ceil_div((inputs + 1) * ceil_div(units, 4), VECTOR_THREADS)


def _launch_of_several(configuration: Configuration, grids: tuple[Grid, ...]) -> Launch:
    return Launch(
        configuration, (sum(math.prod(grid) for grid in grids), 1, 1), grids, tuple((split,) for _, _, split in grids)
    )


def choose_tiling(
    products: Sequence[Product], tiles: Sequence[Tile], hardware: Hardware
) -> tuple[Tile, tuple[Grid, ...]]:
    """The tile for products in one launch, and a grid for each product: the cheapest by `estimated_cycles`.

    A grid is tiles of n, tiles of m, and blocks that share a tile's terms.
    """
    candidates = [
        (tile, splits)
        for tile in tiles
        for splits in itertools.product(*([n for n in SPLITS if n <= ceil_div(one.k, tile.k)] for one in products))
    ]
    tile, splits = min(candidates, key=lambda one: estimated_cycles(one[0], one[1], products, hardware))
    grids = [(*_tiles(tile, one), split) for one, split in zip(products, splits, strict=True)]
    return tile, tuple(grids)


def _chosen_together(products: Sequence[Product], hardware: Hardware) -> tuple[Tile, tuple[Grid, ...]] | None:
    """Tile and grids for products in one launch; None if a launch for each is estimated to take less time."""

    def least(some: Sequence[Product], tiles: Sequence[Tile]) -> tuple[float, Tile, tuple[Grid, ...]]:
        tile, grids = choose_tiling(some, tiles, hardware)
        return estimated_cycles(tile, [split for _, _, split in grids], some, hardware), tile, grids

    together, tile, grids = least(products, tiles_for(hardware.capability, several=True))
    apart = (least([one], tiles_for(hardware.capability, step=one.step_bytes > 0))[0] for one in products)
    return None if together > sum(apart) + LAUNCH_CYCLES * (len(products) - 1) else (tile, grids)


def _tiles(tile: Tile, product: Product) -> tuple[int, int]:
    return ceil_div(product.n, tile.n), ceil_div(product.m, tile.m)


def estimated_cycles(tile: Tile, splits: Sequence[int], products: Sequence[Product], hardware: Hardware) -> float:
    """Clock cycles of products in one launch, for comparing tilings; the constants are estimates, not measurements.

    splits: for each product, how many blocks share a tile.
    """
    tiles = [math.prod(_tiles(tile, one)) for one in products]
    blocks = [number * split for number, split in zip(tiles, splits, strict=True)]
    panels = [ceil_div(ceil_div(one.k, tile.k), split) for one, split in zip(products, splits, strict=True)]
    # A thread reads thread_m + thread_n numbers from shared memory for thread_m * thread_n multiply-adds.
    reads = (tile.thread_m + tile.thread_n) / (tile.thread_m * tile.thread_n)
    panel = tile.m * tile.n * tile.k / profile(hardware.capability).multiply_adds * (1 + READ_COST * reads)
    waits = [number + 1 for number in panels]
    cycles = max(
        panel * _longest_way(blocks, panels, hardware.multiprocessors),
        PANEL_LATENCY * _longest_way(blocks, waits, hardware.multiprocessors * tile.resident_blocks),
    )
    share = 4 * tile.m * tile.n / CACHE_BYTES_A_CYCLE
    adding = 0.0
    for number, split in zip(blocks, splits, strict=True):
        if split > 1:  # all blocks write their shares; the last of a tile reads them all through its multiprocessor
            cycles += ceil_div(number, hardware.multiprocessors) * share
            adding = max(adding, SPLIT_LATENCY + split * max(share, SHARE_LATENCY))
    # One block per tile makes the optimizer's steps: the more tiles, the more multiprocessors move the weights.
    stepped = [min(one.m, tile.m) * min(one.n, tile.n) * one.step_bytes for one in products]
    return cycles + adding + _longest_way(tiles, stepped, hardware.multiprocessors) / CACHE_BYTES_A_CYCLE


def _longest_way(blocks: Sequence[int], lengths: Sequence[int], places: int) -> int:
    """The total length at the busiest of these places, if blocks of these lengths are spread evenly."""
    shortest = min((length for length in lengths if length), default=1)
    total = sum(number * length for number, length in zip(blocks, lengths, strict=True))
    return max(*lengths, ceil_div(total, places * shortest) * shortest)


def configurations(capability: tuple[int, int]) -> Iterator[Configuration]:
    """Every kernel in every configuration that the engine can ask for on a device of this compute capability.

    Two exceptions. With a penalty or dropout: only the configuration that needs the most registers without it. Launches
    of several operations: only examples, because each operation is listed alone, and launches differ after their loops.
    """
    for activation in HIDDEN_ACTIVATIONS:
        for input_bytes in (False, True):
            yield _forward_vector(input_bytes, activation)
            for tile in tiles_for(capability):
                yield _forward(input_bytes, activation, tile)
        yield _backward_vector(activation)
        for tile in tiles_for(capability):
            yield _backward(activation, tile)
    yield _forward_vector(False, MOST_ARITHMETIC, dropout=True)
    yield _backward_vector(MOST_ARITHMETIC, dropout=True)
    for tile in tiles_for(capability):
        yield _forward(False, MOST_ARITHMETIC, tile, dropout=True)
        yield _backward(MOST_ARITHMETIC, tile, dropout=True)
    updates = [(input_bytes, optimizer, True, False) for optimizer in RULES for input_bytes in (False, True)]
    for input_bytes, optimizer, bias, l2 in [
        *updates,
        (True, "adam", False, False),
        (False, MOST_REGISTERS, True, True),
    ]:
        yield _update_vector(input_bytes, optimizer, bias, l2)
        for tile in tiles_for(capability, step=True):
            yield _update(input_bytes, optimizer, tile, bias, l2)
    for input_bytes, optimizer, l2 in [(False, "adam", False), (True, "adam", False), (True, MOST_REGISTERS, True)]:
        yield _update_pair_vector(input_bytes, optimizer, True, l2)
        for tile in tiles_for(capability, several=True):
            yield _update_pair(input_bytes, optimizer, tile, True, l2)
    for activation, optimizer, l2 in [("sigmoid", "adam", False), ("softplus", MOST_REGISTERS, True)]:
        yield _backward_update_vector(activation, optimizer, True, l2)
        for tile in tiles_for(capability, several=True):
            yield _backward_update(activation, optimizer, tile, True, l2)
    for input_bytes, activation in [(False, "sigmoid"), (False, "softplus"), (True, "linear")]:
        yield _output(input_bytes, activation, True, False)
        yield _output(input_bytes, activation, False, True)
    for classes_as_targets in (False, True):
        for weighted in (False, True):
            yield _softmax_cross_entropy(classes_as_targets, weighted)


def _activated(activation: str, dropout: bool) -> Defines:
    """DROPOUT is left out for a layer without dropout."""
    defines: Defines = {"ACTIVATION": ACTIVATION_NAMES[activation]}
    return defines if not dropout else {**defines, "DROPOUT": 1}


def _forward(input_bytes: bool, activation: str, tile: Tile, dropout: bool = False) -> Configuration:
    return _tiled("dense_forward", tile, **_activated(activation, dropout), INPUT_BYTES=int(input_bytes))


def _forward_vector(input_bytes: bool, activation: str, dropout: bool = False) -> Configuration:
    defines: Defines = {**_activated(activation, dropout), "INPUT_BYTES": int(input_bytes)}
    return Configuration("dense_forward_vector", in_order(defines), VECTOR_THREADS, resident_blocks=4)


def _backward(activation: str, tile: Tile, dropout: bool = False) -> Configuration:
    return _tiled("dense_backward", tile, **_activated(activation, dropout))


def _backward_vector(activation: str, dropout: bool = False) -> Configuration:
    defines = _activated(activation, dropout)
    return Configuration("dense_backward_vector", in_order(defines), VECTOR_THREADS, resident_blocks=4)


def _update(input_bytes: bool, optimizer: str, tile: Tile, bias: bool, l2: bool) -> Configuration:
    return _tiled("dense_update", tile, **_of_update(input_bytes, optimizer, bias, l2))


def _of_update(input_bytes: bool, optimizer: str, bias: bool, l2: bool) -> Defines:
    """BIAS is left out for a layer with biases, L2 for a layer without a penalty."""
    more = {"BIAS": (0, not bias), "L2": (1, l2)}
    said: Defines = {name: value for name, (value, is_said) in more.items() if is_said}
    return {"OPTIMIZER": optimizer, "INPUT_BYTES": int(input_bytes), **said}


def _update_vector(input_bytes: bool, optimizer: str, bias: bool, l2: bool) -> Configuration:
    defines = _of_update(input_bytes, optimizer, bias, l2)
    return Configuration("dense_update_vector", in_order(defines), VECTOR_THREADS, resident_blocks=4)


def _update_pair(input_bytes: bool, optimizer: str, tile: Tile, bias: bool, l2: bool) -> Configuration:
    return _tiled("dense_update_pair", tile, **_of_update(input_bytes, optimizer, bias, l2))


def _update_pair_vector(input_bytes: bool, optimizer: str, bias: bool, l2: bool) -> Configuration:
    defines = _of_update(input_bytes, optimizer, bias, l2)
    return Configuration("dense_update_pair_vector", in_order(defines), VECTOR_THREADS, resident_blocks=4)


def _backward_update(activation: str, optimizer: str, tile: Tile, bias: bool, l2: bool) -> Configuration:
    defines = {"ACTIVATION": ACTIVATION_NAMES[activation], **_of_update(False, optimizer, bias, l2)}
    return _tiled("dense_backward_update", tile, **defines)


def _backward_update_vector(activation: str, optimizer: str, bias: bool, l2: bool) -> Configuration:
    defines = {"ACTIVATION": ACTIVATION_NAMES[activation], **_of_update(False, optimizer, bias, l2)}
    return Configuration("dense_backward_update_vector", in_order(defines), VECTOR_THREADS, resident_blocks=4)


def _output(input_bytes: bool, activation: str, classes_as_targets: bool, weighted: bool) -> Configuration:
    defines: Defines = {
        "ACTIVATION": ACTIVATION_NAMES[activation],
        "INPUT_BYTES": int(input_bytes),
        "THREADS": OUTPUT_THREADS,
        "MOST_CLASSES": OUTPUT_CLASSES,
        **_of_loss(classes_as_targets, weighted),
    }
    return Configuration("dense_output", in_order(defines), OUTPUT_THREADS, resident_blocks=3)


def _of_loss(classes_as_targets: bool, weighted: bool) -> Defines:
    """WEIGHTED is left out if examples have no weights."""
    return {"TARGETS_ARE_CLASSES": int(classes_as_targets), **({"WEIGHTED": 1} if weighted else {})}


def _softmax_cross_entropy(classes_as_targets: bool, weighted: bool) -> Configuration:
    defines = _of_loss(classes_as_targets, weighted)
    return Configuration("softmax_cross_entropy", in_order(defines), 32 * SOFTMAX_ROWS, resident_blocks=8)


def _tiled(kernel: str, tile: Tile, **defines: int | str) -> Configuration:
    return Configuration(kernel, in_order({**tile.defines, **defines}), tile.threads, tile.resident_blocks, tile)
