"""Each kernel of the tiled engine against float64, over awkward and random shapes, in every order, with sanitizers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpunet.engines.cuda import tiled_plan
from gpunet.engines.cuda.configuration import ceil_div
from gpunet.layers import HIDDEN_ACTIVATIONS
from gpunet.optimizers import SGD, Adam, AdamW
from support import kernel_cases as cases
from support.devices import EVERYWHERE, ON_GPU, ORDERS, PLAIN, open_device
from support.kernel_cases import Case

# (batch, inputs, units): matrix-vector batches, ones, primes, tile sizes (16, 64, 128) plus and minus one.
SHAPES = [
    (1, 1, 1),
    (1, 37, 13),
    (2, 33, 9),
    (3, 5, 2),
    (6, 200, 10),
    (7, 5, 2),
    (7, 17, 10),
    (15, 16, 65),
    (16, 63, 64),
    (17, 15, 63),
    (1, 1100, 9),  # more inputs than weights that are read early
    (9, 300, 9),  # shares of several panels
    (66, 150, 67),
    (65, 31, 4),
]
SOME_SHAPES = [(1, 37, 13), (7, 29, 10), (33, 18, 11), (130, 9, 129)]
OPTIMIZERS = {
    optimizer.rule: optimizer
    for optimizer in (Adam(0.01), AdamW(0.01, 0.1), SGD(0.1), SGD(0.1, 0.9), SGD(0.1, 0.9, nesterov=True))
}
RANDOM = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
sizes = st.integers(1, 70)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", EVERYWHERE)
@pytest.mark.parametrize("input_bytes", [False, True], ids=["float", "bytes"])
def test_dense_forward_matches_float64(kind: str, shape, input_bytes: bool) -> None:
    for seed in (0, 1):
        cases.dense_forward(open_device(kind), Case.of(*shape, input_bytes=input_bytes, seed=seed), "sigmoid")


@pytest.mark.parametrize("shape", SOME_SHAPES, ids=str)
@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_dense_forward_with_every_activation(kind: str, shape, activation: str) -> None:
    cases.dense_forward(open_device(kind), Case.of(*shape, gather=True, seed=1), activation)


@pytest.mark.parametrize("kind", PLAIN)
@RANDOM
@given(batch=sizes, inputs=sizes, units=sizes, input_bytes=st.booleans(), gather=st.booleans(), seed=st.integers(0, 99))
def test_dense_forward_over_random_shapes(kind: str, batch, inputs, units, input_bytes, gather, seed) -> None:
    case = Case.of(batch, inputs, units, input_bytes=input_bytes, gather=gather, seed=seed)
    cases.dense_forward(open_device(kind), case, "softsign")


@pytest.mark.parametrize("kind", PLAIN)
def test_dense_forward_of_ten_thousand_examples(kind: str) -> None:
    cases.dense_forward(open_device(kind), Case.of(10_000, 3, 5, input_bytes=True), "sigmoid")


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 2), (5, 9, 10), (9, 2, 31), (4, 2, 33), (3, 2, 130)], ids=str)
@pytest.mark.parametrize("kind", EVERYWHERE)
@pytest.mark.parametrize("targets", ["integer", "one-hot", "soft"])
def test_softmax_cross_entropy_matches_float64(kind: str, shape, targets: str) -> None:
    for seed, spread in ((0, 1.0), (1, 50.0), (2, 1e4)):
        cases.softmax_cross_entropy(open_device(kind), Case.of(*shape, seed=seed), targets, spread)


@pytest.mark.parametrize("kind", PLAIN)
def test_softmax_cross_entropy_of_equal_and_of_enormous_logits(kind: str) -> None:
    for spread in (0.0, 1e37):
        losses, _, _ = cases.softmax_cross_entropy(open_device(kind), Case.of(9, 1, 70), "integer", spread)
        assert np.isfinite(losses).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", EVERYWHERE)
def test_dense_backward_matches_float64(kind: str, shape) -> None:
    for seed in (0, 1):
        cases.dense_backward(open_device(kind), Case.of(*shape, seed=seed), "sigmoid")


@pytest.mark.parametrize("shape", [(1, 37, 13), (7, 29, 10), (33, 18, 11), (130, 129, 9)], ids=str)
@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_dense_backward_with_every_activation(kind: str, shape, activation: str) -> None:
    cases.dense_backward(open_device(kind), Case.of(*shape, seed=1), activation)


@pytest.mark.parametrize("kind", PLAIN)
@RANDOM
@given(batch=sizes, inputs=sizes, units=sizes, seed=st.integers(0, 99))
def test_dense_backward_over_random_shapes(kind: str, batch, inputs, units, seed) -> None:
    cases.dense_backward(open_device(kind), Case.of(batch, inputs, units, seed=seed), "tanh")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", EVERYWHERE)
@pytest.mark.parametrize("input_bytes", [False, True], ids=["float", "bytes"])
def test_dense_update_matches_float64(kind: str, shape, input_bytes: bool) -> None:
    for seed in (0, 1):
        case = Case.of(*shape, input_bytes=input_bytes, seed=seed)
        cases.dense_update(open_device(kind), case, Adam(0.01))


@pytest.mark.parametrize("shape", [(1, 37, 13), (7, 12, 10), (33, 18, 11), (9, 128, 130)], ids=str)
@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_dense_update_with_every_optimizer(kind: str, shape, optimizer: str) -> None:
    cases.dense_update(open_device(kind), Case.of(*shape, gather=True, seed=1), OPTIMIZERS[optimizer])


@pytest.mark.parametrize("kind", PLAIN)
@RANDOM
@given(batch=sizes, inputs=sizes, units=sizes, seed=st.integers(0, 99), optimizer=st.sampled_from(sorted(OPTIMIZERS)))
def test_dense_update_over_random_shapes(kind: str, batch, inputs, units, seed, optimizer) -> None:
    cases.dense_update(open_device(kind), Case.of(batch, inputs, units, seed=seed), OPTIMIZERS[optimizer])


# (batch, inputs, units, units of the layer above), from matrix-vector batches on.
PAIRS = [(2, 40, 33, 10), (9, 70, 17, 10), (40, 130, 20, 70)]


@pytest.mark.parametrize("shape", PAIRS, ids=str)
@pytest.mark.parametrize("kind", EVERYWHERE)
def test_two_updates_in_one_launch_match_float64(kind: str, shape) -> None:
    for seed, input_bytes in ((0, True), (1, False)):
        case = Case.of(*shape[:3], gather=True, input_bytes=input_bytes, seed=seed)
        cases.dense_update_pair(open_device(kind), case, shape[3], Adam(0.01))


@pytest.mark.parametrize("shape", PAIRS, ids=str)
@pytest.mark.parametrize("kind", EVERYWHERE)
def test_a_way_back_beside_an_update_matches_float64(kind: str, shape) -> None:
    for seed in (0, 1):
        cases.dense_backward_update(open_device(kind), Case.of(*shape[:3], seed=seed), shape[3], "sigmoid", Adam(0.01))


@pytest.mark.parametrize("shape", [(1, 9, 5, 3), (18, 33, 18, 11)], ids=str)
@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_launches_for_two_operations_with_every_optimizer(kind: str, shape, optimizer: str) -> None:
    device, rule = open_device(kind), OPTIMIZERS[optimizer]
    cases.dense_update_pair(device, Case.of(*shape[:3], gather=True, seed=1), shape[3], rule)
    cases.dense_backward_update(device, Case.of(*shape[:3], seed=1), shape[3], "tanh", rule)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 33, 10), (3, 600, 32)], ids=str)
@pytest.mark.parametrize("kind", EVERYWHERE)
@pytest.mark.parametrize("targets", ["integer", "soft"])
def test_an_output_layer_with_its_loss_and_way_back_matches_float64(kind: str, shape, targets: str) -> None:
    for seed in (0, 1):
        cases.dense_output(open_device(kind), Case.of(*shape, seed=seed), "sigmoid", targets)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_an_output_layer_after_every_activation(kind: str, activation: str) -> None:
    cases.dense_output(open_device(kind), Case.of(4, 21, 10, seed=1), activation, "integer")


@pytest.mark.parametrize("kind", EVERYWHERE)
@pytest.mark.parametrize("input_bytes", [False, True], ids=["float", "bytes"])
def test_an_output_layer_that_reads_the_images_matches_float64(kind: str, input_bytes: bool) -> None:
    for seed in (0, 1):
        case = Case.of(5, 300, 9, input_bytes=input_bytes, gather=True, seed=seed)
        cases.dense_output(open_device(kind), case, "linear", "integer", first_layer=True)


@pytest.mark.parametrize("shape", [*SOME_SHAPES, (20, 130, 7)], ids=str)
def test_every_order_of_threads_gives_the_same_bits(shape) -> None:
    def results(order):
        device = open_device(f"order-{order}")
        return [
            cases.dense_forward(device, Case.of(*shape), "sigmoid"),
            cases.dense_backward(device, Case.of(*shape), "sigmoid"),
            cases.dense_update(device, Case.of(*shape), Adam(0.01)),
            *cases.softmax_cross_entropy(device, Case.of(*shape), "soft", 3.0),
            *cases.dense_backward_update(device, Case.of(*shape), 11, "sigmoid", Adam(0.01)),
            *cases.dense_update_pair(device, Case.of(*shape, gather=True), 11, Adam(0.01)),
            *(cases.dense_output(device, Case.of(*shape), "sigmoid", "soft") if shape[2] <= 32 else ()),
        ]

    expected = results("forward")
    for order in ORDERS[1:]:
        for one, other in zip(results(order), expected, strict=True):
            np.testing.assert_array_equal(one, other)


TILINGS = {
    f"{tile.m}x{tile.n}-split-{split}": (tile, split)
    for tile in (tiled_plan.SMALL, tiled_plan.MEDIUM, tiled_plan.LARGE)
    for split in (1, 3)
}


@pytest.fixture
def tiling(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tiled product gets this tile and split, whatever the shape; no matrix-vector kernels."""
    tile, split = TILINGS[request.param]

    def chosen(products, tiles, hardware):
        # Some launches of several products have no large tile.
        one = tile if tile[:2] in [other[:2] for other in tiles] else tiles[-1]
        shares = (min(split, ceil_div(product.k, one.k)) for product in products)
        grids = [(ceil_div(n, one.n), ceil_div(m, one.m)) for m, n, *_ in products]
        return one, tuple((*grid, share) for grid, share in zip(grids, shares, strict=True))

    monkeypatch.setattr(tiled_plan, "choose_tiling", chosen)
    monkeypatch.setattr(tiled_plan, "LAUNCH_CYCLES", np.inf)  # no launch of two operations is split up
    monkeypatch.setattr(tiled_plan, "profile", lambda capability: tiled_plan.Profile(128, vector_batch=0))
    monkeypatch.setattr(tiled_plan, "VECTOR_UPDATE_BATCH", 0)


