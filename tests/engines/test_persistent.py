"""The persistent engine, host code and kernel, against the float64 reference, update by update, and against itself."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import gpunet
from emulator import EmulatedDevice, missing
from gpunet import engines
from gpunet.engines import choice
from gpunet.engines.cuda import persistent_plan
from gpunet.engines.cuda.architectures import ARCHITECTURES
from gpunet.engines.cuda.persistent import KERNEL, PersistentEngine
from gpunet.engines.cuda.sources import source_folder
from gpunet.engines.cuda.tiled import TiledEngine
from gpunet.engines.reference import ReferenceEngine
from gpunet.errors import DeviceError
from gpunet.layers import HIDDEN_ACTIVATIONS, LECTURE, Network
from gpunet.optimizers import RULES, SGD, Adam
from support import devices
from support.devices import EVERYWHERE, ORDERS, PLAIN
from support.engine_cases import (
    OPTIMIZERS,
    SMALL,
    assert_epochs_report_what_the_reference_reports,
    assert_follows_the_reference,
    assert_nan_undoes_the_epoch,
    assert_rates_may_change,
    assert_same_bits,
    distance,
    flat,
    problem,
    start,
)

ONE_HIDDEN = Network((9, 8, 3), ("sigmoid", "softmax"))
THREE_HIDDEN = Network((9, 7, 5, 8, 3), ("sigmoid", "relu", "tanh", "softmax"))
H100_SHARED = 227 * 1024


def open_device(
    kind: str,
    multiprocessors: int = 4,
    shared_bytes: int = 48 * 1024,
    network: Network = SMALL,
    batch_size: int = 3,
) -> devices.Device:
    """For a network and batch size that do not fit every GPU; the others fit wherever SMALL does."""
    return devices.open_device_that_fits(kind, network, batch_size, multiprocessors, shared_bytes)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("one_hot", [False, True], ids=["integer", "one-hot"])
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_weights_follow_the_reference_update_by_update(kind, activation, one_hot) -> None:
    network = Network((20, 16, 12, 10), (activation, activation, "softmax"))
    images, labels, weights = problem(network, 25, input_bytes=one_hot, one_hot=one_hot)
    engine = PersistentEngine(network, Adam(0.01), weights, open_device(kind))
    assert_follows_the_reference(engine, network, Adam(0.01), images, labels, batch_size=5, epochs=2)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [1, 6])
def test_every_optimizer_follows_the_reference(kind, optimizer, batch_size) -> None:
    images, labels, weights = problem(THREE_HIDDEN, 24, input_bytes=True)
    update_rule = OPTIMIZERS[optimizer]()
    engine = PersistentEngine(THREE_HIDDEN, update_rule, weights, open_device(kind))
    assert_follows_the_reference(engine, THREE_HIDDEN, update_rule, images, labels, batch_size, epochs=2)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize(
    "widths", [(5, 1, 3), (9, 4, 2), (3, 70, 33, 7, 4), (130, 17, 131), (6, 40, 129, 5), (300, 5, 5, 5, 5, 1)], ids=str
)
@pytest.mark.parametrize("batch_size", [1, 2, 9])
def test_any_network_that_fits_and_any_batch_size(kind, widths, batch_size) -> None:
    network = Network(widths, ("tanh",) * (len(widths) - 2) + ("softmax",))
    images, labels, weights = problem(network, 18, input_bytes=True, seed=2)
    device = open_device(kind, 5, H100_SHARED, network, batch_size)
    engine = PersistentEngine(network, Adam(0.01), weights, device)
    assert_follows_the_reference(engine, network, Adam(0.01), images, labels, batch_size, epochs=1)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("input_bytes", [False, True], ids=["float", "bytes"])
@pytest.mark.parametrize("staged", [False, True], ids=["where images lie", "staged"])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_columns_in_runs_of_every_length_follow_the_reference(kind, input_bytes, staged, batch_size) -> None:
    """Of 32 threads: inputs in runs of 4, 4, 2 and 1, layers of 4 and 1, and of 2 and 1; all with an odd end."""
    network = Network((349, 131, 67, 10), ("sigmoid", "sigmoid", "softmax"))
    images, labels, weights = problem(network, 10, input_bytes=input_bytes)
    engine = PersistentEngine(
        network, Adam(0.01), weights, open_device(kind, 60, H100_SHARED),
        adjust=lambda made: replace(made, threads=32, staged=staged),
    )  # fmt: skip
    assert_follows_the_reference(engine, network, Adam(0.01), images, labels, batch_size, epochs=1)
    assert [engine._epoch.plan.columns(layer) for layer in range(3)] == [11, 5, 3]


@pytest.mark.parametrize("kind", PLAIN)
def test_weights_of_an_input_that_is_always_0_do_not_move_whatever_epsilon_is(kind) -> None:
    """Their moments are 0; two weights share the reciprocal of their divisors' product, which must not become 0."""
    network = Network((100, 16, 12, 10), ("sigmoid", "sigmoid", "softmax"))
    images, labels, weights = problem(network, 12, input_bytes=True)
    images[:, 4:8] = 0
    engine = PersistentEngine(
        network, Adam(0.01, epsilon=1e-36), weights, open_device(kind), adjust=lambda made: replace(made, threads=32)
    )
    engine.train_epoch(engine.upload(images), engine.upload(labels), np.arange(12, dtype=np.int32), 1)
    np.testing.assert_array_equal(engine.weights[0][4:8], weights[0][4:8])
    assert np.isfinite(flat(engine.weights)).all()
    assert not np.array_equal(engine.weights[0][:4], weights[0][:4])


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("batch_size", [1, 7, 32])
def test_whole_epochs_with_a_short_last_batch_report_what_the_reference_reports(kind, batch_size) -> None:
    images, labels, weights = problem(SMALL, 150, input_bytes=True)
    device = open_device(kind, shared_bytes=H100_SHARED, batch_size=batch_size)
    engine = PersistentEngine(SMALL, Adam(0.01), weights, device)
    assert_epochs_report_what_the_reference_reports(engine, images, labels, weights, batch_size)


