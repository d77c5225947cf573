"""The choice of kernel and launch geometry, by itself: from shapes and device, no launch."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpunet.engines.cuda import tiled_plan
from gpunet.engines.cuda.configuration import Launch, ceil_div
from gpunet.engines.cuda.tiled_plan import LARGE, MEDIUM, SMALL, SPLITS, Product, update_product


class Gpu(NamedTuple):
    capability: tuple[int, int]
    multiprocessors: int


GTX_980, RTX_2060, RTX_3090, H100 = Gpu((5, 2), 16), Gpu((7, 5), 30), Gpu((8, 6), 82), Gpu((9, 0), 132)


def forward(batch: int, hardware: Gpu, inputs: int = 784, units: int = 500) -> Launch:
    return tiled_plan.dense_forward(True, "sigmoid", batch, inputs, units, hardware)


@pytest.mark.parametrize(("hardware", "most"), [(GTX_980, 2), (RTX_2060, 2), (RTX_3090, 6), (H100, 6)])
def test_few_examples_are_matrix_vector_products(hardware: Gpu, most: int) -> None:
    assert not forward(most + 1, hardware).configuration.kernel.endswith("_vector")
    for batch in (1, 2, most):
        assert forward(batch, hardware).configuration.kernel == "dense_forward_vector"
        assert tiled_plan.dense_backward("relu", batch, 500, 10, hardware).configuration.kernel.endswith("_vector")
        assert tiled_plan.dense_update(True, "adam", batch, 784, 500, hardware).configuration.kernel.endswith("_vector")


@pytest.mark.parametrize(
    ("batch", "hardware", "tile"),
    [
        (10, H100, SMALL),
        (16, H100, SMALL),
        (100, H100, SMALL),
        (1000, H100, MEDIUM),
        (10_000, H100, LARGE),
        (10_000, RTX_3090, LARGE),
        (10, GTX_980, SMALL),
        (1000, GTX_980, LARGE),
    ],
)
def test_larger_batches_get_larger_tiles(batch: int, hardware: Gpu, tile) -> None:
    assert forward(batch, hardware).configuration.tile[:3] == tile[:3]


@pytest.mark.parametrize("hardware", [GTX_980, RTX_3090, H100])
@pytest.mark.parametrize("batch", [3, 10, 32, 100, 300, 1000, 10_000])
def test_most_multiprocessors_get_a_block(hardware: Gpu, batch: int) -> None:
    launch = forward(batch, hardware)
    # Not all multiprocessors: with few panels, adding one more share takes longer than it saves.
    assert math.prod(launch.grid) >= 0.6 * hardware.multiprocessors


@pytest.mark.parametrize("hardware", [GTX_980, RTX_3090, H100])
@pytest.mark.parametrize("batch", [3, 16, 17, 200, 1000, 10_000])
def test_no_other_tiling_is_estimated_to_be_faster(hardware: Gpu, batch: int) -> None:
    def cycles(tile, split: int) -> float:
        return tiled_plan.estimated_cycles(tile, [split], [product], hardware)

    product, tiles = Product(batch, 500, 784), tiled_plan.tiles_for(hardware.capability)
    tile, ((_, _, split),) = tiled_plan.choose_tiling([product], tiles, hardware)
    assert cycles(tile, split) == min(cycles(tile, split) for tile in tiles for split in SPLITS)


@pytest.mark.parametrize(
    ("capability", "multiply_adds"),
    [
        ((5, 0), 128),
        ((6, 0), 64),
        ((6, 2), 128),
        ((7, 5), 64),
        ((8, 0), 64),
        ((8, 9), 128),
        ((12, 1), 128),
        ((3, 5), 128),
    ],
)
def test_multiply_adds_a_cycle_are_those_of_the_programming_guide(capability, multiply_adds: int) -> None:
    assert tiled_plan.profile(capability).multiply_adds == multiply_adds


def test_large_tiles_are_not_split_where_adding_their_shares_takes_longer() -> None:
    """A cycle-level simulation of this GPU found large tiles with split 6 a third slower than medium ones with 4."""
    launch = tiled_plan.dense_forward(False, "sigmoid", 100, 500, 500, RTX_2060)
    assert launch.configuration.tile[:3] != LARGE[:3]

    def cycles(tile, split: int) -> float:
        return tiled_plan.estimated_cycles(tile, [split], [Product(100, 500, 500)], RTX_2060)

    assert cycles(MEDIUM, 4) < cycles(LARGE, 6)


def test_small_batches_step_without_tiles_and_narrow_results_waste_little() -> None:
    for batch, kernel in ((16, "dense_update_vector"), (17, "dense_update")):
        assert tiled_plan.dense_update(True, "adam", batch, 784, 500, H100).configuration.kernel == kernel
    tile = tiled_plan.dense_forward(False, "linear", 10_000, 500, 10, GTX_980).configuration.tile
    assert tile.n == 64  # not 128 columns for 10 units


@pytest.mark.parametrize("hardware", [GTX_980, RTX_3090, H100])
@pytest.mark.parametrize("batch", [20, 100, 1000])
def test_products_in_one_launch_are_estimated_as_they_are_apart(hardware: Gpu, batch: int) -> None:
    """The same product twice takes as long as one with twice the tiles."""
    one = update_product("adam", batch, 511, 512)
    twice = one._replace(m=2 * one.m)
    for tile in (SMALL, MEDIUM):
        together = tiled_plan.estimated_cycles(tile, [1, 1], [one, one], hardware)
        assert together == tiled_plan.estimated_cycles(tile, [1], [twice], hardware)


@pytest.mark.parametrize(("hardware", "batch"), [(H100, 100), (RTX_3090, 100), (RTX_2060, 50)])
def test_an_optimizers_step_is_spread_over_the_multiprocessors(hardware: Gpu, batch: int) -> None:
    """Without the step's bytes, the estimate would leave it to the few blocks that sum the shares of large tiles."""
    launch = tiled_plan.dense_update_pair(True, "adam", batch, (784, 500, 500), hardware)
    assert launch is not None
    assert launch.tiles >= 2 * hardware.multiprocessors
    assert [split for _, _, split in launch.products] == [1, 1]


