"""Clock cycles of the tiled engine's updates, by a formula. An estimate: not yet measured on a GPU.

Its constants are those that its plan uses to compare tilings, and the cost of a launch. The persistent engine's formula
is in persistent_cycles.py; the two together say which engine is faster for an update.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from gpunet.engines.cuda import tiled_plan
from gpunet.engines.cuda.configuration import Hardware, Launch, ceil_div
from gpunet.engines.cuda.persistent_cycles import CACHE_BYTES, MEMORY_BYTES, OLD_CACHE
from gpunet.engines.cuda.tiled_plan import LAUNCH_CYCLES, Product, update_product
from gpunet.layers import Network
from gpunet.optimizers import RULES

# Cycles: a chain of latencies inside a small kernel, the loss, and an output layer's further example on the same
# multiprocessor: some 2,000 instructions, four a cycle.
CHAIN, LOSS, OUTPUT_ROW = 2500, 2000, 500


def tiled_cycles(network: Network, optimizer: str, batch: int, hardware: Hardware) -> float:
    """Of an update with a full batch, launch by launch as in the tiled engine. optimizer: a rule by name."""
    widths, last = network.widths, network.layers
    arrays = 2 * (1 + len(RULES[optimizer].slots))  # read and written
    numbers = sum((inputs + 1) * units for inputs, units in itertools.pairwise(widths))
    in_cache = hardware.capability >= (7, 0) or 2 * arrays * numbers <= OLD_CACHE
    rate = (CACHE_BYTES if in_cache else MEMORY_BYTES) * hardware.multiprocessors

    def cycles(launch: Launch, moved: int, *products: Product) -> float:
        return _launch_cycles(launch, products, moved / rate, hardware)

    def sizes(layer: int) -> tuple[int, int, int]:
        inputs, units = widths[layer - 1], widths[layer]
        return inputs, units, 4 * (inputs + 1) * units

    def forward(layer: int) -> float:
        inputs, units, weights = sizes(layer)
        launch = tiled_plan.dense_forward(False, "linear", batch, inputs, units, hardware)
        return cycles(launch, weights, Product(batch, units, inputs))

    def backward(layer: int) -> float:
        inputs, units, weights = sizes(layer)
        launch = tiled_plan.dense_backward("linear", batch, inputs, units, hardware)
        return cycles(launch, weights, Product(batch, inputs, units))

    def step(layer: int) -> float:
        inputs, units, weights = sizes(layer)
        launch = tiled_plan.dense_update(False, optimizer, batch, inputs, units, hardware)
        return cycles(launch, arrays * weights, update_product(optimizer, batch, inputs, units))

    def backward_and_step(layer: int) -> float:
        inputs, units, weights = sizes(layer)
        of_both = (inputs, units, widths[layer + 1])
        launch = tiled_plan.dense_backward_update("linear", optimizer, batch, of_both, hardware)
        if launch is None:
            return backward(layer) + step(layer + 1)
        products = Product(batch, inputs, units), update_product(optimizer, batch, *of_both[1:])
        return cycles(launch, weights + arrays * sizes(layer + 1)[2], *products)

    def two_steps() -> float:
        of_both = (widths[0], widths[1], widths[2])
        launch = tiled_plan.dense_update_pair(False, optimizer, batch, of_both, hardware)
        if launch is None:
            return step(1) + step(2)
        products = (update_product(optimizer, batch, *sizes(layer)[:2]) for layer in (1, 2))
        return cycles(launch, arrays * (sizes(1)[2] + sizes(2)[2]), *products)

    total = sum(forward(layer) for layer in range(1, last))
    if widths[last] <= tiled_plan.OUTPUT_CLASSES:
        total += LAUNCH_CYCLES + CHAIN + LOSS + OUTPUT_ROW * (ceil_div(batch, hardware.multiprocessors) - 1)
    else:
        total += forward(last) + LAUNCH_CYCLES + LOSS + (backward(last) if last > 1 else 0)
    total += sum(backward_and_step(layer) for layer in range(2, last))
    return total + (two_steps() if last > 1 else step(1))


def _launch_cycles(launch: Launch, products: Sequence[Product], waiting: float, hardware: Hardware) -> float:
    """waiting: cycles for what passes through the second-level cache, or memory."""
    tile = launch.configuration.tile
    if tile is None:
        return LAUNCH_CYCLES + waiting + CHAIN
    splits = [split for _, _, split in launch.products]
    product = tiled_plan.estimated_cycles(tile, splits, products, hardware)
    return LAUNCH_CYCLES + max(product, waiting + CHAIN)
