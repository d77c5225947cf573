"""Parts of both CUDA engines' plans: a kernel as it is compiled, its launch, and what a plan needs from a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from gpunet.layers import HIDDEN_ACTIVATIONS

# Names that C's library uses for functions have longer names in kernels/activation.cuh.
ACTIVATION_NAMES = {name: name for name in HIDDEN_ACTIVATIONS} | {"tanh": "hyperbolic_tangent"}

Defines = dict[str, int | str]


class Hardware(Protocol):
    """What a plan depends on. shared_bytes: the most shared memory that a block may request; sm_shared_bytes: that all
    blocks of a multiprocessor have together.
    """

    @property
    def capability(self) -> tuple[int, int]: ...

    @property
    def multiprocessors(self) -> int: ...

    @property
    def shared_bytes(self) -> int: ...

    @property
    def sm_shared_bytes(self) -> int: ...

    @property
    def cooperative(self) -> bool: ...


class Tile(NamedTuple):
    """A block's part of a matrix product, m x n results, and a thread's part of that; see kernels/product.cuh."""

    m: int
    n: int
    k: int
    thread_m: int
    thread_n: int
    resident_blocks: int  # per multiprocessor, promised to the compiler

    @property
    def threads(self) -> int:
        return (self.m // self.thread_m) * (self.n // self.thread_n)

    @property
    def multiply_adds(self) -> int:
        """Per thread and panel."""
        return self.thread_m * self.thread_n * self.k

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


@dataclass(frozen=True)
class Configuration:
    """A kernel as it is compiled. The source file kernels/<kernel>.cu holds the function of the same name.

    tile:         None for kernels without tiles; kernels with tiles can split the inner dimension.
    shared_bytes: dynamic shared memory that a launch requests.
    """

    kernel: str
    defines: tuple[tuple[str, int | str], ...]
    threads: int
    resident_blocks: int
    tile: Tile | None = None
    shared_bytes: int = 0


Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Launch:
    """A configuration with its grid.

    products: the grids of the tiled products that it computes: tiles of n, tiles of m, and blocks that share a tile's
              terms. Of one, that is the launch's grid; of several, their blocks follow one another in it.
    counts:   what a kernel for two operations is told of each besides its sizes, to know which blocks are whose.
    """

    configuration: Configuration
    grid: Grid
    products: tuple[Grid, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()

    @property
    def tiles(self) -> int:
        return sum(x * y for x, y, _ in self.products)

    @property
    def shared_numbers(self) -> int:
        """Floats of workspace in which the blocks of a split pass on their parts; see kernels/product.cuh."""
        tile = self.configuration.tile
        return sum(x * y * split * tile.m * tile.n for x, y, split in self.products if split > 1) if tile else 0


def in_order(defines: Defines) -> tuple[tuple[str, int | str], ...]:
    """The compile-time parameters by name, so that equal configurations compare equal."""
    return tuple(sorted(defines.items()))


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def padded(columns: int) -> int:
    """The stride of a matrix on the device: rows are padded to a multiple of 4 elements (kernels/matrix.cuh)."""
    return 4 * ceil_div(columns, 4)
