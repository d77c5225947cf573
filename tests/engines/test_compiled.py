"""The compiled engine against the float64 reference, update by update, and how it starts, stops and is chosen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpunet
from conftest import Command, command_environment
from gpunet import engines, threads
from gpunet.engines import choice as engine_choice
from gpunet.engines.base import FORWARD_ROWS
from gpunet.engines.reference import ReferenceEngine, activate, activation_derivative
from gpunet.errors import ArgumentError, DeviceError, TrainingDivergedError
from gpunet.layers import HIDDEN_ACTIVATIONS, LECTURE, Network
from gpunet.optimizers import SGD, Adam
from support.commands import interrupted
from support.devices import refuse_or_skip
from support.engine_cases import (
    OPTIMIZERS,
    SMALL,
    assert_epochs_report_what_the_reference_reports,
    assert_follows_the_reference,
    assert_rates_may_change,
    assert_same_bits,
    distance,
    problem,
    start,
)

if reason := engines.numba_problem():
    refuse_or_skip("CI", reason, allow_module_level=True)
import numba

from gpunet.engines.cpu import compiler, intrinsics, layout, loops, vectors, workers
from gpunet.engines.cpu import engine as compiled
from gpunet.engines.cpu.engine import CompiledEngine
from gpunet.engines.cpu.formulas import ACTIVATIONS
from gpunet.engines.cpu.layout import from_panels, padded, to_panels
from gpunet.engines.cpu.vectors import LANES, TILE_ROWS

THREADS = [1, 2, 3]


@pytest.fixture(params=THREADS, ids=lambda count: f"{count}-threads")
def count(request, monkeypatch: pytest.MonkeyPatch) -> int:
    """Numbers of threads, even more than there are cores, and even for little work."""
    monkeypatch.setattr(compiled, "WORK_OF_A_THREAD", 1)
    return request.param


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("one_hot", [False, True], ids=["integer", "one-hot"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_weights_follow_the_reference_update_by_update(activation, optimizer, one_hot, batch_size) -> None:
    network = Network((20, 16, 12, 10), (activation, activation, "softmax"))
    images, labels, weights = problem(network, 23, input_bytes=one_hot, one_hot=one_hot)
    update_rule = OPTIMIZERS[optimizer]()
    engine = CompiledEngine(network, update_rule, weights)
    # One by one, the linear network with momentum diverges after a dozen updates, and with it every rounding.
    examples = 12 if batch_size == 1 else 23
    images, labels = images[:examples], labels[:examples]
    assert_follows_the_reference(
        engine, network, update_rule, images, labels, batch_size, epochs=1 if batch_size == 1 else 2
    )


@pytest.mark.parametrize(
    "widths", [(5, 3), (9, 1, 2), (3, 70, 33, 7, 4), (130, 17, 131), (1, 1), (40, 64, 32)], ids=str
)
@pytest.mark.parametrize("batch_size", [1, 2, 3, 17])
def test_any_network_and_batch_size(count, widths, batch_size) -> None:
    network = Network(widths, ("tanh",) * (len(widths) - 2) + ("softmax",))
    images, labels, weights = problem(network, 20, input_bytes=True, seed=1)
    engine = CompiledEngine(network, Adam(0.01), weights, count)
    assert_follows_the_reference(engine, network, Adam(0.01), images, labels, batch_size, epochs=1)


@settings(max_examples=40, deadline=None)
@given(
    widths=st.lists(st.integers(1, 3 * TILE_ROWS + 2 * LANES), min_size=2, max_size=5),
    batch_size=st.integers(1, 3 * LANES),
    rest=st.integers(0, 3 * LANES),
    seed=st.integers(0, 99),
)
def test_sizes_around_those_of_tiles_and_panels(widths, batch_size, rest, seed) -> None:
    network = Network(tuple(widths), ("sigmoid",) * (len(widths) - 2) + ("softmax",))
    images, labels, weights = problem(network, batch_size + rest, seed=seed)
    engine = CompiledEngine(network, SGD(0.1), weights, 2)
    reference = ReferenceEngine(network, SGD(0.1), weights, np.float64)
    order = np.random.default_rng(seed).permutation(len(images)).astype(np.int32)
    statistics = engine.train_epoch(engine.upload(images), engine.upload(labels), order, batch_size)
    expected = reference.train_epoch(images, labels, order, batch_size)
    assert statistics.loss == pytest.approx(expected.loss, rel=1e-5, abs=1e-6)
    assert distance(engine.weights, reference.weights) < 1e-5
    np.testing.assert_allclose(engine.predict(images), reference.predict(images), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_whole_epochs_with_a_short_last_batch_report_what_the_reference_reports(count, batch_size) -> None:
    images, labels, weights = problem(SMALL, 150, input_bytes=True)
    engine = CompiledEngine(SMALL, Adam(0.01), weights, count)
    assert_epochs_report_what_the_reference_reports(engine, images, labels, weights, batch_size)
    assert engine.predict(engine.upload(images)[:1]).shape == (1, 10)


def test_one_engine_predicts_for_several_threads_at_once() -> None:
    network = Network((200, 300, 10), ("tanh", "softmax"))
    engine = CompiledEngine(network, Adam(), start(network), 2)
    batches = [np.random.default_rng(seed).normal(size=(800, 200)).astype(np.float32) for seed in range(4)]
    expected = [engine.predict(batch) for batch in batches]
    wrong: list[int] = []

    def predict(number: int) -> None:
        wrong.extend(number for _ in range(20) if not np.array_equal(engine.predict(batches[number]), expected[number]))

    callers = [threading.Thread(target=predict, args=(number,)) for number in range(len(batches))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_more_examples_than_one_chunk_are_all_predicted(count) -> None:
    examples = 2 * FORWARD_ROWS + 5
    images, labels, weights = problem(SMALL, examples, input_bytes=True)
    engine, reference = (
        CompiledEngine(SMALL, Adam(), weights, count),
        ReferenceEngine(SMALL, Adam(), weights, np.float64),
    )
    np.testing.assert_allclose(engine.predict(images), reference.predict(images), atol=1e-6)
    assert engine.evaluate(images, labels) == pytest.approx(reference.evaluate(images, labels), rel=1e-5)


@pytest.mark.parametrize("feature", ["avx512f", "avx", "neon", "sse2"])
def test_predictions_take_whole_blocks_of_tiles_on_every_processor(feature: str) -> None:
    _, rows = vectors._shape_of_tiles({feature: True})
    assert FORWARD_ROWS % (loops.BLOCK_TILES * rows) == 0


@pytest.mark.parametrize("batch_size", [1, 100])
def test_the_first_of_equally_probable_classes_is_predicted(batch_size) -> None:
    network = Network((3, 20), ("softmax",))
    images, labels = np.ones((100, 3), np.float32), np.arange(100, dtype=np.int32) // 10
    zeros = [np.zeros(shape, np.float32) for shape in network.weight_shapes]
    engine = CompiledEngine(network, SGD(1e-30), zeros)
    order = np.arange(100, dtype=np.int32)
    statistics = engine.train_epoch(engine.upload(images), engine.upload(labels), order, batch_size)
    assert statistics.accuracy == pytest.approx(0.1)


def test_where_a_target_is_0_nothing_is_added_however_improbable_the_class() -> None:
    network = Network((1, 3), ("softmax",))
    weights = [np.array([[-3e38, 0, 0]], np.float32), np.zeros(3, np.float32)]
    images = np.full((4, 1), 2, np.float32)  # the first logit is minus infinity
    targets = np.tile(np.array([[0, 0.5, 0.5]], np.float32), (4, 1))
    engine = CompiledEngine(network, SGD(0.1), weights)
    statistics = engine.train_epoch(engine.upload(images), engine.upload(targets), np.arange(4, dtype=np.int32), 2)
    assert statistics.loss == pytest.approx(np.log(2))


def test_logits_that_overflow_are_reported_and_raise_no_warning() -> None:
    network = Network((1, 3), ("softmax",))
    weights = [np.full((1, 3), 3e38, np.float32), np.zeros(3, np.float32)]
    engine = CompiledEngine(network, SGD(0.1), weights)
    images = np.full((4, 1), 2, np.float32)
    assert np.isnan(engine.predict(images)).all()
    assert np.isnan(engine.evaluate(images, np.zeros(4, np.int32))[0])


@pytest.mark.parametrize("batch_size", [1, 10, 100])
def test_real_updates_of_the_lectures_network_on_mnist(batch_size, mnist: gpunet.Dataset) -> None:
    images = mnist.train.images[: 3 * batch_size].reshape(-1, 784)
    labels = mnist.train.labels[: 3 * batch_size]
    engine = CompiledEngine(LECTURE, Adam(), start(LECTURE), 2)
    assert_follows_the_reference(engine, LECTURE, Adam(), images, labels, batch_size, epochs=1)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_inputs_that_are_0_at_first_learn_as_in_the_reference(optimizer) -> None:
    """Batches of one leave out the weights of inputs that have always been 0, until one is not."""
    images, labels, weights = problem(SMALL, 40, input_bytes=True)
    for example in range(40):
        images[example, 1 + example // 3 :] = 0
    images[30:, :5] = 0  # inputs that fall silent, while their slots go on
    images[[0, 13], 15:] = 7  # inputs that only an epoch's first example has
    update_rule = OPTIMIZERS[optimizer]()
    engine, truth = (
        CompiledEngine(SMALL, update_rule, weights),
        ReferenceEngine(SMALL, update_rule, weights, np.float64),
    )
    uploaded = engine.upload(images), engine.upload(labels)
    for first in (0, 13, 26):  # the second and third epoch have to find out which slots are in use
        order = np.arange(first, first + 13, dtype=np.int32)
        engine.train_epoch(*uploaded, order, 1)
        truth.train_epoch(images, labels, order, 1)
    assert distance(engine.weights, truth.weights) < 1e-6
    for slot, arrays in engine.optimizer_state.slots.items():
        assert distance(arrays, truth.optimizer_state.slots[slot]) < 1e-6


@pytest.mark.parametrize("batch_size", [1, 2, 40, 100])
def test_results_are_the_same_bit_by_bit_with_any_number_of_threads(monkeypatch, batch_size) -> None:
    monkeypatch.setattr(compiled, "WORK_OF_A_THREAD", 1)
    images, labels, weights = problem(LECTURE, 130, input_bytes=True)

    def trained(number: int) -> CompiledEngine:
        engine = CompiledEngine(LECTURE, Adam(0.01), weights, number)
        for seed in range(2):
            order = np.random.default_rng(seed).permutation(130).astype(np.int32)
            engine.train_epoch(engine.upload(images), engine.upload(labels), order, batch_size)
        return engine

    first = trained(1)
    for number in (1, 2, 3, 8):
        other = trained(number)
        assert_same_bits(first, other)
        np.testing.assert_array_equal(first.predict(images), other.predict(images))


@pytest.mark.parametrize("widths", [(5, 3), (9, 70, 33, 4), (40, 64, 131)], ids=str)
@pytest.mark.parametrize("batch_size", [1, 17, 300])
def test_small_and_odd_networks_too(monkeypatch, widths, batch_size) -> None:
    monkeypatch.setattr(compiled, "WORK_OF_A_THREAD", 1)
    network = Network(widths, ("softplus",) * (len(widths) - 2) + ("softmax",))
    images, labels, weights = problem(network, 310, seed=3)
    engines = [CompiledEngine(network, SGD(0.05, 0.9), weights, number) for number in (1, 2, 3, 8)]
    for engine in engines:
        engine.train_epoch(engine.upload(images), engine.upload(labels), np.arange(310, dtype=np.int32), batch_size)
    for engine in engines[1:]:
        assert_same_bits(engines[0], engine)


@pytest.mark.parametrize("batch_size", [1, 30])
def test_results_do_not_depend_on_how_many_threads_work_when(monkeypatch, batch_size) -> None:
    monkeypatch.setattr(workers, "AIR_SECONDS", 0.002)

    class Restless(workers.Pace):
        def note(self, phases: int, seconds: float, sleeps: int) -> int:
            self.active = 1 + (self.active + 1) % self.threads
            return self.active

    images, labels, weights = problem(LECTURE, 1500, input_bytes=True)
    order = np.arange(1500, dtype=np.int32)
    steady, restless = (CompiledEngine(LECTURE, Adam(0.01), weights, 3) for _ in range(2))
    job = restless._job(True, batch_size)
    plan, _ = restless._planned(job)
    restless._plans[True] = job, plan, Restless(job.threads)
    for engine in (steady, restless):
        engine.train_epoch(engine.upload(images), engine.upload(labels), order, batch_size, lambda updates: None)
    assert_same_bits(steady, restless)


@pytest.mark.parametrize("batch_size", [1, 20])
def test_training_can_continue_with_another_number_of_threads(monkeypatch, batch_size) -> None:
    monkeypatch.setattr(compiled, "WORK_OF_A_THREAD", 1)
    images, labels, weights = problem(SMALL, 50)
    order = np.arange(50, dtype=np.int32)
    alone = CompiledEngine(SMALL, Adam(0.01), weights, 3)
    started, resumed = CompiledEngine(SMALL, Adam(0.01), weights, 3), CompiledEngine(SMALL, Adam(0.01), weights, 1)
    for engine in (alone, alone, started):
        engine.train_epoch(images, labels, order, batch_size)
    resumed.weights, resumed.optimizer_state = started.weights, started.optimizer_state
    resumed.train_epoch(images, labels, order, batch_size)
    assert_same_bits(alone, resumed)


def test_moving_between_engines_continues_the_same_run() -> None:
    images, labels, weights = problem(SMALL, 40)
    order = np.arange(40, dtype=np.int32)

    def run(batch_size: int, *kinds: type) -> list[np.ndarray]:
        previous = None
        for kind in kinds:
            engine = kind(SMALL, Adam(0.01), weights)
            if previous is not None:
                engine.weights, engine.optimizer_state = previous.weights, previous.optimizer_state
            engine.train_epoch(engine.upload(images), engine.upload(labels), order, batch_size)
            previous = engine
        return previous.weights

    for batch_size in (1, 7):
        staying = CompiledEngine(SMALL, Adam(0.01), weights)
        for _ in range(3):
            staying.train_epoch(staying.upload(images), staying.upload(labels), order, batch_size)
        for one, other in zip(run(batch_size, *[CompiledEngine] * 3), staying.weights, strict=True):
            np.testing.assert_array_equal(one, other)
        truth = run(batch_size, *[ReferenceEngine] * 3)
        assert distance(staying.weights, truth) < 1e-5
        assert distance(run(batch_size, CompiledEngine, ReferenceEngine, CompiledEngine), truth) < 1e-5


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_loss_that_is_not_finite_names_its_update_and_leaves_no_trace(count, batch_size) -> None:
    images, labels, weights = problem(SMALL, 40)
    spoilt = images.copy()
    spoilt[23] = np.nan
    engine, order = CompiledEngine(SMALL, Adam(), weights, count), np.arange(40, dtype=np.int32)
    engine.train_epoch(engine.upload(images), engine.upload(labels), order, batch_size)
    before, state = engine.weights, engine.optimizer_state
    with pytest.raises(TrainingDivergedError, match=f"at update {23 // batch_size + 1};"):
        engine.train_epoch(engine.upload(spoilt), engine.upload(labels), order, batch_size)
    after, twin = engine.weights, CompiledEngine(SMALL, Adam(), before, count)
    for one, other in zip(after, before, strict=True):
        np.testing.assert_array_equal(one, other)
    twin.optimizer_state = state
    for each in (engine, twin):  # what the spoilt epoch left in the room for intermediate results is not looked at
        each.train_epoch(each.upload(images), each.upload(labels), order, batch_size)
    assert_same_bits(engine, twin)


def test_hyper_parameters_may_change_between_epochs() -> None:
    assert_rates_may_change(lambda optimizer, weights: CompiledEngine(SMALL, optimizer, weights))


def test_read_only_and_strided_images_are_accepted() -> None:
    images, labels, weights = problem(SMALL, 30)
    engine, twin = CompiledEngine(SMALL, Adam(), weights), CompiledEngine(SMALL, Adam(), weights)
    locked, apart = images.copy(), np.repeat(images, 2, axis=1)[:, ::2]
    locked.flags.writeable = False
    order = np.arange(30, dtype=np.int32)
    engine.train_epoch(engine.upload(locked), engine.upload(labels), order, 4)
    twin.train_epoch(twin.upload(apart), twin.upload(labels), order, 4)
    assert_same_bits(engine, twin)


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_activations_are_as_accurate_as_numpys(activation) -> None:
    z = np.concatenate([np.linspace(-120, 120, 9984), [0, -0.0, 1e-30, -1e-30, 1e-3, np.inf, -np.inf, np.nan] * 4])
    z = z.astype(np.float32)[: len(z) // LANES * LANES]
    y = np.empty_like(z)
    _call(ACTIVATIONS[activation].rows, y, LANES, z, len(z) // LANES, 1)
    with np.errstate(all="ignore"):
        expected = activate(z.astype(np.float64), activation)
        plain = activate(z.copy(), activation)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(plain))
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(y, expected, rtol=4e-7, atol=3e-8 if activation == "hard_sigmoid" else 1e-38)


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_slopes_are_as_accurate_as_numpys(activation) -> None:
    z = np.linspace(-30, 30, 160, dtype=np.float64).astype(np.float32)[: 160 // LANES * LANES]
    with np.errstate(all="ignore"):
        y = activate(z.astype(np.float64), activation).astype(np.float32)
    dz = np.full_like(y, 3)
    _call(ACTIVATIONS[activation].slopes, dz, LANES, y, LANES, len(y) // LANES)
    np.testing.assert_allclose(dz, 3 * activation_derivative(y.astype(np.float64), activation), rtol=4e-7, atol=3e-7)


def test_a_block_is_transposed() -> None:
    source, target = np.arange(LANES * 50, dtype=np.float32).reshape(LANES, 50), np.zeros((LANES, 40), np.float32)
    _call(vectors.TRANSPOSE, target, 40, source, 50)
    np.testing.assert_array_equal(target[:, :LANES], source[:, :LANES].T)
    assert not target[:, LANES:].any()


def _call(function: vectors.VectorFunction, *arguments) -> None:
    """Call a C function as the loops do: by its address."""
    import ctypes

    kinds = [ctypes.c_void_p if isinstance(value, np.ndarray) else ctypes.c_int64 for value in arguments]
    values = [value.ctypes.data if isinstance(value, np.ndarray) else value for value in arguments]
    ctypes.CFUNCTYPE(None, *kinds)(compiler.address(function))(*values)


class _Clock:
    """Windows of a Pace, one after another. rate: the speed of the work, by the number of threads."""

    def __init__(self, threads: int, rate, sleeps: int = 0) -> None:
        self.pace, self.rate, self.sleeps = workers.Pace(threads), rate, sleeps

    def run(self, windows: int) -> list[int]:
        second = workers.Pace.WINDOW_SECONDS
        return [
            self.pace.note(
                int(self.rate(self.pace.active) * second), second, int(self.sleeps * second) * self.pace.active
            )
            for _ in range(windows)
        ]


def test_on_a_quiet_machine_all_threads_work_nearly_all_the_time() -> None:
    assert _Clock(8, lambda threads: 1000 * threads).run(200).count(8) >= 196


def test_fewer_threads_work_if_that_is_faster_though_none_of_them_sleeps() -> None:
    active = _Clock(2, lambda threads: 1000 / threads).run(400)
    assert active.index(1) < 5
    assert active[100:].count(1) > 280


def test_one_thread_works_if_that_is_faster_and_more_are_tried_rarely() -> None:
    active = _Clock(4, lambda threads: 8000 / threads, sleeps=1000).run(400)
    assert active[-1] == 1 or active[-2] == 1
    assert active.index(1) < 10
    assert active[100:].count(1) > 280


def test_sleeping_threads_are_kept_if_they_help() -> None:
    active = _Clock(2, lambda threads: 1000 * threads, sleeps=1000).run(400)
    assert active[-1] == 2
    assert active[100:].count(2) > 280


def test_all_threads_work_again_soon_after_the_load_ends() -> None:
    clock = _Clock(2, lambda threads: 2000 / threads, sleeps=1000)
    assert 1 in clock.run(100)
    clock.rate, clock.sleeps = (lambda threads: 1000 * threads), 0
    assert clock.run(workers.Pace.LONGEST_PAUSE + 3)[-1] == 2


@given(rows=st.integers(1, 9), columns=st.integers(1, 5 * LANES))
def test_panels_hold_every_element_once(rows, columns) -> None:
    matrix = np.arange(1, rows * columns + 1, dtype=np.float32).reshape(rows, columns)
    panels = to_panels(matrix)
    assert panels.shape == (rows * padded(columns),)
    np.testing.assert_array_equal(np.sort(panels[panels != 0]), matrix.ravel())
    np.testing.assert_array_equal(from_panels(np.append(panels, [7.0]), rows, columns), matrix)


@pytest.mark.parametrize("batch_size", [1, 50])
def test_an_interrupt_ends_the_threads_and_restores_the_epoch(batch_size) -> None:
    images, labels, weights = problem(LECTURE, 20_000, input_bytes=True)
    engine = CompiledEngine(LECTURE, Adam(), weights, 2)
    uploaded = engine.upload(images), engine.upload(labels)
    engine.prepare(*uploaded, 20_000, batch_size)
    seen: list[int] = []

    def interrupt(updates: int) -> None:
        seen.append(updates)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.train_epoch(*uploaded, np.arange(20_000, dtype=np.int32), batch_size, interrupt)
    assert 0 < seen[0] < 20_000 // batch_size
    time.sleep(0.05)  # a thread that was still running would go on with the weights
    for one, other in zip(engine.weights, weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert engine.optimizer_state.updates == 0


def test_an_error_in_one_thread_ends_the_others() -> None:
    def loop(work, thread, threads) -> None:
        if thread == 1:
            raise MemoryError("in a thread")
        while not work.sync[layout.STOP]:
            time.sleep(0.001)

    with pytest.raises(MemoryError, match="in a thread"):
        workers.run_on_threads(loop, _work_without_a_table(2), 2, lambda updates: None)


@pytest.mark.parametrize("after", [1, 2])
def test_ctrl_c_right_after_a_threads_start_waits_for_it_too(monkeypatch, after) -> None:
    begun: list[int] = []
    ended: list[int] = []
    start = workers._thread.start_new_thread

    def interrupted(function, arguments) -> None:
        start(function, arguments)
        while len(begun) <= arguments[0]:
            time.sleep(0.001)
        if len(begun) == after:
            raise KeyboardInterrupt

    def loop(work, thread, threads) -> None:
        begun.append(thread)
        while not work.sync[layout.STOP]:
            time.sleep(0.001)
        time.sleep(0.02)  # what it is at
        ended.append(thread)

    monkeypatch.setattr(workers._thread, "start_new_thread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        workers.run_on_threads(loop, _work_without_a_table(2), 2, lambda updates: None)
    assert sorted(ended) == list(range(after))


@pytest.mark.parametrize("phase", [1, 2**31, 2**32 - 1, 2**32, 2**40])
def test_units_are_claimed_however_many_stages_an_epoch_has(phase) -> None:
    table, sync = np.zeros(layout.LAYER_TABLE, np.int64), np.zeros(layout.sync_size(2), np.int64)
    table[layout.SYNC], table[layout.STAGES] = sync.ctypes.data, 1
    _finish(table.ctypes.data, phase - 1, 1, 1, 2)
    assert sync[layout.PHASE] == phase
    assert [_claim(table.ctypes.data, stage, 1, 2) for stage in [phase - 1, phase, phase, phase, phase + 1]] == [
        *(-1, 0, 1, -1, -1)
    ]


@numba.njit
def _claim(table, phase, share, units):
    return loops.claim(intrinsics.ints(table), phase, share, units)


@numba.njit
def _finish(table, phase, made, units, threads):
    loops.finish(intrinsics.ints(table), phase, made, units, threads)


def _work_without_a_table(threads: int) -> layout.Work:
    nothing = np.zeros(0, np.float32)
    sync = np.zeros(layout.sync_size(threads), np.int64)
    return layout.Work(np.zeros(0, np.int64), sync, nothing, nothing.astype(np.uint8), nothing, [])


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_the_command_at_once() -> None:
    words = ["gpunet.train", "--device", "cpu", "--engine", "compiled", "--batch-size", 1]
    ended = interrupted(words, signal.SIGINT, "model", pause=3)  # into the first epoch, which takes several seconds
    assert ended.status == 130
    assert "interrupted after 0 epochs" in ended.output
    assert ended.seconds < 5


def test_it_is_chosen_on_a_cpu_and_says_so() -> None:
    choice = engines.choose(SMALL, 1, device="cpu")
    assert choice.engine == "compiled"
    assert choice.reason.startswith("cpu, engine compiled (Numba ")
    assert isinstance(choice.make(SMALL, Adam(), start(SMALL)), CompiledEngine)
    assert engines.choose(SMALL, 1, engine="reference").engine == "reference"


def test_without_numba_the_reference_engine_trains_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    row = engine_choice.TABLE["compiled"]._replace(problem=lambda: "Numba is not here")
    monkeypatch.setitem(engine_choice.TABLE, "compiled", row)
    choice = engines.choose(SMALL, 1, device="cpu")
    assert choice.engine == "reference"
    assert choice.reason == f"cpu, engine reference (NumPy {np.__version__}): Numba is not here"
    with pytest.raises(DeviceError, match="engine compiled: Numba is not here"):
        engines.choose(SMALL, 1, engine="compiled")


def test_the_whole_package_works_without_numba(command: Command, small_npz: Path, tmp_path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "numba.py").write_text("raise ModuleNotFoundError(\"No module named 'numba'\")\n")
    environment = command_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(hidden), environment["PYTHONPATH"]])
    options = ["--data", str(small_npz), "--epochs", "1", "--batch-size", "9", "--device", "cpu"]
    arguments = [sys.executable, "-m", "gpunet.train", *options]
    result = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "engine reference" in result.stdout
    assert "pip install numba" in result.stdout.splitlines()[0]


def test_a_numba_with_compilation_disabled_counts_as_missing() -> None:
    program = "from gpunet import engines; print(engines.numba_problem())"
    environment = {**command_environment(), "NUMBA_DISABLE_JIT": "1"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert run.stdout == "Numba's compiler is switched off (NUMBA_DISABLE_JIT)\n"


def test_the_engine_uses_the_threads_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: 8)
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert threads.count() == 8
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads.count() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", " 4,2")
    assert threads.count() == 4
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    assert threads.count() == 2
    assert CompiledEngine(LECTURE, Adam(), start(LECTURE))._job(True, 10_000).threads == 2
    assert CompiledEngine(SMALL, Adam(), start(SMALL))._job(True, 1).threads == 1  # little work
    monkeypatch.setenv("NUMBA_NUM_THREADS", "20")
    assert threads.count() == 8
    monkeypatch.setenv("NUMBA_NUM_THREADS", "two")
    with pytest.raises(ArgumentError, match="NUMBA_NUM_THREADS: expected a whole number above 0, got 'two'"):
        threads.count()


def test_the_command_uses_the_threads_it_is_told(command: Command, small_npz: Path) -> None:
    options = ["--data", small_npz, "--epochs", 1, "--batch-size", 9, "--device", "cpu"]
    result = command("gpunet.train", *options, "--threads", 1)
    assert result.returncode == 0, result.stderr
    assert "threads: 1)" in result.stdout
    refused = command("gpunet.train", *options, "--threads", 9999)
    assert refused.returncode == 2
    assert refused.stderr.startswith("gpunet train: threads: expected at most the ")
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ["0", "abc"])
def test_a_number_of_threads_that_numba_rejects_is_one_clear_line(text, command: Command, monkeypatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", text)
    result = command("gpunet.train", "--device", "cpu", "--epochs", 1)
    assert result.returncode == 2
    assert result.stderr == f"gpunet train: NUMBA_NUM_THREADS: expected a whole number above 0, got {text!r}\n"
