"""The tiled engine's choice: from shapes and device to kernel, compile-time parameters and launch geometry.

Batch 1 is a matrix-vector product, bound by memory: kernels that read each weight once and share nothing. Larger
batches are tiled matrix products; where the tiles are too few to fill the GPU, blocks split the inner dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from gpunet.engines.cuda.configuration import (
    ACTIVATION_NAMES,
    Configuration,
    Defines,
    Hardware,
    Launch,
    Tile,
    ceil_div,
    in_order,
)
from gpunet.layers import HIDDEN_ACTIVATIONS
from gpunet.optimizers import RULES

VECTOR_THREADS = 256
VECTOR_COLUMNS = 8  # units a block of kernels/dense_forward_vector.cu computes
VECTOR_WARPS = 8  # inputs a block of kernels/dense_backward_vector.cu computes
SOFTMAX_ROWS = 4  # rows a block of kernels/softmax_cross_entropy.cu computes
VECTOR_UPDATE_BATCH = 16  # up to this many, the optimizer's step without tiles: it is bound by the weights' bytes
SPLITS = tuple(range(1, 17))
MOST_ARITHMETIC = "softplus"  # the activation with the longest code, forward and back
# The rule whose step needs the most: that with the most constants.
MOST_REGISTERS = max(RULES, key=lambda name: RULES[name].constants(np.ones(1, np.int64)).shape[1])


class Profile(NamedTuple):
    """What of a compute capability decides; see PROFILES."""

    multiply_adds: int
    vector_batch: int


# What a multiprocessor does in a clock cycle, and from which batch size on tiles pay, by the first compute capability
# that it is so for.
#   multiply_adds  CUDA C++ Programming Guide, "Arithmetic Instructions": 32-bit floating-point multiply-add
#   vector_batch   up to so many examples, matrix-vector products. 6: in cycle-level simulations of an H100-like GPU a
#                  vector forward launch takes 4,000 cycles and 850 more for each further example, a tiled one 8,400.
#                  2, where the cache holds little more than the weights: an estimate
PROFILES = {
    (5, 0): Profile(multiply_adds=128, vector_batch=2),
    (6, 0): Profile(multiply_adds=64, vector_batch=2),
    (6, 1): Profile(multiply_adds=128, vector_batch=2),
    (7, 0): Profile(multiply_adds=64, vector_batch=2),
    (8, 0): Profile(multiply_adds=64, vector_batch=6),
    (8, 6): Profile(multiply_adds=128, vector_batch=6),
}

# For the comparison of tilings: of a multiprocessor, in clock cycles. Estimates, to be replaced by measurements; the
# first two are from a timing model of the machine code (docs/performance.md).
PANEL_LATENCY = 450  # from one panel to the next, if nothing but waiting bounds it
READ_COST = 1  # of a number from shared memory, in multiply-adds of a thread
CACHE_BYTES_A_CYCLE = 32  # to and from the second-level cache
SPLIT_LATENCY = 2500  # fences, counting the arrivals, and the first shares
SHARE_LATENCY = 150  # each share that the last block adds, at the least


def profile(capability: tuple[int, int]) -> Profile:
    """Of the newest compute capability in the table that is not newer than this one."""
    return PROFILES[max((known for known in PROFILES if known <= capability), default=min(PROFILES))]


SMALL = Tile(16, 64, 16, 2, 4, resident_blocks=5)
MEDIUM = Tile(64, 64, 16, 4, 4, resident_blocks=3)
LARGE = Tile(128, 128, 8, 8, 8, resident_blocks=2)


def tiles_for(capability: tuple[int, int], optimizer_step: bool = False) -> tuple[Tile, Tile, Tile]:
    """The tiles for a compute capability, small to large, with as many resident blocks as go without spilled registers.

    For compute capability 12, three medium blocks leave too few registers, and so do two large ones whose products end
    in an optimizer step.
    """
    if capability[0] < 12:
        return SMALL, MEDIUM, LARGE
    return SMALL, MEDIUM._replace(resident_blocks=2), LARGE._replace(resident_blocks=1) if optimizer_step else LARGE


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
    tile, grid = choose_tiling(batch, units, inputs, tiles_for(hardware.capability), hardware)
    return Launch(_forward(input_bytes, activation, tile, dropout), grid)


def softmax_cross_entropy(classes_as_targets: bool, batch: int, weighted: bool = False) -> Launch:
    """For the loss and the gradient of logits (batch, classes). classes_as_targets: integers, not probabilities;
    weighted: each example has a weight.
    """
    return Launch(_softmax_cross_entropy(classes_as_targets, weighted), (ceil_div(batch, SOFTMAX_ROWS), 1, 1))


def dense_backward(
    activation: str, batch: int, inputs: int, units: int, hardware: Hardware, dropout: bool = False
) -> Launch:
    """For dz_previous (batch, inputs) from dz (batch, units). activation, dropout: the previous layer's."""
    if batch <= profile(hardware.capability).vector_batch:
        return Launch(_backward_vector(activation, dropout), (ceil_div(inputs, VECTOR_WARPS), batch, 1))
    tile, grid = choose_tiling(batch, inputs, units, tiles_for(hardware.capability), hardware)
    return Launch(_backward(activation, tile, dropout), grid)


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

    bias: has it any? l2: is there a penalty on the weights?
    """
    rows = inputs + 1  # the bias is the last
    if batch <= VECTOR_UPDATE_BATCH:
        fours = rows * ceil_div(units, 4)
        return Launch(_update_vector(input_bytes, optimizer, bias, l2), (ceil_div(fours, VECTOR_THREADS), 1, 1))
    tile, grid = choose_tiling(rows, units, batch, tiles_for(hardware.capability, optimizer_step=True), hardware)
    return Launch(_update(input_bytes, optimizer, tile, bias, l2), grid)


def choose_tiling(
    m: int, n: int, k: int, tiles: Sequence[Tile], hardware: Hardware
) -> tuple[Tile, tuple[int, int, int]]:
    """Tile and grid for m x n sums of k terms: the cheapest by `estimated_cycles`.

    The grid: tiles of n, tiles of m, and blocks that share a tile's terms.
    """
    candidates = [(tile, split) for tile in tiles for split in SPLITS if split <= ceil_div(k, tile.k)]
    tile, split = min(candidates, key=lambda one: estimated_cycles(one[0], one[1], m, n, k, hardware))
    return tile, (ceil_div(n, tile.n), ceil_div(m, tile.m), split)


def estimated_cycles(tile: Tile, split: int, m: int, n: int, k: int, hardware: Hardware) -> float:
    """Clock cycles of a tiled product, to compare tilings with; the constants are estimates, not measurements."""
    blocks = ceil_div(m, tile.m) * ceil_div(n, tile.n) * split
    panels = ceil_div(ceil_div(k, tile.k), split)
    rounds = ceil_div(blocks, hardware.multiprocessors)  # blocks that the busiest multiprocessor works through
    waves = ceil_div(blocks, hardware.multiprocessors * tile.resident_blocks)
    # A thread reads thread_m + thread_n numbers from shared memory for thread_m * thread_n multiply-adds.
    reads = (tile.thread_m + tile.thread_n) / (tile.thread_m * tile.thread_n)
    panel = tile.m * tile.n * tile.k / profile(hardware.capability).multiply_adds * (1 + READ_COST * reads)
    cycles = max(rounds * panels * panel, waves * (panels + 1) * PANEL_LATENCY)
    if split == 1:
        return cycles
    share = 4 * tile.m * tile.n / CACHE_BYTES_A_CYCLE
    # All blocks write their shares at once; the last of a tile reads them all through its own multiprocessor.
    return cycles + rounds * share + SPLIT_LATENCY + split * max(share, SHARE_LATENCY)


def configurations(capability: tuple[int, int]) -> Iterator[Configuration]:
    """Every kernel in every configuration that the engine can ask for on a device of this compute capability.

    With a penalty or dropout only what needs the most registers without.
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
        for tile in tiles_for(capability, optimizer_step=True):
            yield _update(input_bytes, optimizer, tile, bias, l2)
    for classes_as_targets in (False, True):
        for weighted in (False, True):
            yield _softmax_cross_entropy(classes_as_targets, weighted)


