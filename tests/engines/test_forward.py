"""Evaluations and predictions of the CUDA engines: their results, and what the host does for them."""

from __future__ import annotations

import numpy as np
import pytest

import gpunet
from gpunet import engines
from gpunet.engines import choice
from gpunet.engines.cuda import forward
from gpunet.engines.cuda.tiled import GRAPH_UPDATES, TiledEngine
from gpunet.engines.reference import ReferenceEngine
from gpunet.errors import DeviceError
from gpunet.optimizers import Adam
from support.devices import EVERYWHERE, open_device
from support.engine_cases import SMALL, problem
from support.watched_devices import CountingDevice, SmallDevice


@pytest.fixture
def counting() -> CountingDevice:
    open_device("order-forward")  # skips where the emulator cannot be had
    return CountingDevice()


@pytest.mark.parametrize("kind", EVERYWHERE)
@pytest.mark.parametrize("one_hot", [False, True], ids=["integer", "one-hot"])
def test_examples_in_several_rounds_are_evaluated_and_predicted(kind, one_hot, monkeypatch) -> None:
    monkeypatch.setattr(forward, "FORWARD_ROWS", 16)
    images, labels, weights = problem(SMALL, 41, input_bytes=True, one_hot=one_hot)
    engine = TiledEngine(SMALL, Adam(), weights, open_device(kind))
    uploaded = engine.upload(images), engine.upload(labels)
    truth = ReferenceEngine(SMALL, Adam(), weights, np.float64)
    assert engine.evaluate(*uploaded) == pytest.approx(truth.evaluate(images, labels), rel=1e-5)
    np.testing.assert_allclose(engine.predict(uploaded[0]), truth.predict(images), atol=1e-5)


def test_an_evaluation_that_was_prepared_only_launches_and_downloads_once(counting, monkeypatch) -> None:
    monkeypatch.setattr(forward, "FORWARD_ROWS", 16)
    images, labels, weights = problem(SMALL, 41, input_bytes=True)
    engine = TiledEngine(SMALL, Adam(), weights, counting)
    uploaded = engine.upload(images), engine.upload(labels)
    expected = engine.evaluate(*uploaded)
    engine.prepare(*uploaded, 41, 10, validation=uploaded)
    for _ in range(2):
        counting.counts.clear()
        assert engine.evaluate(*uploaded) == expected
        assert counting.counts == {"launch": 3 * 4, "download": 1}  # three rounds of three layers and the loss


def test_an_evaluation_belongs_to_its_arrays(counting) -> None:
    images, labels, weights = problem(SMALL, 20)
    engine = TiledEngine(SMALL, Adam(), weights, counting)
    one, other = ([engine.upload(images[part]), engine.upload(labels[part])] for part in (slice(12), slice(12, 20)))
    expected = engine.evaluate(*other)
    engine.prepare(*one, 12, 4, validation=tuple(one))
    assert engine.evaluate(*other) == expected
    assert engine.evaluate(*one) != expected


def test_a_prediction_is_one_download_and_so_are_all_weights_and_all_of_the_optimizers_state(counting) -> None:
    images, _, weights = problem(SMALL, 20)
    engine = TiledEngine(SMALL, Adam(), weights, counting)
    uploaded = engine.upload(images)
    counting.counts.clear()
    engine.predict(uploaded)
    assert counting.counts["download"] == 1
    engine.weights  # noqa: B018 - downloads
    engine.optimizer_state  # noqa: B018 - likewise
    assert counting.counts["download"] == 3


@pytest.mark.parametrize("updates", [1, 7, GRAPH_UPDATES, 2 * GRAPH_UPDATES + 7])
def test_every_update_of_an_epoch_is_in_a_graph(counting, updates: int) -> None:
    images, labels, weights = problem(SMALL, updates)
    engine = TiledEngine(SMALL, Adam(), weights, counting)
    uploaded, order = (engine.upload(images), engine.upload(labels)), np.arange(updates, dtype=np.int32)
    engine.prepare(*uploaded, updates, 1)
    counting.counts.clear()
    seen: list[int] = []
    engine.train_epoch(*uploaded, order, 1, seen.append)
    assert counting.counts["launch"] == len(seen) == -(-updates // GRAPH_UPDATES)
    assert seen[-1] == updates
    assert counting.counts["download"] == 1
    assert counting.counts["compile"] == counting.counts["capture"] == counting.counts["empty"] == 0


def with_gpu(device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "cuda_problem", lambda index: None)
    monkeypatch.setattr(choice, "cuda_device", lambda index: device)


DATA, INPUTS = 600, 300  # examples and inputs: by far the most that a fit has on the device


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(DATA, INPUTS)).astype(np.float32), rng.integers(3, size=DATA).astype(np.int32)


def wide_model(engine: str) -> gpunet.Sequential:
    model = gpunet.Sequential([gpunet.Dense(5, "tanh", input_dim=INPUTS), gpunet.Dense(3, "softmax")], seed=0)
    model.compile(Adam(0.01), "sparse_categorical_crossentropy", engine=engine)
    return model


@pytest.mark.parametrize("engine", ["tiled", "persistent"])
def test_a_second_fit_and_an_evaluation_need_no_more_memory_than_the_first_fit(data, engine, monkeypatch) -> None:
    open_device("order-forward")
    device = SmallDevice(int(1.6 * data[0].nbytes))
    with_gpu(device, monkeypatch)
    model = wide_model(engine)
    for _ in range(2):
        model.fit(*data, batch_size=30, verbose=0)
        model.evaluate(*data)
        model.predict(data[0])
    assert model._session.engine.name == engine
    assert device.peak > data[0].nbytes
    assert device.used < data[0].nbytes / 10  # between calls, only weights and optimizer state stay


def test_the_next_best_engine_finds_the_memory_that_the_refused_one_had(data, monkeypatch) -> None:
    open_device("order-forward")
    with_gpu(SmallDevice(int(1.6 * data[0].nbytes)), monkeypatch)

    def refused(*arguments) -> None:
        raise DeviceError("engine persistent: 9 blocks must run at once")

    monkeypatch.setattr("gpunet.engines.cuda.persistent._loaded", refused)
    model = wide_model("auto")
    with pytest.warns(UserWarning, match="device cuda, engine tiled: engine persistent: 9 blocks") as warned:
        model.fit(*data, batch_size=30, verbose=0)
    assert len(warned) == 1
    assert model._session.engine.name == "tiled"


def test_an_evaluation_that_finds_no_memory_while_fit_runs_does_not_move_the_model_away(data, monkeypatch) -> None:
    """The engine that trains holds the weights: if another replaced it, fit would train weights that nobody sees."""
    open_device("order-forward")
    with_gpu(SmallDevice(int(1.6 * data[0].nbytes)), monkeypatch)

    class Curious(gpunet.Callback):
        def on_epoch_end(self, epoch: int, logs=None) -> None:
            with pytest.raises(DeviceError, match="not enough GPU memory"):
                self.model.evaluate(*data)

    model, twin = wide_model("auto"), wide_model("auto")
    model.fit(*data, batch_size=30, epochs=2, verbose=0, callbacks=[Curious()])
    twin.fit(*data, batch_size=30, epochs=2, verbose=0)
    assert engines.DEVICE_OF[model._session.engine.name] == "cuda"
    for one, other in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
