"""The tiled engine, host code and kernels, against the float64 reference, update by update."""

from __future__ import annotations

import re

import numpy as np
import pytest

import gpunet
from gpunet import engines
from gpunet.engines import Engine, OptimizerState, choice
from gpunet.engines.cuda import tiled
from gpunet.engines.cuda.engine import EpochData
from gpunet.engines.cuda.tiled import GRAPH_UPDATES, TiledEngine
from gpunet.engines.reference import ReferenceEngine
from gpunet.errors import ArgumentError, DeviceError, TrainingDivergedError
from gpunet.layers import HIDDEN_ACTIVATIONS, LECTURE, Network
from gpunet.optimizers import SGD, Adam
from support.devices import EVERYWHERE, ORDERS, PLAIN, open_device
from support.engine_cases import (
    FACTOR,
    LEAST,
    OPTIMIZERS,
    SMALL,
    assert_epochs_report_what_the_reference_reports,
    assert_follows_the_reference,
    assert_nan_undoes_the_epoch,
    assert_rates_may_change,
    assert_same_bits,
    distance,
    distances,
    problem,
    start,
)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("one_hot", [False, True], ids=["integer", "one-hot"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_weights_follow_the_reference_update_by_update(kind, activation, optimizer, one_hot) -> None:
    network = Network((20, 16, 12, 10), (activation, activation, "softmax"))
    images, labels, weights = problem(network, 23, input_bytes=one_hot, one_hot=one_hot)
    update_rule = OPTIMIZERS[optimizer]()
    engine = TiledEngine(network, update_rule, weights, open_device(kind))
    assert_follows_the_reference(engine, network, update_rule, images, labels, batch_size=5, epochs=2)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("widths", [(5, 3), (9, 1, 2), (3, 70, 33, 7, 4), (130, 17, 131)], ids=str)
@pytest.mark.parametrize("batch_size", [1, 2, 3, 17])
def test_any_network_and_batch_size(kind, widths, batch_size) -> None:
    network = Network(widths, ("tanh",) * (len(widths) - 2) + ("softmax",))
    images, labels, weights = problem(network, 20, input_bytes=True, seed=1)
    engine = TiledEngine(network, Adam(0.01), weights, open_device(kind))
    assert_follows_the_reference(engine, network, Adam(0.01), images, labels, batch_size, epochs=1)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_whole_epochs_with_a_short_last_batch_report_what_the_reference_reports(kind, batch_size) -> None:
    images, labels, weights = problem(SMALL, 150, input_bytes=True)
    engine = TiledEngine(SMALL, Adam(0.01), weights, open_device(kind))
    assert_epochs_report_what_the_reference_reports(engine, images, labels, weights, batch_size)


@pytest.mark.parametrize("kind", EVERYWHERE)
def test_training_is_clean_in_every_order_and_under_sanitizers(kind) -> None:
    network = Network((9, 7, 5, 3), ("sigmoid", "relu", "softmax"))
    images, labels, weights = problem(network, 11, input_bytes=True)
    engine = TiledEngine(network, Adam(0.01), weights, open_device(kind))
    assert_follows_the_reference(engine, network, Adam(0.01), images, labels, batch_size=4, epochs=1)


def trained(kind: str, graph: bool = True, batch_size: int = 2) -> TiledEngine:
    images, labels, weights = problem(SMALL, 100, input_bytes=True)
    engine = TiledEngine(SMALL, Adam(0.01), weights, open_device(kind))
    engine.graph = graph
    uploaded = engine.upload(images), engine.upload(labels)
    for seed in range(2):
        engine.train_epoch(*uploaded, np.random.default_rng(seed).permutation(100).astype(np.int32), batch_size)
    return engine


@pytest.mark.parametrize("batch_size", [2, 3, 4], ids=["vectors", "tiles-34-updates", "tiles-25-updates"])
@pytest.mark.parametrize("kind", PLAIN)
def test_runs_repeat_bit_by_bit_with_and_without_graphs(kind, batch_size) -> None:
    engine = trained(kind, batch_size=batch_size)
    assert sorted(engine._epoch._graphs) == [engine._epoch.data.updates % GRAPH_UPDATES, GRAPH_UPDATES]
    assert_same_bits(engine, trained(kind, batch_size=batch_size))
    assert_same_bits(engine, trained(kind, graph=False, batch_size=batch_size))


def test_every_order_of_threads_gives_the_same_bits() -> None:
    expected = trained("order-forward", batch_size=7)
    for order in ORDERS[1:]:
        assert_same_bits(trained(f"order-{order}", batch_size=7), expected)


@pytest.mark.parametrize("kind", PLAIN)
def test_moving_between_engines_continues_the_same_run(kind) -> None:
    """Tiled, then reference, then tiled again; against tiled all the way and reference all the way."""
    images, labels, weights = problem(SMALL, 40)
    order = np.arange(40, dtype=np.int32)

    def tiled() -> TiledEngine:
        return TiledEngine(SMALL, Adam(0.01), weights, open_device(kind))

    def reference() -> ReferenceEngine:
        return ReferenceEngine(SMALL, Adam(0.01), weights)

    def run(*makers) -> list[np.ndarray]:
        previous = None
        for make in makers:
            engine = make()
            if previous is not None:
                engine.weights, engine.optimizer_state = previous.weights, previous.optimizer_state
            engine.train_epoch(engine.upload(images), engine.upload(labels), order, 7)
            previous = engine
        return previous.weights

    moved = run(tiled, tiled, tiled)
    staying = tiled()
    for _ in range(3):
        staying.train_epoch(staying.upload(images), staying.upload(labels), order, 7)
    for one, other in zip(moved, staying.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    truth = run(reference, reference, reference)
    assert distance(moved, truth) < 1e-5
    assert distance(run(tiled, reference, tiled), truth) < 1e-5


def launches_of_an_update(network: Network, batch_size: int) -> list[str]:
    """The kernels that an H100 would start; nothing is compiled."""
    images, labels, weights = problem(network, batch_size, input_bytes=True)
    engine = TiledEngine(network, Adam(), weights, open_device("order-forward", multiprocessors=132))
    uploaded = engine.upload(images), engine.upload(labels)
    data = EpochData(engine.device, network, *uploaded, batch_size, batch_size, Adam())
    return [kernel for kernel, _ in engine._make_epoch(data).kernels()]


@pytest.mark.parametrize("batch_size", [1, 2, 10, 20, 50, 100, 200, 500])
def test_an_update_of_the_lectures_network_is_five_launches(batch_size) -> None:
    forward, again, *others = (kernel.removesuffix("_vector") for kernel in launches_of_an_update(LECTURE, batch_size))
    assert forward == again == "dense_forward"
    assert others == ["dense_output", "dense_backward_update", "dense_update_pair"]


@pytest.mark.parametrize(
    ("widths", "launches"), [((784, 10), 2), ((784, 50, 10), 3), ((784, 60, 50, 40, 30, 10), 9), ((784, 50, 33), 5)]
)
def test_a_hidden_layer_adds_two_launches_and_a_wide_output_layer_two(widths, launches) -> None:
    network = Network(widths, ("relu",) * (len(widths) - 2) + ("softmax",))
    assert len(launches_of_an_update(network, 100)) == launches


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("widths", [(9, 5, 33), (9, 6, 5, 4, 3)], ids=str)
def test_wide_output_layers_and_deep_networks_follow_the_reference(kind, widths) -> None:
    network = Network(widths, ("sigmoid",) * (len(widths) - 2) + ("softmax",))
    images, labels, weights = problem(network, 25, input_bytes=True)
    engine = TiledEngine(network, Adam(0.01), weights, open_device(kind))
    assert_follows_the_reference(engine, network, Adam(0.01), images, labels, batch_size=18, epochs=1)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("batch_size", [1, 10, 100])
def test_real_updates_of_the_lectures_network_on_mnist(kind, batch_size, mnist: gpunet.Dataset) -> None:
    """Over three starts, because of the first update: Adam turns the few gradients that are nearly 0 into noise. With a
    single start, that noise favours NumPy or gpunet by chance, by up to 4 times either way.
    """
    found = []
    for seed in range(3):
        part = slice(3 * batch_size * seed, 3 * batch_size * (seed + 1))
        images, labels = mnist.train.images[part].reshape(-1, 784), mnist.train.labels[part]
        hidden = [gpunet.Dense(500, "sigmoid", input_dim=784), gpunet.Dense(500, "sigmoid")]
        weights = gpunet.Sequential([*hidden, gpunet.Dense(10, "softmax")], seed=seed).get_weights()
        engine = TiledEngine(LECTURE, Adam(), weights, open_device(kind, multiprocessors=16))
        found.append(distances(engine, LECTURE, Adam(), images, labels, batch_size, epochs=1))
    far, plain = np.sqrt(np.mean(np.square(found), axis=0))
    assert far <= FACTOR * max(plain, LEAST)


def test_nothing_is_moved_or_allocated_between_the_updates_of_an_epoch() -> None:
    """The emulator refuses both while launches are captured; this device counts them at other times as well."""
    device = open_device("order-forward")
    images, labels, weights = problem(SMALL, 60)
    engine = TiledEngine(SMALL, Adam(), weights, device)
    engine.graph = False
    uploaded, order = (engine.upload(images), engine.upload(labels)), np.arange(60, dtype=np.int32)
    engine.train_epoch(*uploaded, order, 10)
    touched: list[str] = []

    class Watched:
        def __getattr__(self, name: str):
            touched.append(name)
            return getattr(device, name)

    engine._epoch._device = engine._epoch._launches.device = Watched()
    engine._epoch.run(lambda updates: None)
    assert touched == []


@pytest.mark.parametrize("kind", PLAIN)
def test_a_loss_that_is_not_finite_names_its_update_and_undoes_the_epoch(kind) -> None:
    assert_nan_undoes_the_epoch(lambda *start: TiledEngine(SMALL, *start, open_device(kind)))


@pytest.mark.parametrize("kind", PLAIN)
def test_hyper_parameters_may_change_between_epochs(kind) -> None:
    assert_rates_may_change(lambda *start: TiledEngine(SMALL, *start, open_device(kind)))


def engine_on(name: str, network: Network, optimizer) -> Engine:
    """An engine by name, on the plainest device."""
    if name == "reference":
        return ReferenceEngine(network, optimizer, start(network))
    return TiledEngine(network, optimizer, start(network), open_device("order-forward"))


@pytest.mark.parametrize("name", ["reference", "tiled"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, TrainingDivergedError])
def test_epochs_are_atomic(name, stop) -> None:
    images, labels, _ = problem(SMALL, 90)
    engine, twin = engine_on(name, SMALL, Adam(0.01)), engine_on(name, SMALL, Adam(0.01))
    order = np.arange(90, dtype=np.int32)
    spoilt = images.copy()
    if stop is TrainingDivergedError:
        spoilt[50] = np.nan

    def interrupt(updates: int) -> None:
        if updates > 30 and stop is KeyboardInterrupt:
            raise KeyboardInterrupt

    for each in (engine, twin):
        each.train_epoch(each.upload(images), each.upload(labels), order, 7)
    with pytest.raises(stop):
        engine.train_epoch(engine.upload(spoilt), engine.upload(labels), order, 1, interrupt)
    for each in (engine, twin):
        each.train_epoch(each.upload(images), each.upload(labels), order, 7)
    assert engine.optimizer_state.updates == twin.optimizer_state.updates
    for one, other in zip(engine.weights, twin.weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["reference", "tiled"])
def test_weights_and_states_that_do_not_fit_are_refused(name) -> None:
    engine = engine_on(name, SMALL, Adam())
    before = engine.weights
    with pytest.raises(ArgumentError, match="weights: expected arrays of shapes"):
        engine.weights = [np.ones((1, 3)), np.float32(7)]
    state = engine.optimizer_state
    for wrong in (
        OptimizerState(),
        OptimizerState(3, {"velocity": state.slots["m"]}),
        OptimizerState(-1, state.slots),
        OptimizerState(3, {"m": state.slots["m"], "v": state.slots["v"][:2]}),
    ):
        with pytest.raises(ArgumentError, match="optimizer state"):
            engine.optimizer_state = wrong
    for one, other in zip(engine.weights, before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_switching_momentum_on_is_refused() -> None:
    engine = TiledEngine(SMALL, SGD(0.1), start(SMALL), open_device("order-forward"))
    engine.optimizer.momentum = 0.5
    with pytest.raises(ArgumentError, match="momentum or nesterov was switched on or off"):
        engine.train_epoch(*map(engine.upload, problem(SMALL, 4)[:2]), np.arange(4, dtype=np.int32), 2)


@pytest.fixture
def with_a_gpu(monkeypatch: pytest.MonkeyPatch):
    """A machine on which CUDA can be used: the emulator in place of the GPU."""
    device = open_device("order-forward")
    monkeypatch.setattr(choice, "cuda_problem", lambda index: None)
    monkeypatch.setattr(choice, "cuda_device", lambda index: device)


@pytest.mark.usefixtures("with_a_gpu")
def test_with_a_gpu_a_model_trains_on_it(blobs) -> None:
    def trained_on(**where) -> gpunet.Sequential:
        model = gpunet.Sequential([gpunet.Dense(6, "tanh", input_dim=8), gpunet.Dense(3, "softmax")], seed=0)
        model.compile(Adam(0.02), "sparse_categorical_crossentropy", **where)
        model.fit(*blobs, batch_size=7, epochs=3, verbose=0, validation_split=0.2)
        return model

    by_itself, on_cpu = trained_on(engine="tiled"), trained_on(device="cpu")
    assert by_itself._session.engine.name == "tiled"
    assert on_cpu._session.engine.name == engines.choose(SMALL, 7, "cpu").engine
    assert distance(by_itself.get_weights(), on_cpu.get_weights()) < 1e-5
    np.testing.assert_allclose(by_itself.predict(blobs[0]), on_cpu.predict(blobs[0]), atol=1e-5)


@pytest.mark.usefixtures("with_a_gpu")
def test_evaluating_in_a_callback_does_not_move_the_model(blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine that trains stays, even if another one would be chosen for prediction alone."""
    choose = engines.choose

    def by_batch_size(network, batch_size, device="auto", engine="auto", optimizer=None):
        return choose(network, batch_size, device, "tiled" if batch_size < 100 else "reference")

    monkeypatch.setattr(engines, "choose", by_batch_size)

    class Curious(gpunet.Callback):
        def on_epoch_end(self, epoch: int, logs=None) -> None:
            self.model.predict(blobs[0])
            self.model.evaluate(*blobs)

    def trained_with(callbacks) -> gpunet.Sequential:
        model = gpunet.Sequential([gpunet.Dense(6, "tanh", input_dim=8), gpunet.Dense(3, "softmax")], seed=0)
        model.compile(Adam(0.02), "sparse_categorical_crossentropy")
        assert model.predict(blobs[0]).shape == (60, 3)  # on the reference, before anything was trained
        model.fit(*blobs, batch_size=7, epochs=3, verbose=0, callbacks=callbacks)
        assert model._session.engine.name == "tiled"
        return model

    plain, curious = trained_with([]), trained_with([Curious()])
    for one, other in zip(plain.get_weights(), curious.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("with_a_gpu")
def test_a_gpu_without_the_memory_leads_to_the_cpu_unless_it_was_asked_for(blobs, monkeypatch) -> None:
    def no_room(*arguments):
        raise DeviceError("not enough GPU memory: 9 MB more are needed")

    monkeypatch.setattr(tiled, "TiledEngine", no_room)
    model = gpunet.Sequential([gpunet.Dense(3, "softmax")], seed=0)
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.warns(UserWarning, match="device cpu, engine .*: not enough GPU memory"):
        model.fit(*blobs, verbose=0)
    assert engines.DEVICE_OF[model._session.engine.name] == "cpu"
    model.compile("adam", "sparse_categorical_crossentropy", device="cuda")
    with pytest.raises(DeviceError, match="not enough GPU memory"):
        model.fit(*blobs, verbose=0)


@pytest.mark.usefixtures("with_a_gpu")
def test_the_choice_of_engine_says_where_it_runs() -> None:
    assert engines.choose(SMALL, 100).reason.startswith("cuda, emulator: 1 CPU thread, forward order, engine tiled")
    assert engines.choose(SMALL, 1, engine="reference").reason.startswith("cpu, engine reference")
    assert engines.DEVICE_OF[engines.choose(SMALL, 1, device="cpu").engine] == "cpu"


@pytest.mark.gpu
def test_mnist_reaches_98_percent_on_the_gpu(command) -> None:
    open_device("gpu")
    result = command("gpunet.train", "--device", "cuda", "--engine", "tiled", "--quiet")
    assert result.returncode == 0, result.stderr
    assert float(re.match(r"test accuracy ([\d.]+) %", result.stdout)[1]) >= 98.0


@pytest.mark.gpu
def test_device_memory_does_not_grow_over_100_epochs() -> None:
    device = open_device("gpu")
    import cupy

    pool = cupy.get_default_memory_pool()
    images, labels, weights = problem(SMALL, 200, input_bytes=True)
    engine = TiledEngine(SMALL, Adam(), weights, device)
    uploaded, order, used = (engine.upload(images), engine.upload(labels)), np.arange(200, dtype=np.int32), []
    for _ in range(100):
        engine.train_epoch(*uploaded, order, 4)
        engine.evaluate(*uploaded)
        used.append(pool.used_bytes())
    assert used[-1] <= used[1]