@pytest.mark.parametrize("shape", [(1, 40, 9), (15, 63, 67), (70, 129, 10), (130, 50, 131)], ids=str)
@pytest.mark.parametrize("tiling", TILINGS, indirect=True)
@pytest.mark.parametrize("kind", EVERYWHERE)
@pytest.mark.usefixtures("tiling")
def test_every_tile_and_split_matches_float64(kind: str, shape) -> None:
    device = open_device(kind)
    for seed in (0, 1):
        cases.dense_forward(device, Case.of(*shape, input_bytes=True, seed=seed), "sigmoid")
        cases.dense_backward(device, Case.of(*shape, seed=seed), "sigmoid")
        cases.dense_update(device, Case.of(*shape, seed=seed), Adam(0.01))
        cases.dense_backward_update(device, Case.of(*shape, seed=seed), 40, "sigmoid", Adam(0.01))
        cases.dense_update_pair(device, Case.of(*shape, input_bytes=True, seed=seed), 40, Adam(0.01))


@pytest.mark.parametrize("kind", [ON_GPU])
@pytest.mark.parametrize("batch", [1, 10, 100, 1000, 10_000])
def test_the_lectures_layers_at_every_batch_size(kind: str, batch: int) -> None:
    device = open_device(kind)
    cases.dense_forward(device, Case.of(batch, 784, 500, input_bytes=True), "sigmoid")
    cases.dense_backward(device, Case.of(batch, 500, 500), "sigmoid")
    cases.dense_update(device, Case.of(batch, 784, 500, input_bytes=True), Adam())
