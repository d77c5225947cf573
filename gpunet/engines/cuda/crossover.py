"""Which CUDA engine is faster for an update, by formulas for clock cycles. Estimates: not yet measured on a GPU.

The persistent engine's constants are fitted to an in-order timing model of its machine code (docs/performance.md has
the model's figures). The tiled engine's are those that its plan uses to compare tilings, and the cost of a launch.
"""

from __future__ import annotations

from gpunet.engines.cuda import tiled_plan
from gpunet.engines.cuda.configuration import Hardware, Launch
from gpunet.engines.cuda.persistent_plan import Plan
from gpunet.layers import Network
from gpunet.optimizers import RULES

# Persistent, in cycles: an exchange with the barriers and sums around it; then, per number that each of 256 threads
# holds, its optimizer step and its part of one example's products.
EXCHANGE, STEP, EXAMPLE = 800, 27, 21.7
PLANNED_THREADS = 256
# Tiled, in cycles: from one kernel of a graph to the next, the chain of latencies inside a small kernel, and the loss.
LAUNCH, CHAIN, LOSS = 2300, 2500, 2000
CACHE_BYTES = 32  # per cycle and multiprocessor, to and from the second-level cache


def persistent_cycles(plan: Plan) -> float:
    """Estimated cycles of an update with a full batch."""
    numbers = sum(one.numbers for one in plan.slices) * plan.threads / PLANNED_THREADS
    return EXCHANGE * plan.exchanges + numbers * (STEP + EXAMPLE * plan.batch)


def tiled_cycles(network: Network, optimizer: str, batch: int, hardware: Hardware) -> float:
    """Estimated cycles of an update with a full batch. optimizer: the name of a rule."""
    arrays = 2 * (1 + len(RULES[optimizer].slots))  # read and written
    total = float(LAUNCH + LOSS)
    for layer in range(1, network.layers + 1):
        inputs, units = network.widths[layer - 1], network.widths[layer]
        weights = 4 * (inputs + 1) * units
        forward = tiled_plan.dense_forward(False, "linear", batch, inputs, units, hardware)
        update = tiled_plan.dense_update(False, optimizer, batch, inputs, units, hardware)
        total += _launch_cycles(forward, (batch, units, inputs), weights, hardware)
        total += _launch_cycles(update, (inputs + 1, units, batch), arrays * weights, hardware)
        if layer > 1:
            backward = tiled_plan.dense_backward("linear", batch, inputs, units, hardware)
            total += _launch_cycles(backward, (batch, inputs, units), weights, hardware)
    return total


def _launch_cycles(launch: Launch, sums: tuple[int, int, int], moved: int, hardware: Hardware) -> float:
    """sums: m x n sums of k terms; moved: bytes through the second-level cache."""
    tile, waiting = launch.configuration.tile, moved / (CACHE_BYTES * hardware.multiprocessors)
    product = tiled_plan.estimated_cycles(tile, launch.split, *sums, hardware) if tile else CHAIN
    return LAUNCH + max(product, waiting + CHAIN)
