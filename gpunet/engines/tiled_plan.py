"""The tiled engine's choice: from shapes and device to kernel, compile-time parameters and launch geometry.

Batch 1 is a matrix-vector product, bound by memory: kernels that read each weight once and share nothing. Larger
batches are tiled matrix products; where the tiles are too few to fill the GPU, blocks split the inner dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gpunet.layers import HIDDEN_ACTIVATIONS

VECTOR_BATCH = 2  # up to this many examples, matrix-vector kernels
VECTOR_THREADS = 256
VECTOR_COLUMNS = 8  # units a block of kernels/dense_forward_vector.cu computes
VECTOR_WARPS = 8  # inputs a block of kernels/dense_backward_vector.cu computes
SOFTMAX_ROWS = 4  # rows a block of kernels/softmax_cross_entropy.cu computes
BLOCKS_PER_MULTIPROCESSOR = 2  # how many a split of the inner dimension aims at
MAX_SPLIT = 32

OPTIMIZERS = ("adam", "momentum", "sgd")  # as in kernels/optimizer.cuh

# The names of activations that would be functions of C's library are spelt out in kernels/activation.cuh.
ACTIVATION_NAMES = {name: name for name in HIDDEN_ACTIVATIONS} | {"tanh": "hyperbolic_tangent"}

Defines = dict[str, int | str]


class Hardware(Protocol):
    """What of a device decides."""

    capability: tuple[int, int]
    multiprocessors: int


class Tile(NamedTuple):
    """A block's share of a matrix product, m x n results, and a thread's share of that; see kernels/product.cuh."""

    m: int
    n: int
    k: int
    thread_m: int
    thread_n: int
    resident_blocks: int  # a multiprocessor, promised to the compiler

    @property
    def threads(self) -> int:
        return (self.m // self.thread_m) * (self.n // self.thread_n)

    @property
    def defines(self) -> Defines:
        return {
            "TILE_M": self.m,
            "TILE_N": self.n,
            "TILE_K": self.k,
            "THREAD_M": self.thread_m,
            "THREAD_N": self.thread_n,
            "RESIDENT_BLOCKS": self.resident_blocks,
        }


SMALL = Tile(16, 64, 16, 2, 4, resident_blocks=5)
MEDIUM = Tile(64, 64, 16, 4, 4, resident_blocks=3)
LARGE = Tile(128, 128, 8, 8, 8, resident_blocks=1)
LARGE_TWICE = LARGE._replace(resident_blocks=2)
# Two large blocks an SM leave 128 registers a thread. That is enough for the forward and backward products here;
# elsewhere, and for the optimizer's step, the compiler would spill.
LARGE_TWICE_CAPABILITIES = (7, 8, 9)


@dataclass(frozen=True)
class Configuration:
    """A kernel as it is compiled. The source file kernels/<kernel>.cu holds the function of the same name.

    tile: None for kernels that do not multiply tiles; those that do can split the inner dimension.
    """

    kernel: str
    defines: tuple[tuple[str, int | str], ...]
    threads: int
    resident_blocks: int
    tile: Tile | None = None


@dataclass(frozen=True)
class Launch:
    """A configuration with its grid. split: blocks that share a tile's inner dimension (the grid's third)."""

    configuration: Configuration
    grid: tuple[int, int, int]

    @property
    def tiles(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def split(self) -> int:
        return self.grid[2]

    @property
    def shared_numbers(self) -> int:
        """Floats that the blocks of a split leave for one another; see kernels/product.cuh."""
        tile = self.configuration.tile
        return self.tiles * self.split * tile.m * tile.n if tile and self.split > 1 else 0


def dense_forward(
    input_bytes: bool, activation: str, batch: int, inputs: int, units: int, hardware: Hardware
) -> Launch:
    """For y (batch, units) = activation(x (batch, inputs) weights + bias). input_bytes: x is uint8."""
    if batch <= VECTOR_BATCH:
        return Launch(_forward_vector(input_bytes, activation), (ceil_div(units, VECTOR_COLUMNS), batch, 1))
    tile = choose_tile(batch, units, hardware, large_tile(hardware.capability))
    return Launch(_forward(input_bytes, activation, tile), tiled_grid(tile, batch, units, inputs, hardware))


def softmax_cross_entropy(classes_as_targets: bool, batch: int) -> Launch:
    """For the loss and the gradient of logits (batch, classes). classes_as_targets: integers, not probabilities."""
    return Launch(_softmax_cross_entropy(classes_as_targets), (ceil_div(batch, SOFTMAX_ROWS), 1, 1))


def dense_backward(activation: str, batch: int, inputs: int, units: int, hardware: Hardware) -> Launch:
    """For dz_previous (batch, inputs) from dz (batch, units). activation: the previous layer's."""
    if batch <= VECTOR_BATCH:
        return Launch(_backward_vector(activation), (ceil_div(inputs, VECTOR_WARPS), batch, 1))
    tile = choose_tile(batch, inputs, hardware, large_tile(hardware.capability))
    return Launch(_backward(activation, tile), tiled_grid(tile, batch, inputs, units, hardware))


