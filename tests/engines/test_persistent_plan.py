"""The persistent engine's plan, by itself: what is kept where, and why a network does not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpunet import layers
from gpunet.engines.cuda import persistent_plan
from gpunet.engines.cuda.persistent_plan import DoesNotFitError, Plan, make_plan
from gpunet.layers import Network
from gpunet.optimizers import RULES


class Gpu(NamedTuple):
    multiprocessors: int
    shared_bytes: int
    sm_shared_bytes: int


GTX_980, GTX_1080 = Gpu(16, 48 << 10, 96 << 10), Gpu(20, 48 << 10, 96 << 10)
RTX_2080_TI, RTX_3090 = Gpu(68, 64 << 10, 64 << 10), Gpu(82, 99 << 10, 100 << 10)
A100, H100 = Gpu(108, 163 << 10, 164 << 10), Gpu(132, 227 << 10, 228 << 10)


def network(*widths: int) -> Network:
    return Network(widths, ("sigmoid",) * (len(widths) - 2) + ("softmax",))


def plan(widths: tuple[int, ...], batch: int, gpu: Gpu, optimizer: str = "adam") -> Plan:
    return make_plan(network(*widths), optimizer, batch, True, True, gpu)


LECTURE = layers.LECTURE.widths


@pytest.mark.parametrize(("gpu", "blocks"), [(H100, 125), (A100, 100), (RTX_3090, 72), (RTX_2080_TI, 63)])
def test_the_fewest_blocks_that_do_not_add_to_the_busiest(gpu: Gpu, blocks: int) -> None:
    assert plan(LECTURE, 1, gpu).blocks == blocks


def test_the_lectures_network_on_an_h100() -> None:
    one = plan(LECTURE, 1, H100)
    assert (one.threads, one.owned(1), one.owned(2), one.columns(0), one.columns(1)) == (256, 4, 4, 4, 2)
    assert one.staged
    assert one.shared_bytes < 48 << 10
    assert one.exchanges == 2
    assert plan(LECTURE, 32, H100).shared_bytes <= H100.shared_bytes


def test_every_block_owns_a_neuron_of_every_hidden_layer() -> None:
    assert plan((30, 200, 7, 4), 1, H100).blocks == 7


@pytest.mark.parametrize(
    ("widths", "batch", "gpu", "reason"),
    [
        (LECTURE, 8, GTX_980, "784-500-500-10 is too large for 16 multiprocessors"),
        (LECTURE, 8, GTX_1080, r"on 20 multiprocessors: a thread would keep \d+ .* in registers, 139 at most"),
        ((784, 2000, 2000, 10), 1, GTX_1080, "784-2000-2000-10 is too large for 20 multiprocessors"),
        ((784, 10), 1, H100, "no hidden layer"),
        (LECTURE, 100, H100, r"batches of 100 need \d+ KB of shared memory for activations, a block has 227 KB"),
        (LECTURE, 14, RTX_3090, r"in registers, \d+ at most, with the 99 KB of shared memory full"),
    ],
)
def test_a_network_that_does_not_fit_gets_a_reason(widths, batch, gpu, reason) -> None:
    with pytest.raises(DoesNotFitError, match=reason):
        plan(widths, batch, gpu)


def test_where_a_block_may_have_half_of_the_shared_memory_two_are_on_a_multiprocessor() -> None:
    """The GTX 900 and 10 series: 48 KB per block, 96 KB per multiprocessor."""
    one = plan((784, 300, 10), 1, GTX_1080)
    assert (one.resident, one.threads, one.blocks) == (2, 128, 38)
    assert 48 << 10 >= one.shared_bytes > 24 << 10
    assert one.kept_numbers + persistent_plan.WORKING_REGISTERS[1][0] <= 65536 // (2 * 128)
    assert one.words.startswith("38 blocks of 128 threads, two per multiprocessor; ")
    assert plan((784, 200, 200, 10), 1, GTX_980).resident == 1
    for gpu in (RTX_2080_TI, RTX_3090, H100):
        assert plan((784, 300, 10), 1, gpu).resident == 1


@pytest.mark.parametrize(
    ("gpu", "streamed", "megabytes"), [(GTX_980, (3, 2), "15.0 MB"), (GTX_1080, (2, 2), "10.3 MB")]
)
def test_what_has_no_room_on_an_older_gpu_passes_through_its_memory(gpu: Gpu, streamed, megabytes: str) -> None:
    one = plan(LECTURE, 1, gpu)
    assert one.streamed == streamed
    assert one.words.endswith(f"in global memory, {megabytes} of which pass per update")
    assert one.kept_numbers + sum(one.in_shared) * 20 + one.streamed_numbers == 3 * sum(s.numbers for s in one.slices)
    elements = [784 * 500 + 500, 500 * 500 + 500]
    moments = sum(2 * 8 * count for count in elements)
    weights = 12 * elements[0] if gpu == GTX_980 else 0
    assert one.streamed_bytes == moments + weights


@pytest.mark.parametrize(("gpu", "twice", "once"), [(H100, 33, 47), (A100, 19, 33), (RTX_3090, 3, 13)])
def test_the_largest_batches_are_those_that_the_page_names(gpu: Gpu, twice: int, once: int) -> None:
    """docs/persistent.md."""
    assert plan(LECTURE, twice, gpu).twice
    assert not plan(LECTURE, once, gpu).twice
    with pytest.raises(DoesNotFitError):
        plan(LECTURE, once + 1, gpu)


def test_weights_between_hidden_layers_lie_twice_where_that_fits_and_is_faster() -> None:
    assert plan(LECTURE, 32, H100).twice
    assert plan(LECTURE, 3, RTX_3090).twice
    once = plan(LECTURE, 10, RTX_3090)
    assert not once.twice
    assert once.kept_numbers <= 159
    assert once.exchanges == 3
    assert "between hidden layers once: a thread has 146 numbers in registers, 40 in shared memory" in once.words
    assert plan((784, 500, 10), 1, H100).words.startswith(
        "125 blocks of 256 threads; weights and moments on the chip: "
    )


def test_the_number_of_blocks_decides_about_bits_where_they_add_up_gradients() -> None:
    twice = plan(LECTURE, 10, H100)
    assert twice.order_of_sums == plan(LECTURE, 10, A100).order_of_sums
    once = replace(twice, twice=False)
    assert once.order_of_sums != replace(once, blocks=63).order_of_sums
    assert once.order_of_sums != twice.order_of_sums


@pytest.mark.parametrize("batch", [1, 10])
def test_each_attempt_keeps_less_in_registers(batch: int) -> None:
    attempts = range(persistent_plan.ATTEMPTS)
    kept = [make_plan(network(*LECTURE), "adam", batch, True, True, H100, attempt).kept_numbers for attempt in attempts]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] > kept[-1]


def test_inputs_are_staged_as_long_as_a_threads_registers_can_carry_them() -> None:
    assert plan(LECTURE, 15, H100).staged
    assert not plan(LECTURE, 16, H100).staged  # 13 words a thread
    assert not make_plan(network(*LECTURE), "adam", 4, False, True, H100).staged  # of four bytes each


def test_exchanges_are_named_as_the_kernel_numbers_them() -> None:
    deep = plan((9, 7, 5, 8, 6, 3), 1, H100)  # four hidden layers
    assert [deep.exchange_name(number) for number in range(deep.exchanges)] == [
        *(f"the activations of hidden layer {layer}" for layer in (1, 2, 3, 4)),
        *(f"the gradients of hidden layer {layer}" for layer in (2, 3)),
    ]
    once = replace(deep, twice=False)
    assert [once.exchange_name(number) for number in range(4, once.exchanges)] == [
        f"the gradients of hidden layer {layer}" for layer in (1, 2, 3)
    ]


GPUS = st.builds(
    lambda multiprocessors, block, more: Gpu(multiprocessors, block, block + more),
    st.integers(1, 170), st.integers(48 << 10, 227 << 10), st.sampled_from([0, 1024, 16 << 10, 48 << 10]),
)  # fmt: skip
WIDTHS = st.lists(st.integers(1, 900), min_size=3, max_size=6).map(tuple)


@given(WIDTHS, st.integers(1, 64), GPUS, st.sampled_from(sorted(RULES)))
def test_a_plan_stays_within_every_limit(widths, batch, gpu, optimizer) -> None:
    try:
        one = plan(widths, batch, gpu, optimizer)
    except DoesNotFitError:
        return
    assert one.shared_bytes <= gpu.shared_bytes
    assert one.resident * one.shared_bytes <= gpu.sm_shared_bytes
    assert one.blocks <= min(one.resident * gpu.multiprocessors, *widths[1:-1])
    assert all(0 <= count <= one.arrays for count in one.in_shared)
    working = persistent_plan.WORKING_REGISTERS[min(batch, 2)][0]
    assert one.kept_numbers + working <= min(255, 65536 // (one.resident * one.threads))
    assert all(one.owned(layer) * one.blocks >= widths[layer] for layer in range(1, len(widths) - 1))
    assert all(one.columns(layer) * one.threads >= widths[layer] for layer in range(len(widths) - 1))
