"""The choice of kernel and launch geometry, by itself: from shapes and device, no launch."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunet.engines import tiled_plan
from gpunet.engines.tiled_plan import LARGE, LARGE_TWICE, MAX_SPLIT, MEDIUM, SMALL, Launch


class Gpu(NamedTuple):
    capability: tuple[int, int]
    multiprocessors: int


GTX_980, RTX_3090, H100 = Gpu((5, 2), 16), Gpu((8, 6), 82), Gpu((9, 0), 132)


def forward(batch: int, hardware: Gpu, inputs: int = 784, units: int = 500) -> Launch:
    return tiled_plan.dense_forward(True, "sigmoid", batch, inputs, units, hardware)


@pytest.mark.parametrize("hardware", [GTX_980, RTX_3090, H100])
def test_single_examples_are_matrix_vector_products(hardware: Gpu) -> None:
    for batch in (1, 2):
        assert forward(batch, hardware).configuration.kernel == "dense_forward_vector"
        assert tiled_plan.dense_backward("relu", batch, 500, 10, hardware).configuration.kernel.endswith("_vector")
        assert tiled_plan.dense_update(True, "adam", batch, 784, 500, hardware).configuration.kernel.endswith("_vector")


@pytest.mark.parametrize(
    ("batch", "hardware", "tile"),
    [
        (10, H100, SMALL),
        (16, H100, SMALL),
        (17, H100, MEDIUM),
        (100, H100, MEDIUM),
        (1000, H100, MEDIUM),
        (10_000, H100, LARGE_TWICE),
        (10_000, RTX_3090, LARGE_TWICE),
        (1000, GTX_980, LARGE),
        (100, GTX_980, MEDIUM),
    ],
)
def test_larger_batches_get_larger_tiles(batch: int, hardware: Gpu, tile) -> None:
    assert forward(batch, hardware).configuration.tile == tile


@pytest.mark.parametrize("hardware", [GTX_980, RTX_3090, H100])
@pytest.mark.parametrize("batch", [3, 10, 32, 100, 300])
def test_the_inner_dimension_is_split_until_every_multiprocessor_has_a_block(batch: int, hardware: Gpu) -> None:
    launch = forward(batch, hardware)
    blocks = launch.tiles * launch.split
    assert blocks >= hardware.multiprocessors or launch.split in (
        MAX_SPLIT,
        tiled_plan.ceil_div(784, launch.configuration.tile.k),
    )
    assert blocks <= 2 * hardware.multiprocessors or launch.split == 1


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
