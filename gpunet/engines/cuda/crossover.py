"""Which CUDA engine an update is faster with, by formulas for clock cycles. Estimates: no GPU has measured them yet.

The persistent engine's constants are fitted to an in-order timing model of its machine code (docs/performance.md has
the model's figures); the tiled engine's are those that its tilings are compared with, and a launch's own cost.
"""

from __future__ import annotations

from gpunet.engines.cuda import tiled_plan
from gpunet.engines.cuda.configuration import Hardware, Launch
from gpunet.engines.cuda.persistent_plan import Plan
from gpunet.layers import Network
from gpunet.optimizers import RULES

# Persistent, cycles: an exchange with the barriers and sums around it, and for each number that 256 threads look after
# each, its optimizer step and its part of an example's products.
EXCHANGE, STEP, EXAMPLE = 800, 27, 21.7
PLANNED_THREADS = 256
# Tiled, cycles: from one kernel of a graph to the next, a chain of latencies inside a small one, and the loss.
LAUNCH, CHAIN, LOSS = 2300, 2500, 2000
CACHE_BYTES = 32  # a cycle and multiprocessor, to and from the second-level cache


def persistent_cycles(plan: Plan) -> float:
    """Of an update with a full batch."""
    numbers = sum(one.numbers for one in plan.slices) * plan.threads / PLANNED_THREADS
    return EXCHANGE * plan.exchanges + numbers * (STEP + EXAMPLE * plan.batch)


def tiled_cycles(network: Network, optimizer: str, batch: int, hardware: Hardware) -> float:
    """Of an update with a full batch. optimizer: a rule by name."""
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
    """sums: m x n of k terms; moved: bytes through the second-level cache."""
    tile, waiting = launch.configuration.tile, moved / (CACHE_BYTES * hardware.multiprocessors)
    product = tiled_plan.estimated_cycles(tile, launch.split, *sums, hardware) if tile else CHAIN
    return LAUNCH + max(product, waiting + CHAIN)