def dense_update(input_bytes: bool, optimizer: str, batch: int, inputs: int, units: int, hardware: Hardware) -> Launch:
    """For the step of weights (inputs + 1, units), from x (batch, inputs) and dz (batch, units)."""
    rows = inputs + 1  # the bias is the last
    if batch <= VECTOR_BATCH:
        fours = rows * ceil_div(units, 4)
        return Launch(_update_vector(input_bytes, optimizer), (ceil_div(fours, VECTOR_THREADS), 1, 1))
    tile = choose_tile(rows, units, hardware, LARGE)
    return Launch(_update(input_bytes, optimizer, tile), tiled_grid(tile, rows, units, batch, hardware))


def choose_tile(m: int, n: int, hardware: Hardware, large: Tile) -> Tile:
    """The largest tile that still gives every multiprocessor a block, and is not mostly empty."""
    if tiles(large, m, n) >= hardware.multiprocessors:
        return large
    return MEDIUM if m > SMALL.m else SMALL


def large_tile(capability: tuple[int, int]) -> Tile:
    return LARGE_TWICE if capability[0] in LARGE_TWICE_CAPABILITIES else LARGE


def tiled_grid(tile: Tile, m: int, n: int, k: int, hardware: Hardware) -> tuple[int, int, int]:
    """Tiles of n, tiles of m, and as many shares of k as it takes to fill the multiprocessors."""
    wanted = BLOCKS_PER_MULTIPROCESSOR * hardware.multiprocessors
    split = max(1, min(wanted // tiles(tile, m, n), ceil_div(k, tile.k), MAX_SPLIT))
    return ceil_div(n, tile.n), ceil_div(m, tile.m), split


def tiles(tile: Tile, m: int, n: int) -> int:
    return ceil_div(m, tile.m) * ceil_div(n, tile.n)


def configurations(capability: tuple[int, int]) -> Iterator[Configuration]:
    """Every kernel in every configuration that the engine can ask for on a device of this compute capability."""
    matrix_tiles = (SMALL, MEDIUM, large_tile(capability))
    for activation in HIDDEN_ACTIVATIONS:
        for input_bytes in (False, True):
            yield _forward_vector(input_bytes, activation)
            for tile in matrix_tiles:
                yield _forward(input_bytes, activation, tile)
        yield _backward_vector(activation)
        for tile in matrix_tiles:
            yield _backward(activation, tile)
    for optimizer in OPTIMIZERS:
        for input_bytes in (False, True):
            yield _update_vector(input_bytes, optimizer)
            for tile in (SMALL, MEDIUM, LARGE):
                yield _update(input_bytes, optimizer, tile)
    for classes_as_targets in (False, True):
        yield _softmax_cross_entropy(classes_as_targets)


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _forward(input_bytes: bool, activation: str, tile: Tile) -> Configuration:
    return _tiled("dense_forward", tile, ACTIVATION=ACTIVATION_NAMES[activation], INPUT_BYTES=int(input_bytes))


def _forward_vector(input_bytes: bool, activation: str) -> Configuration:
    defines: Defines = {"ACTIVATION": ACTIVATION_NAMES[activation], "INPUT_BYTES": int(input_bytes)}
    return Configuration("dense_forward_vector", _sorted(defines), VECTOR_THREADS, resident_blocks=4)


def _backward(activation: str, tile: Tile) -> Configuration:
    return _tiled("dense_backward", tile, ACTIVATION=ACTIVATION_NAMES[activation])


def _backward_vector(activation: str) -> Configuration:
    defines: Defines = {"ACTIVATION": ACTIVATION_NAMES[activation]}
    return Configuration("dense_backward_vector", _sorted(defines), VECTOR_THREADS, resident_blocks=4)


def _update(input_bytes: bool, optimizer: str, tile: Tile) -> Configuration:
    return _tiled("dense_update", tile, OPTIMIZER=optimizer, INPUT_BYTES=int(input_bytes))


def _update_vector(input_bytes: bool, optimizer: str) -> Configuration:
    defines: Defines = {"OPTIMIZER": optimizer, "INPUT_BYTES": int(input_bytes)}
    return Configuration("dense_update_vector", _sorted(defines), VECTOR_THREADS, resident_blocks=4)


def _softmax_cross_entropy(classes_as_targets: bool) -> Configuration:
    defines: Defines = {"TARGETS_ARE_CLASSES": int(classes_as_targets)}
    return Configuration("softmax_cross_entropy", _sorted(defines), 32 * SOFTMAX_ROWS, resident_blocks=8)


def _tiled(kernel: str, tile: Tile, **defines: int | str) -> Configuration:
    return Configuration(kernel, _sorted({**tile.defines, **defines}), tile.threads, tile.resident_blocks, tile)


def _sorted(defines: Defines) -> tuple[tuple[str, int | str], ...]:
    return tuple(sorted(defines.items()))