@pytest.mark.parametrize("kind", EVERYWHERE)
@pytest.mark.parametrize("network", [ONE_HIDDEN, THREE_HIDDEN], ids=str)
def test_training_is_clean_in_every_order_and_under_sanitizers(kind, network) -> None:
    images, labels, weights = problem(network, 11, input_bytes=True)
    engine = PersistentEngine(network, Adam(0.01), weights, open_device(kind))
    uploaded, order = (engine.upload(images), engine.upload(labels)), np.arange(11, dtype=np.int32)
    truth = ReferenceEngine(network, Adam(0.01), weights, np.float64)
    for _ in range(2):
        engine.train_epoch(*uploaded, order, 4)
        truth.train_epoch(images, labels, order, 4)
    assert distance(engine.weights, truth.weights) < 1e-6


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize(("batch_size", "updates"), [(1, 3), (10, 2)])
def test_real_updates_of_the_lectures_network_on_mnist(kind, batch_size, updates, mnist: gpunet.Dataset) -> None:
    """As an H100 would run it: 125 blocks of 256 threads."""
    images = mnist.train.images[: updates * batch_size].reshape(-1, 784)
    labels = mnist.train.labels[: updates * batch_size]
    device = open_device(kind, 132, H100_SHARED, LECTURE, batch_size)
    engine = PersistentEngine(LECTURE, Adam(), start(LECTURE), device)
    assert_follows_the_reference(engine, LECTURE, Adam(), images, labels, batch_size, epochs=1)


def open_device_of(kind: str, capability: tuple[int, int], multiprocessors: int) -> devices.Device:
    """A GPU, or an emulated one of an older generation."""
    if kind == "gpu" or missing():
        return open_device(kind, network=LECTURE, batch_size=1)
    return EmulatedDevice(multiprocessors=multiprocessors, capability=capability)


def once(made: persistent_plan.Plan) -> persistent_plan.Plan:
    """The plan with weights between hidden layers in one block instead of two."""
    return replace(made, twice=False, in_shared=made.in_shared[: made.hidden + 1])


def trained(
    kind: str,
    network: Network = SMALL,
    batch_size: int = 3,
    multiprocessors: int = 4,
    epochs: int = 2,
    change: Callable[[persistent_plan.Plan], persistent_plan.Plan] = lambda made: made,
    **plan,
) -> PersistentEngine:
    images, labels, weights = problem(network, 40, input_bytes=True)
    device = open_device(kind, multiprocessors)
    engine = PersistentEngine(network, Adam(0.01), weights, device, adjust=lambda made: replace(change(made), **plan))
    uploaded = engine.upload(images), engine.upload(labels)
    for seed in range(epochs):
        engine.train_epoch(*uploaded, np.random.default_rng(seed).permutation(40).astype(np.int32), batch_size)
    return engine


@pytest.mark.parametrize("kind", PLAIN)
def test_runs_repeat_bit_by_bit(kind) -> None:
    assert_same_bits(trained(kind), trained(kind))


@pytest.mark.parametrize("network", [ONE_HIDDEN, SMALL, THREE_HIDDEN], ids=str)
def test_blocks_that_run_ahead_or_lag_behind_change_no_bit(network) -> None:
    """A seed determines an order of threads and blocks, and delays some blocks at every exchange."""
    expected = trained("order-forward", network, batch_size=1)
    for order in [*ORDERS[1:], *range(4, 16)]:
        assert_same_bits(trained(f"order-{order}", network, batch_size=1), expected)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_number_of_blocks_changes_no_bit(batch_size) -> None:
    expected = trained("order-forward", THREE_HIDDEN, batch_size, multiprocessors=1)
    for multiprocessors in (2, 3, 5):
        engine = trained("order-forward", THREE_HIDDEN, batch_size, multiprocessors=multiprocessors)
        assert engine._epoch.plan.blocks == multiprocessors
        assert_same_bits(engine, expected)


