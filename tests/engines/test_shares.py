"""Shares of a GPU for persistent trainings side by side: how many multiprocessors each takes."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpunet import places
from gpunet.engines import Choice
from gpunet.engines.cuda.persistent_cycles import persistent_cycles
from gpunet.engines.cuda.persistent_plan import ATTEMPTS, DoesNotFitError
from gpunet.engines.cuda.shares import MOST_AT_ONCE, Part, Workload, best_share, part_of
from gpunet.layers import Network
from gpunet.places import Multiprocessors

H100, RTX_3090 = Part((9, 0), 132, 227 << 10, 228 << 10, True), Part((8, 6), 82, 99 << 10, 100 << 10, True)
GTX_980 = Part((5, 2), 16, 48 << 10, 96 << 10, False)


def workload(*widths: int, batch: int = 10) -> Workload:
    network = Network(widths, ("sigmoid",) * (len(widths) - 2) + ("softmax",))
    return Workload(network, "adam", batch, True, True)


LECTURE, TINY = workload(784, 500, 500, 10, batch=1), workload(20, 64, 64, 5, batch=32)


@pytest.mark.parametrize("one", [LECTURE, TINY])
def test_a_training_without_company_takes_the_whole_gpu(one: Workload) -> None:
    assert best_share(one, H100, 1) == 132


def test_small_networks_take_small_shares_and_the_lectures_a_third() -> None:
    assert best_share(TINY, H100, 1_000) == 132 // MOST_AT_ONCE
    assert best_share(TINY, H100, 4) == 132 // 4
    assert best_share(LECTURE, H100, 16) == 132 // 3


def test_what_fits_in_the_whole_gpu_only_gets_it() -> None:
    assert best_share(LECTURE, RTX_3090, 8) == 82


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(DoesNotFitError, match="too large for 16 multiprocessors"):
        best_share(LECTURE._replace(batch=8), GTX_980, 4)


def test_without_a_guarantee_that_all_blocks_run_at_once_nothing_is_shared() -> None:
    one = workload(20, 64, 64, 5, batch=1)
    assert best_share(one, GTX_980, 4) == 16
    assert best_share(one, GTX_980._replace(cooperative=True), 4) < 16


GPUS = st.builds(
    lambda multiprocessors, shared: Part((8, 6), multiprocessors, shared, shared, True),
    st.integers(1, 170), st.integers(48 << 10, 227 << 10),
)  # fmt: skip
WIDTHS = st.lists(st.integers(1, 700), min_size=3, max_size=5)


@settings(max_examples=40, deadline=None)
@given(WIDTHS, st.integers(1, 64), GPUS, st.integers(1, 40))
def test_a_share_is_never_slower_for_all_together_and_keeps_the_threads(widths, batch, gpu, trainings) -> None:
    one = workload(*widths, batch=batch)
    try:
        alone = one.plan(gpu)
    except DoesNotFitError:
        return
    share = best_share(one, gpu, trainings)
    if share == gpu.multiprocessors:
        return
    shared = one.plan(part_of(gpu, share))
    at_once = min(gpu.multiprocessors // share, trainings, MOST_AT_ONCE)
    assert at_once / persistent_cycles(shared) > 1 / persistent_cycles(alone)
    assert shared.blocks <= share
    for attempt in range(ATTEMPTS):  # which one it will be, the compiler says; the order of sums depends on threads
        for hardware in (gpu, part_of(gpu, share)):
            with contextlib.suppress(DoesNotFitError):
                assert one.plan(hardware, attempt).threads == alone.threads


def test_a_training_that_waits_is_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpunet.engines.cuda_device", lambda gpu: H100)
    planned: list[int] = []

    def watched(*arguments) -> int:
        planned.append(1)
        return best_share(*arguments)

    monkeypatch.setattr(places, "best_share", watched)
    free = Multiprocessors(0)
    images, labels = np.zeros((6, 20), np.uint8), np.zeros(6, np.int32)
    choice = Choice("persistent", "")
    training: Any = SimpleNamespace(train=(images, labels), batch_size=2, network=TINY.network, choice=choice)
    taken = [free.take(training, "adam", 100) for _ in range(2 * MOST_AT_ONCE)]
    assert sum(one is not None for one in taken) == MOST_AT_ONCE
    assert len(planned) == 1
