"""Dropout's random numbers, the same on every engine: which units are dropped, and by what the others are multiplied.

A unit's number depends on the epoch's key, the layer, the unit and the example's position in the epoch, and on nothing
else: not on batches, launches, threads or the engine. It is one of the four words of Philox4x32-10, whose counter is
(unit // 4, position, layer, 0). Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunet.layers import Network

Key = tuple[int, int]  # two words of 32 bits
NO_KEY: Key = (0, 0)
ROUNDS = 10
FACTORS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
MASK = np.uint64(0xFFFFFFFF)
NUMBERS = 4  # of a row of `table`


class Drop(NamedTuple):
    """A unit is dropped if its word is below the threshold; else its activation is multiplied by scale, 1 / (1 - rate).

    threshold: at most 2^32 - 1. scale: a float32.
    """

    threshold: int
    scale: float


def drop_of(rate: float) -> Drop:
    return Drop(min(round(rate * 2**32), 2**32 - 1), float(np.float32(1 / (1 - rate))))


def table(network: Network, key: Key) -> NDArray[np.uint32]:
    """(1 + layers, 4): the key, then each layer's threshold and the bits of its scale, for kernels and loops."""
    rows = np.zeros((1 + network.layers, NUMBERS), np.uint32)
    rows[0, :2] = key
    for layer, rate in enumerate(network.dropout, start=1):
        drop = drop_of(rate)
        rows[layer, :2] = drop.threshold, np.float32(drop.scale).view(np.uint32)
    return rows


def factors(network: Network, key: Key, layer: int, first: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """What a layer's activations (examples, units) are multiplied by: 0 or the scale.

    first: the first example's position in the epoch. layer: counted from 0.
    """
    examples, units = shape
    fours = np.arange(-(-units // 4), dtype=np.uint64)
    positions = np.arange(first, first + examples, dtype=np.uint64)[:, np.newaxis]
    words = philox((fours, positions, np.uint64(layer), np.uint64(0)), key)
    in_order = np.stack(np.broadcast_arrays(*words), axis=-1).reshape(examples, -1)[:, :units]
    drop = drop_of(network.dropout[layer])
    return np.where(in_order < drop.threshold, np.float32(0), np.float32(drop.scale))


def philox(counter: tuple[Any, Any, Any, Any], key: Key) -> tuple[Any, Any, Any, Any]:
    """Four random words (uint64 arrays of numbers below 2^32) for a counter and a key of such words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        p0, p1 = c0 * np.uint64(FACTORS[0]), c2 * np.uint64(FACTORS[1])
        c0, c1, c2, c3 = (
            (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0),
            p1 & MASK,
            (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1),
            p0 & MASK,
        )
        k0, k1 = (k0 + KEY_STEPS[0]) % 2**32, (k1 + KEY_STEPS[1]) % 2**32
    return c0, c1, c2, c3
