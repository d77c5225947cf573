"""The estimate of which CUDA engine is faster: close to the model that it is fitted to, and never the wrong way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpunet.engines.cuda.architectures import ARCHITECTURES
from gpunet.engines.cuda.crossover import tiled_cycles
from gpunet.engines.cuda.persistent_cycles import CACHE_BYTES, PACKET_BYTES, persistent_cycles
from gpunet.engines.cuda.persistent_plan import make_plan
from gpunet.layers import LECTURE, Network

GPUS = {architecture.number: architecture for architecture in ARCHITECTURES}


@pytest.mark.parametrize(
    ("number", "batch", "cycles"),
    [(90, 1, 4488), (90, 2, 5623), (90, 10, 14192), (90, 32, 38470), (80, 1, 5472), (86, 1, 5634), (89, 1, 5234)],
)
def test_the_persistent_engines_estimate_is_near_the_timing_models(number: int, batch: int, cycles: int) -> None:
    """The figures are those of docs/performance.md."""
    plan = make_plan(LECTURE, "adam", batch, True, True, GPUS[number])
    assert persistent_cycles(plan) == pytest.approx(cycles, rel=0.25)


@pytest.mark.parametrize(("batch", "longer"), [(1, 1.15), (10, 1.14)])
def test_weights_kept_once_cost_about_what_the_timing_model_says(batch: int, longer: float) -> None:
    """Where both fit, on an H100; without the bytes that pass through the cache, which are not in the model."""
    plan = make_plan(LECTURE, "adam", batch, True, True, GPUS[90])
    once = replace(plan, twice=False, in_shared=(0, 0, 0))
    bytes_of_packets = batch * 500 * PACKET_BYTES / CACHE_BYTES
    assert (persistent_cycles(once) - bytes_of_packets) / persistent_cycles(plan) == pytest.approx(longer, rel=0.1)


@pytest.mark.parametrize("number", [80, 90, 120])
def test_the_tiled_engine_catches_up_with_larger_batches(number: int) -> None:
    def ratio(batch: int) -> float:
        plan = make_plan(Network((784, 100, 10), ("relu", "softmax")), "adam", batch, True, True, GPUS[number])
        return persistent_cycles(plan) / tiled_cycles(plan.network, "adam", batch, GPUS[number])

    ratios = [ratio(batch) for batch in (4, 16, 64)]
    assert ratios == sorted(ratios)
    assert ratios[0] < 0.5


@pytest.mark.parametrize(("number", "cycles", "tiled"), [(61, 69_700, 132_300), (52, 119_000, 158_800)])
def test_on_older_gpus_bytes_that_pass_through_memory_count_for_both_engines(
    number: int, cycles: int, tiled: int
) -> None:
    """The figures are those of docs/persistent.md."""
    plan = make_plan(LECTURE, "adam", 1, True, True, GPUS[number])
    assert persistent_cycles(plan) == pytest.approx(cycles, rel=0.001)
    assert tiled_cycles(LECTURE, "adam", 1, GPUS[number]) == pytest.approx(tiled, rel=0.001)