def _activated(activation: str, dropout: bool) -> Defines:
    """A layer without dropout says nothing of it."""
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
    """A layer with biases and without a penalty says nothing of either."""
    more = {"BIAS": (0, not bias), "L2": (1, l2)}
    said: Defines = {name: value for name, (value, is_said) in more.items() if is_said}
    return {"OPTIMIZER": optimizer, "INPUT_BYTES": int(input_bytes), **said}


def _update_vector(input_bytes: bool, optimizer: str, bias: bool, l2: bool) -> Configuration:
    defines = _of_update(input_bytes, optimizer, bias, l2)
    return Configuration("dense_update_vector", in_order(defines), VECTOR_THREADS, resident_blocks=4)


def _softmax_cross_entropy(classes_as_targets: bool, weighted: bool) -> Configuration:
    defines: Defines = {"TARGETS_ARE_CLASSES": int(classes_as_targets), **({"WEIGHTED": 1} if weighted else {})}
    return Configuration("softmax_cross_entropy", in_order(defines), 32 * SOFTMAX_ROWS, resident_blocks=8)


def _tiled(kernel: str, tile: Tile, **defines: int | str) -> Configuration:
    return Configuration(kernel, in_order({**tile.defines, **defines}), tile.threads, tile.resident_blocks, tile)