@pytest.mark.parametrize("hardware", [RTX_2060, RTX_3090, H100])
@pytest.mark.parametrize("batch", [1, 2, 10, 20, 50, 100])
def test_a_way_back_goes_beside_an_update_and_the_first_updates_together(hardware: Gpu, batch: int) -> None:
    assert tiled_plan.dense_backward_update("sigmoid", "adam", batch, (500, 500, 10), hardware)
    assert tiled_plan.dense_update_pair(True, "adam", batch, (784, 500, 500), hardware)


def test_large_batches_have_a_launch_for_each_product_that_is_worth_a_large_tile() -> None:
    assert tiled_plan.dense_backward_update("sigmoid", "adam", 10_000, (500, 500, 10), H100) is None
    assert tiled_plan.dense_update_pair(True, "adam", 10_000, (784, 500, 500), H100) is None


@given(
    batch=st.integers(1, 20_000),
    inputs=st.integers(1, 3000),
    units=st.integers(1, 3000),
    multiprocessors=st.integers(1, 200),
    major=st.sampled_from([5, 6, 7, 8, 9, 10, 12]),
)
def test_every_launch_covers_its_results_within_cudas_limits(batch, inputs, units, multiprocessors, major) -> None:
    hardware = Gpu((major, 0), multiprocessors)
    known = set(tiled_plan.configurations(hardware.capability))
    for launch, rows, columns, terms in (
        (forward(batch, hardware, inputs, units), batch, units, inputs),
        (tiled_plan.dense_backward("tanh", batch, inputs, units, hardware), batch, inputs, units),
        (tiled_plan.dense_update(True, "sgd", batch, inputs, units, hardware), inputs + 1, units, batch),
        (tiled_plan.softmax_cross_entropy(True, batch), batch, units, 1),
        (tiled_plan.dense_output(False, "sigmoid", True, batch), batch, units, 1),
    ):
        assert launch.configuration in known
        x, y, z = launch.grid
        assert min(launch.grid) >= 1
        assert x < 2**31
        assert max(y, z) <= 65535
        tile = launch.configuration.tile
        if tile:
            assert x * tile.n >= columns > (x - 1) * tile.n
            assert y * tile.m >= rows > (y - 1) * tile.m
            assert (z - 1) * tile.k < terms  # every share has something to sum
            assert launch.shared_numbers == (x * y * z * tile.m * tile.n if z > 1 else 0)


@settings(max_examples=20, deadline=None)
@given(
    batch=st.integers(1, 20_000),
    widths=st.tuples(*[st.integers(1, 3000)] * 3),
    multiprocessors=st.integers(1, 200),
    major=st.sampled_from([5, 6, 7, 8, 9, 10, 12]),
)
def test_launches_of_two_operations_have_blocks_for_both(batch, widths, multiprocessors, major) -> None:
    hardware = Gpu((major, 0), multiprocessors)
    known = set(tiled_plan.configurations(hardware.capability))
    inputs, units, upper = widths
    step, upper_step = (inputs + 1, units, batch), (units + 1, upper, batch)
    for launch, sums in (
        (
            tiled_plan.dense_backward_update("sigmoid", "adam", batch, widths, hardware),
            [(batch, inputs, units), upper_step],
        ),
        (tiled_plan.dense_update_pair(True, "adam", batch, widths, hardware), [step, upper_step]),
    ):
        if launch is None:
            continue
        assert launch.configuration in known
        assert launch.grid[0] < 2**31
        assert launch.grid[1:] == (1, 1)
        tile = launch.configuration.tile
        if tile is None:
            continue
        assert launch.grid[0] == sum(math.prod(grid) for grid in launch.products)
        assert launch.counts == tuple((split,) for _, _, split in launch.products)
        for (x, y, z), (m, n, k) in zip(launch.products, sums, strict=True):
            assert (x, y) == (ceil_div(n, tile.n), ceil_div(m, tile.m))
            assert (z - 1) * tile.k < k  # every share has something to sum