@pytest.mark.parametrize("kind", PLAIN)
def test_the_place_of_an_array_changes_no_bit(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trained(kind)
    for working in (240, 246, 252):  # fewer and fewer registers for weights and moments
        monkeypatch.setattr(persistent_plan, "WORKING_REGISTERS", {2: (working,) * persistent_plan.ATTEMPTS})
        engine = trained(kind)
        assert any(engine._epoch.plan.in_shared)
        assert_same_bits(engine, expected)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("examples", [3, 10, 39])
def test_splitting_an_epoch_into_launches_changes_no_bit(kind, examples, monkeypatch) -> None:
    expected = trained(kind)
    monkeypatch.setattr(persistent_plan, "LAUNCH_EXAMPLES", examples)
    assert_same_bits(trained(kind), expected)


@pytest.mark.parametrize("kind", PLAIN)
def test_staging_inputs_ahead_changes_no_bit(kind) -> None:
    expected = trained(kind)
    assert expected._epoch.plan.staged
    assert_same_bits(trained(kind, staged=False), expected)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("threads", [32, 64, 256])
def test_any_number_of_threads_follows_the_reference(kind, threads) -> None:
    """The bits differ, since sums over columns are taken in another order."""
    assert distance(trained(kind, threads=threads).weights, trained(kind).weights) < 1e-6


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("network", [SMALL, THREE_HIDDEN], ids=str)
def test_both_copies_of_weights_between_hidden_layers_stay_the_same(kind, network) -> None:
    assert_same_bits(trained(kind, network, extra=(("STORE_OUTGOING", 1),)), trained(kind, network))


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize(("optimizer", "batch_size"), [("adam", 6), ("nesterov", 1), ("sgd", 6)])
def test_weights_between_hidden_layers_kept_once_follow_the_reference(kind, optimizer, batch_size) -> None:
    images, labels, weights = problem(THREE_HIDDEN, 24, input_bytes=True)
    update_rule = OPTIMIZERS[optimizer]()
    engine = PersistentEngine(THREE_HIDDEN, update_rule, weights, open_device(kind), adjust=once)
    assert_follows_the_reference(engine, THREE_HIDDEN, update_rule, images, labels, batch_size, epochs=1)
    assert engine._epoch.plan.exchanges == 5


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize(
    ("widths", "batch_size"), [((3, 70, 33, 7, 4), 9), ((6, 40, 129, 5), 2), ((9, 44, 50, 3), 1)], ids=str
)
def test_sums_over_blocks_of_any_widths_follow_the_reference(kind, widths, batch_size) -> None:
    """Neurons per block: 1 to 33; columns in runs of 4, 2 and 1, with an odd end; more blocks than senders at once."""
    network = Network(widths, ("tanh",) * (len(widths) - 2) + ("softmax",))
    images, labels, weights = problem(network, 18, input_bytes=True, seed=2)
    device = open_device(kind, 2 if batch_size == 2 else 44, H100_SHARED, network, batch_size)
    engine = PersistentEngine(network, Adam(0.01), weights, device, adjust=lambda made: replace(once(made), threads=32))
    assert_follows_the_reference(engine, network, Adam(0.01), images, labels, batch_size, epochs=1)


@pytest.mark.parametrize("kind", PLAIN)
def test_an_update_as_an_rtx_3090_would_run_it(kind, mnist: gpunet.Dataset) -> None:
    """72 blocks of 256 threads, batch size 10, which fits with weights between hidden layers once."""
    images, labels = mnist.train.images[:10].reshape(-1, 784), mnist.train.labels[:10]
    device = open_device(kind, 82, 99 * 1024, LECTURE, 10)
    engine = PersistentEngine(LECTURE, Adam(), start(LECTURE), device)
    assert_follows_the_reference(engine, LECTURE, Adam(), images, labels, 10, epochs=1)
    if kind != "gpu":
        assert not engine._epoch.plan.twice


@pytest.mark.parametrize("batch_size", [1, 3])
def test_sums_over_blocks_have_the_same_bits_whoever_comes_first(batch_size) -> None:
    expected = trained("order-forward", THREE_HIDDEN, batch_size, change=once)
    for order in [*ORDERS[1:], *range(4, 12)]:
        assert_same_bits(trained(f"order-{order}", THREE_HIDDEN, batch_size, change=once), expected)


@pytest.mark.parametrize("kind", PLAIN)
def test_keeping_weights_once_leaves_the_cuts_and_places_free(kind, monkeypatch) -> None:
    expected = trained(kind, change=once)
    in_shared = trained(kind, change=once, in_shared=(1, 3, 2))
    assert_same_bits(in_shared, expected)
    monkeypatch.setattr(persistent_plan, "LAUNCH_EXAMPLES", 10)
    assert_same_bits(trained(kind, change=once), expected)
    assert distance(expected.weights, trained(kind).weights) < 1e-6


@pytest.mark.parametrize("capability", [(5, 2), (6, 1)])
def test_two_blocks_on_a_multiprocessor_of_an_older_gpu_change_no_bit(capability) -> None:
    """The kernel has a branch for such GPUs: the lanes of a warp synchronize before they poll."""
    if absent := missing():
        pytest.skip(absent)
    images, labels, weights = problem(SMALL, 40, input_bytes=True)

    def run(device: EmulatedDevice, **plan) -> PersistentEngine:
        engine = PersistentEngine(SMALL, Adam(0.01), weights, device, adjust=lambda made: replace(made, **plan))
        engine.train_epoch(engine.upload(images), engine.upload(labels), np.arange(40, dtype=np.int32), 3)
        return engine

    old = run(EmulatedDevice(order=5, capability=capability), resident=2, blocks=8)
    assert_same_bits(old, run(EmulatedDevice()))


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_what_is_in_global_memory_changes_no_bit(kind, optimizer, batch_size) -> None:
    """Some slots, all slots, or the weights too, next to what is in shared memory."""
    images, labels, weights = problem(THREE_HIDDEN, 20, input_bytes=True)

    def run(**plan) -> PersistentEngine:
        engine = PersistentEngine(
            THREE_HIDDEN, OPTIMIZERS[optimizer](), weights, open_device(kind),
            adjust=lambda made: replace(once(made), **plan),
        )  # fmt: skip
        engine.train_epoch(engine.upload(images), engine.upload(labels), np.arange(20, dtype=np.int32), batch_size)
        return engine

    arrays = run()._epoch.plan.arrays
    streamed = run(streamed=(arrays, 1, arrays - 1), in_shared=(0, 1, 0, 1))
    assert_same_bits(streamed, run())
    assert streamed._epoch.plan.streamed_numbers > 0


@pytest.mark.parametrize("kind", PLAIN)
def test_updates_as_a_gtx_1080_would_make_them(kind, mnist: gpunet.Dataset) -> None:
    """20 blocks of 256 threads; the moments of the weights of both hidden layers pass through global memory."""
    images, labels = mnist.train.images[:2].reshape(-1, 784), mnist.train.labels[:2]
    device = open_device_of(kind, (6, 1), 20)
    engine = PersistentEngine(LECTURE, Adam(), start(LECTURE), device)
    assert_follows_the_reference(engine, LECTURE, Adam(), images, labels, 1, epochs=1)
    if kind != "gpu":
        assert engine._epoch.plan.streamed == (2, 2)


@pytest.mark.parametrize("kind", PLAIN)
def test_an_epoch_is_one_launch(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = trained(kind, epochs=1)
    launches: list[tuple] = []
    module, launch = engine._epoch._module, engine._epoch._module.launch

    def counted(*arguments, **options) -> None:
        launches.append(arguments)
        launch(*arguments, **options)

    monkeypatch.setattr(module, "launch", counted)
    engine.train_epoch(engine._epoch.data.images, engine._epoch.data.labels, np.arange(40, dtype=np.int32), 3)
    assert [arguments[0] for arguments in launches] == [KERNEL]


@pytest.mark.parametrize("kind", PLAIN)
def test_moving_between_engines_continues_the_same_run(kind) -> None:
    images, labels, weights = problem(SMALL, 40)
    order, device = np.arange(40, dtype=np.int32), open_device(kind)

    def run(*classes) -> list[np.ndarray]:
        previous = None
        for kind_of_engine in classes:
            where = () if kind_of_engine is ReferenceEngine else (device,)
            engine = kind_of_engine(SMALL, Adam(0.01), weights, *where)
            if previous is not None:
                engine.weights, engine.optimizer_state = previous.weights, previous.optimizer_state
            engine.train_epoch(engine.upload(images), engine.upload(labels), order, 7)
            previous = engine
        return previous.weights

    truth = run(*[ReferenceEngine] * 3)
    assert distance(run(PersistentEngine, TiledEngine, PersistentEngine), truth) < 1e-5
    assert distance(run(ReferenceEngine, PersistentEngine, ReferenceEngine), truth) < 1e-5
    assert distance(run(*[PersistentEngine] * 3), truth) < 1e-5


@pytest.mark.parametrize("kind", PLAIN)
def test_a_loss_that_is_not_finite_names_its_update_and_undoes_the_epoch(kind) -> None:
    assert_nan_undoes_the_epoch(lambda *start: PersistentEngine(SMALL, *start, open_device(kind)))


@pytest.mark.parametrize("kind", PLAIN)
def test_ctrl_c_between_launches_undoes_the_epoch(kind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persistent_plan, "LAUNCH_EXAMPLES", 10)
    engine = trained(kind, epochs=1)
    before, updates, data = engine.weights, engine.optimizer_state.updates, engine._epoch.data

    def interrupt(updates: int) -> None:
        if updates > 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.train_epoch(data.images, data.labels, np.arange(40, dtype=np.int32), 3, interrupt)
    for one, other in zip(engine.weights, before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert engine.optimizer_state.updates == updates


@pytest.mark.parametrize("kind", PLAIN)
def test_hyper_parameters_may_change_between_epochs(kind) -> None:
    assert_rates_may_change(lambda *start: PersistentEngine(SMALL, *start, open_device(kind)))


@pytest.mark.parametrize(
    ("number", "batch_size", "reason"),
    [
        (52, 1, None),
        (52, 8, "GTX 980: a thread would have .* too large for 16 multiprocessors"),
        (61, 1, None),
        (61, 8, r"GTX 1080: .* on 20 multiprocessors: a thread would keep \d+ weights and moments in registers"),
        (75, 1, None),
        (75, 10, r"RTX 2080 Ti, GTX 1660: .* in registers, \d+ at most, with the 64 KB of shared memory full"),
        (75, 16, "RTX 2080 Ti, GTX 1660: batches of 16 need 79 KB of shared memory for activations, a block has 64 KB"),
        (80, 10, None),
        (86, 1, None),
        (86, 10, None),
        (86, 14, r"RTX 3090: .* in registers, \d+ at most, with the 99 KB of shared memory full"),
        (89, 10, None),
        (90, 10, None),
        (120, 10, None),
    ],
)
def test_on_a_gpu_that_is_too_small_tests_skip_with_the_plans_reason(number, batch_size, reason, monkeypatch) -> None:
    """And run where the network fits: which of them do with the lecture's network on each GPU."""
    if absent := missing():
        pytest.skip(absent)
    (gpu,) = (each for each in ARCHITECTURES if each.number == number)
    emulated = EmulatedDevice(
        multiprocessors=gpu.multiprocessors, capability=gpu.capability, shared_bytes=gpu.shared_bytes
    )
    emulated.name = gpu.example
    monkeypatch.setattr(devices, "open_device", lambda kind, *size: emulated)
    if reason is None:
        assert open_device("gpu", network=LECTURE, batch_size=batch_size) is emulated
        return
    with pytest.raises(pytest.skip.Exception, match=reason):
        open_device("gpu", network=LECTURE, batch_size=batch_size)


@pytest.mark.parametrize("gpu", ARCHITECTURES, ids=lambda gpu: str(gpu.number))
def test_all_small_networks_of_these_tests_fit_on_every_gpu(gpu) -> None:
    for network in (ONE_HIDDEN, SMALL, THREE_HIDDEN):
        for optimizer in RULES:
            for input_bytes, targets in ((True, True), (False, False)):
                persistent_plan.make_plan(network, optimizer, 6, input_bytes, targets, gpu)


@pytest.fixture
def altered(tmp_path):
    """An emulated device whose kernels have one line changed."""
    if reason := missing():
        pytest.skip(reason)

    def with_change(header: str, before: str, after: str, order=1) -> EmulatedDevice:
        folder = tmp_path / f"kernels-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(source_folder(), folder)
        text = (folder / header).read_text()
        assert text.count(before) == 1
        (folder / header).write_text(text.replace(before, after))
        return EmulatedDevice(order=order, folder=folder)

    return with_change


def epoch_on(device: EmulatedDevice, network: Network, patience: int = 2000) -> PersistentEngine:
    images, labels, weights = problem(network, 40, input_bytes=True)
    engine = PersistentEngine(network, Adam(0.01), weights, device, patience=patience)
    engine.train_epoch(engine.upload(images), engine.upload(labels), np.arange(40, dtype=np.int32), 1)
    return engine


def test_a_block_that_never_answers_ends_the_launch_with_an_error(altered) -> None:
    device = altered(
        "exchange.cuh", "if constexpr (BLOCKS > 1) {", "if (blockIdx.x != 2 || tag != 8 || patience != 500) {"
    )
    images, labels, weights = problem(SMALL, 40, input_bytes=True)
    engine = PersistentEngine(SMALL, Adam(0.01), weights, device, patience=500)
    uploaded = engine.upload(images), engine.upload(labels)
    message = r"block [0-3] timed out waiting for the activations of hidden layer 1 of update 8; nothing of this epoch"
    with pytest.raises(DeviceError, match=message):
        engine.train_epoch(*uploaded, np.arange(40, dtype=np.int32), 1)
    for one, other in zip(engine.weights, weights, strict=True):
        np.testing.assert_array_equal(one, other)

    engine._epoch.patience = 2000  # block 2 is heard of again
    engine.train_epoch(*uploaded, np.arange(40, dtype=np.int32), 1)
    assert_same_bits(engine, epoch_on(device, SMALL))


def test_packets_that_overwrite_those_of_the_last_update_would_be_noticed(altered) -> None:
    """With one hidden layer a single buffer lets a block overwrite what another has not read: see exchange.cuh."""
    expected = epoch_on(EmulatedDevice(), ONE_HIDDEN)
    failures = 0
    for order in range(5):
        device = altered("exchange.cuh", "+ (tag & 1)) * BATCH", ") * BATCH", order)
        try:
            assert_same_bits(epoch_on(device, ONE_HIDDEN), expected)
        except (DeviceError, AssertionError):
            failures += 1
    assert failures


def test_a_value_accepted_by_its_neighbours_tag_would_be_noticed(altered) -> None:
    """Two packets come with one load, from two blocks: each must be there itself."""
    network = Network((9, 44, 3), ("sigmoid", "softmax"))  # 11 neurons a block: neighbours 10 and 11 are of two
    change = (
        "exchange.cuh",
        "difference |= real ? tag_of_it ^ tag : 0;",
        "if (column == 0) difference |= tag_of_it ^ tag;",
    )

    def run(device: EmulatedDevice) -> PersistentEngine:
        images, labels, weights = problem(network, 40, input_bytes=True)
        engine = PersistentEngine(
            network, Adam(0.01), weights, device, patience=2000, adjust=lambda made: replace(made, threads=32)
        )
        engine.train_epoch(engine.upload(images), engine.upload(labels), np.arange(40, dtype=np.int32), 1)
        return engine

    expected, failures = run(EmulatedDevice()), 0
    for order in range(5):
        assert_same_bits(run(EmulatedDevice(order=order)), expected)
        try:
            assert_same_bits(run(altered(*change, order)), expected)
        except (DeviceError, AssertionError):
            failures += 1
    assert failures


PARTS_FAULTS = {
    "believed without a tag": ("parts.cuh", "difference |= (unsigned)(packets[e][r][s] >> 32) ^ tag;", ";"),
    "published before gradients are there": (
        "persistent_epoch.cu",
        "__syncthreads();  // own gradients of the",
        "// the",
    ),
    "summed over all senders but the last": ("parts.cuh", "sum += sender(s) < BLOCKS", "sum += sender(s) < BLOCKS - 1"),
    "of which two take turns in one place": ("parts.cuh", "* BLOCKS + sender)", "* BLOCKS + sender / 2)"),
}


@pytest.mark.parametrize("fault", PARTS_FAULTS)
def test_parts_of_gradients_that_are_wrong_would_be_noticed(altered, fault) -> None:
    def run(device: EmulatedDevice) -> PersistentEngine:
        images, labels, weights = problem(THREE_HIDDEN, 12, input_bytes=True)
        engine = PersistentEngine(THREE_HIDDEN, Adam(0.01), weights, device, patience=2000, adjust=once)
        engine.train_epoch(engine.upload(images), engine.upload(labels), np.arange(12, dtype=np.int32), 1)
        return engine

    expected, failures = run(EmulatedDevice()), 0
    for order in range(3):
        try:
            assert_same_bits(run(altered(*PARTS_FAULTS[fault], order)), expected)
        except (DeviceError, AssertionError):
            failures += 1
    assert failures


def test_two_blocks_with_one_place_in_global_memory_would_be_noticed(altered) -> None:
    def run(device: EmulatedDevice) -> PersistentEngine:
        images, labels, weights = problem(SMALL, 12, input_bytes=True)
        engine = PersistentEngine(
            SMALL, Adam(0.01), weights, device, adjust=lambda made: replace(once(made), streamed=(2, 2))
        )
        engine.train_epoch(engine.upload(images), engine.upload(labels), np.arange(12, dtype=np.int32), 1)
        return engine

    fault = altered(
        "persistent_block.cuh", "(size_t)blockIdx.x * MEMORY_FLOATS", "(size_t)blockIdx.x / 2 * MEMORY_FLOATS"
    )
    with pytest.raises(AssertionError):
        assert_same_bits(run(fault), run(EmulatedDevice()))


def test_a_grid_that_the_device_cannot_hold_at_once_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    device = open_device("order-forward")
    module = type(device.compile(KERNEL, trained("order-forward")._epoch.plan.defines))
    monkeypatch.setattr(module, "resident_blocks", lambda *arguments, **options: 0)
    with pytest.raises(DeviceError, match="4 blocks must run at once, but the GPU holds 0; use engine='tiled'"):
        trained("order-forward")


def test_a_network_that_does_not_fit_is_refused_with_the_reason() -> None:
    engine = PersistentEngine(LECTURE, Adam(), start(LECTURE), open_device("order-forward"))
    images, labels, _ = problem(LECTURE, 4, input_bytes=True)
    with pytest.raises(DeviceError, match=r"engine persistent: a thread would have .* too large for 4 multipro"):
        engine.train_epoch(engine.upload(images), engine.upload(labels), np.arange(4, dtype=np.int32), 1)
    assert engine.predict(engine.upload(images)).shape == (4, 10)


def test_a_plan_that_runs_out_of_registers_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    device = open_device("order-forward")
    module = type(device.compile(KERNEL, trained("order-forward")._epoch.plan.defines))
    left = iter([8, 8])  # nothing comes after the third plan, so nobody asks
    monkeypatch.setattr(module, "local_bytes", lambda *arguments, **options: next(left))
    monkeypatch.setattr(persistent_plan, "WORKING_REGISTERS", {2: (200, 240, 250)})
    engine = trained("order-forward")
    assert engine._epoch.plan.kept_numbers <= 5
    assert next(left, None) is None


@pytest.mark.parametrize("kind", PLAIN)
def test_padding_after_rows_stays_zero(kind) -> None:
    network = Network((20, 16, 13, 10), ("sigmoid", "sigmoid", "softmax"))
    engine = trained(kind, network)
    for layer in engine._layers:
        rows = engine.device.download(layer.weights).reshape(layer.inputs + 1, -1)
        assert not rows[:, layer.units :].any()
    numbers = [*engine.weights, *(array for slot in engine.optimizer_state.slots.values() for array in slot)]
    everything = [engine.device.download(array) for array in (engine._all_weights, engine._all_slots)]
    assert sum(map(np.count_nonzero, everything)) <= sum(map(np.size, numbers))


CLEAN = {
    "one example": {"batch_size": 1},
    "not staged": {"batch_size": 3, "staged": False},
    "in shared memory": {"batch_size": 3, "in_shared": (1, 3, 2, 0)},
    "one block": {"batch_size": 3, "multiprocessors": 1},
    "weights between hidden layers once": {"batch_size": 3, "change": once},
    "in global memory": {"batch_size": 3, "streamed": (2, 1)},
}


@pytest.mark.parametrize("kind", ["race", "address"])
@pytest.mark.parametrize("way", CLEAN)
def test_every_way_of_keeping_things_is_clean_under_sanitizers(kind, way) -> None:
    assert distance(trained(kind, epochs=1, **CLEAN[way]).weights, trained("order-forward", epochs=1).weights) < 1


@pytest.fixture
def with_a_gpu(monkeypatch: pytest.MonkeyPatch):
    """A machine on which CUDA can be used: the emulator in place of the GPU."""
    device = open_device("order-forward")
    monkeypatch.setattr(choice, "cuda_problem", lambda index: None)
    monkeypatch.setattr(choice, "cuda_device", lambda index: device)


@pytest.mark.usefixtures("with_a_gpu")
def test_the_choice_of_engine_says_why() -> None:
    assert engines.choose(SMALL, 1).reason == "cuda, emulator: 1 CPU thread, forward order, engine persistent"
    assert engines.choose(SMALL, 1, engine="tiled").engine == "tiled"
    assert re.search(
        r"engine tiled \(persistent: batches of 99 need \d+ KB of shared memory", engines.choose(SMALL, 99).reason
    )
    with pytest.MonkeyPatch.context() as faster:
        faster.setattr(choice, "tiled_cycles", lambda *arguments: 1000.0)
        assert re.search(
            r"engine tiled \(persistent: [\d.]+ times as long for batches of 9, by an estimate\)",
            engines.choose(SMALL, 9).reason,
        )
    assert re.search(
        r"engine tiled \(persistent: .* is too large for 4 multiprocessors\)", engines.choose(LECTURE, 1)[1]
    )
    assert engines.choose(Network((5, 3), ("softmax",)), 1).reason.endswith(
        "(persistent: the network has no hidden layer to spread over the blocks)"
    )
    assert engines.choose(LECTURE, 1, engine="persistent").engine == "persistent"  # it reports itself what it cannot do


@pytest.mark.usefixtures("with_a_gpu")
def test_with_a_gpu_a_model_with_small_batches_is_trained_by_it(blobs) -> None:
    model = gpunet.Sequential([gpunet.Dense(6, "tanh", input_dim=8), gpunet.Dense(3, "softmax")], seed=0)
    model.compile(Adam(0.02), "sparse_categorical_crossentropy")
    history = model.fit(*blobs, batch_size=7, epochs=3, verbose=0, validation_split=0.2)
    assert model._session.engine.name == "persistent"
    on_cpu = gpunet.Sequential([gpunet.Dense(6, "tanh", input_dim=8), gpunet.Dense(3, "softmax")], seed=0)
    on_cpu.compile(Adam(0.02), "sparse_categorical_crossentropy", device="cpu", engine="reference")
    expected = on_cpu.fit(*blobs, batch_size=7, epochs=3, verbose=0, validation_split=0.2)
    assert history.history["val_loss"] == pytest.approx(expected.history["val_loss"], rel=1e-5)


@pytest.mark.usefixtures("with_a_gpu")
def test_the_tiled_engine_replaces_it_if_the_gpu_refuses_unless_it_was_asked_for(blobs, monkeypatch) -> None:
    def refused(*arguments):
        raise DeviceError("engine persistent: 9 blocks must run at once")

    monkeypatch.setattr("gpunet.engines.cuda.persistent._loaded", refused)
    model = gpunet.Sequential([gpunet.Dense(6, "tanh", input_dim=8), gpunet.Dense(3, "softmax")], seed=0)
    model.compile(Adam(0.02), "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match="device cuda, engine tiled: engine persistent: 9 blocks"):
        model.fit(*blobs, batch_size=7, verbose=0)
    assert model._session.engine.name == "tiled"
    model.compile(Adam(0.02), "sparse_categorical_crossentropy", engine="persistent")
    with pytest.raises(DeviceError, match="9 blocks"):
        model.fit(*blobs, batch_size=7, verbose=0)


@pytest.mark.usefixtures("with_a_gpu")
def test_whether_a_network_fits_depends_on_the_optimizer() -> None:
    network = Network((700, 120, 10), ("tanh", "softmax"))
    assert engines.choose(network, 1, optimizer=SGD()).engine == "persistent"
    assert engines.choose(network, 1, optimizer=Adam()).engine == "tiled"


@pytest.mark.gpu
def test_mnist_reaches_98_percent_on_the_gpu(command) -> None:
    open_device("gpu", network=LECTURE, batch_size=10)
    result = command(
        "gpunet.train", "--device", "cuda", "--engine", "persistent", "--batch-size", "10", "--epochs", "10", "--quiet"
    )
    assert result.returncode == 0, result.stderr
    assert float(re.match(r"test accuracy ([\d.]+) %", result.stdout)[1]) >= 98.0


@pytest.mark.gpu
@pytest.mark.parametrize("batch_size", [1, 10])
def test_long_runs_of_the_lectures_network_repeat_bit_by_bit_on_the_gpu(batch_size, mnist: gpunet.Dataset) -> None:
    """What the emulator cannot show: the memory of a real GPU while 125 blocks poll it."""
    images, labels = mnist.train.images[:10_000].reshape(-1, 784), mnist.train.labels[:10_000]

    def run(**plan) -> PersistentEngine:
        device = open_device("gpu", network=LECTURE, batch_size=batch_size)
        engine = PersistentEngine(LECTURE, Adam(), start(LECTURE), device, adjust=lambda made: replace(made, **plan))
        uploaded = engine.upload(images), engine.upload(labels)
        for seed in range(3):
            engine.train_epoch(*uploaded, np.random.default_rng(seed).permutation(10_000).astype(np.int32), batch_size)
        return engine

    expected = run()
    assert_same_bits(run(), expected)
    if expected._epoch.plan.twice:
        assert_same_bits(run(extra=(("STORE_OUTGOING", 1),)), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("batch_size", [1, 10])
def test_weights_kept_once_repeat_bit_by_bit_on_the_gpu(batch_size, mnist: gpunet.Dataset) -> None:
    images, labels = mnist.train.images[:10_000].reshape(-1, 784), mnist.train.labels[:10_000]

    def run() -> PersistentEngine:
        device = open_device("gpu", network=LECTURE, batch_size=batch_size)
        engine = PersistentEngine(LECTURE, Adam(), start(LECTURE), device, adjust=once)
        uploaded = engine.upload(images), engine.upload(labels)
        engine.train_epoch(*uploaded, np.random.default_rng(0).permutation(10_000).astype(np.int32), batch_size)
        return engine

    assert_same_bits(run(), run())


def test_a_plan_knows_the_length_of_its_launches() -> None:
    plan = trained("order-forward")._epoch.plan
    assert plan.launch_updates == persistent_plan.LAUNCH_EXAMPLES // 3
    assert replace(plan, batch=10**6).launch_updates == 1


def test_phases_can_be_left_out_or_made_twice_to_be_timed() -> None:
    """Repeating a phase changes nothing, except for the optimizer's steps; without these nothing is learnt."""
    expected = trained("order-forward", SMALL)
    for phase in ("FORWARD", "LOSS", "BACKWARD", "STAGE"):
        assert_same_bits(trained("order-forward", SMALL, extra=((f"{phase}_TIMES", 2),)), expected)
    untouched = trained("order-forward", SMALL, extra=(("STEPS_TIMES", 0),))
    for one, other in zip(untouched.weights, start(SMALL), strict=True):
        np.testing.assert_array_equal(one, other)
