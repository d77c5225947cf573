"""Clock cycles of the persistent engine's updates, by a formula. An estimate: not yet measured on a GPU.

Its constants are fitted to an in-order timing model of the machine code (docs/performance.md has the model's figures).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpunet.engines.cuda.persistent_plan import Plan

# Cycles: an exchange with the barriers and sums around it; then, per number that each of 256 threads holds, its
# optimizer step and its part of one example's products.
EXCHANGE, STEP, EXAMPLE = 800, 27, 21.7
PLANNED_THREADS = 256
# If blocks add gradients (kernels/parts.cuh): further cycles per exchange and per example, and the bytes that a block
# writes and reads per neuron and example.
REDUCTION, REDUCTION_EXAMPLE, PACKET_BYTES = 400, 95, 16
CACHE_BYTES = 32  # per cycle and multiprocessor, to and from the second-level cache
MEMORY_BYTES = 9  # the same of memory, on a GTX 1080 (320 GB/s, 20 multiprocessors at 1.7 GHz); a GTX 980 has 11
OLD_CACHE = 2 << 20  # bytes of the second-level cache of the GTX 900 and 10 series: more than that comes from memory


def persistent_cycles(plan: Plan) -> float:
    """Estimated cycles of an update with a full batch."""
    scale = plan.resident * plan.threads / PLANNED_THREADS
    steps = scale * sum(one.numbers for one in plan.slices)
    products = scale * sum(one.numbers for one in plan.products)
    total = EXCHANGE * plan.exchanges + steps * STEP + products * EXAMPLE * plan.batch
    for layer in range(1, 1 + plan.reductions):
        example = REDUCTION_EXAMPLE + plan.network.widths[layer] * PACKET_BYTES / CACHE_BYTES
        total += REDUCTION + example * plan.batch
    return total + plan.streamed_bytes / (MEMORY_BYTES * plan.blocks / plan.resident)
