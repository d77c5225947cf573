"""Clock cycles of the tiled engine's updates, by a formula. An estimate: not yet measured on a GPU.

Its constants are those that its plan uses to compare tilings, and the cost of a launch. The persistent engine's formula
is in persistent_cycles.py; the two together say which engine is faster for an update.
"""

from __future__ import annotations

from gpunet.engines.cuda import tiled_plan
from gpunet.engines.cuda.configuration import Hardware, Launch
from gpunet.engines.cuda.persistent_cycles import CACHE_BYTES, MEMORY_BYTES, OLD_CACHE
from gpunet.layers import Network
from gpunet.optimizers import RULES

# Cycles: from one kernel of a graph to the next, the chain of latencies inside a small kernel, and the loss.
LAUNCH, CHAIN, LOSS = 2300, 2500, 2000


def tiled_cycles(network: Network, optimizer: str, batch: int, hardware: Hardware) -> float:
    """Estimated cycles of an update with a full batch. optimizer: the name of a rule."""
    arrays = 2 * (1 + len(RULES[optimizer].slots))  # read and written
    sizes = [(network.widths[layer - 1] + 1) * network.widths[layer] for layer in range(1, network.layers + 1)]
    in_cache = hardware.capability >= (7, 0) or 2 * arrays * sum(sizes) <= OLD_CACHE
    rate = (CACHE_BYTES if in_cache else MEMORY_BYTES) * hardware.multiprocessors
    total = float(LAUNCH + LOSS)
    for layer in range(1, network.layers + 1):
        inputs, units = network.widths[layer - 1], network.widths[layer]
        weights = 4 * (inputs + 1) * units
        forward = tiled_plan.dense_forward(False, "linear", batch, inputs, units, hardware)
        update = tiled_plan.dense_update(False, optimizer, batch, inputs, units, hardware)
        total += _launch_cycles(forward, (batch, units, inputs), weights / rate, hardware)
        total += _launch_cycles(update, (inputs + 1, units, batch), arrays * weights / rate, hardware)
        if layer > 1:
            backward = tiled_plan.dense_backward("linear", batch, inputs, units, hardware)
            total += _launch_cycles(backward, (batch, inputs, units), weights / rate, hardware)
    return total


def _launch_cycles(launch: Launch, sums: tuple[int, int, int], waiting: float, hardware: Hardware) -> float:
    """sums: m x n sums of k terms; waiting: cycles for what passes through the second-level cache, or memory."""
    tile = launch.configuration.tile
    product = tiled_plan.estimated_cycles(tile, launch.split, *sums, hardware) if tile else CHAIN
    return LAUNCH + max(product, waiting + CHAIN)
