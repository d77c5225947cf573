"""fit_many with models on GPUs, with the stand-in for CuPy: same bits as alone, the data uploaded once."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet
import standin
from gpunet import Adam, Dense, Sequential, fit_many
from gpunet.engines.cuda.device import open_gpu
from gpunet.engines.cuda.engine import CudaEngine
from gpunet.errors import DeviceError
from standin import Computer, Gpu
from support.devices import open_device

BATCH_SIZES, EPOCHS = [10, 7, 60, 1], [2, 1, 2, 1]


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Computer:
    open_device("order-forward")  # skips, or fails, where the emulator cannot be had
    return standin.install(monkeypatch, tmp_path, Computer([Gpu("first"), Gpu("second")]))


def models() -> list[Sequential]:
    """Of mixed shapes and engines, on both GPUs and the CPU."""
    made = []
    where = [("cuda", "tiled"), ("cuda", "persistent"), ("cuda:1", "tiled"), ("cpu", "reference")]
    for seed, (device, engine) in enumerate(where):
        made.append(Sequential([Dense(5 + seed, "tanh"), Dense(4, "relu"), Dense(3, "softmax")], seed=seed))
        made[-1].compile(Adam(0.01 + 0.01 * seed), "sparse_categorical_crossentropy", device=device, engine=engine)
    return made


def test_models_on_several_devices_end_with_the_bits_that_they_have_alone(blobs, two_gpus: Computer) -> None:
    together, alone = models(), models()
    histories = fit_many(together, *blobs, BATCH_SIZES, EPOCHS, 0, validation_data=blobs)
    for number, twin in enumerate(alone):
        history = twin.fit(*blobs, BATCH_SIZES[number], EPOCHS[number], 0, validation_data=blobs)
        assert history.history["val_loss"] == histories[number].history["val_loss"]
        for one, other in zip(together[number].get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


SMALL_ONES = [(3, 4), (3, 4), (5, 3), (5, 3)]  # units of hidden layers
SMALL_BATCHES = [10, 10, 7, 7]


def small_ones() -> list[Sequential]:
    """For the persistent engine of one GPU."""
    made = []
    for seed, hidden in enumerate(SMALL_ONES):
        layers = [Dense(units, "sigmoid") for units in hidden]
        made.append(Sequential([*layers, Dense(3, "softmax")], seed=seed))
        made[-1].compile(
            Adam(0.01 + 0.01 * seed), "sparse_categorical_crossentropy", device="cuda", engine="persistent"
        )
    return made


class Watch:
    """How many multiprocessors, and trainings, of each GPU are in an epoch at the same time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.busy, self.most_busy, self.most_at_once = dict[int, list[int]](), dict[int, int](), dict[int, int]()
        lock, train = threading.Lock(), CudaEngine.train_epoch

        def watched(engine: Any, *arguments: Any) -> Any:
            index = engine.device.index
            part = engine._hardware.multiprocessors if engine.name == "persistent" else engine.device.multiprocessors
            with lock:
                busy = self.busy.setdefault(index, [])
                busy.append(part)
                self.most_busy[index] = max(self.most_busy.get(index, 0), sum(busy))
                self.most_at_once[index] = max(self.most_at_once.get(index, 0), len(busy))
            try:
                return train(engine, *arguments)
            finally:
                with lock:
                    busy.remove(part)

        monkeypatch.setattr(CudaEngine, "train_epoch", watched)


def test_persistent_trainings_share_a_gpu_and_end_in_the_bits_that_they_reach_alone(
    blobs, two_gpus: Computer, monkeypatch
) -> None:
    together, alone, watch = small_ones(), small_ones(), Watch(monkeypatch)
    histories = fit_many(together, *blobs, SMALL_BATCHES, 2, 0, validation_data=blobs)
    assert watch.most_at_once[0] > 1
    assert watch.most_busy[0] <= two_gpus.gpus[0].multiprocessors
    for number, twin in enumerate(alone):
        history = twin.fit(*blobs, SMALL_BATCHES[number], 2, 0, validation_data=blobs)
        assert history.history["val_loss"] == histories[number].history["val_loss"]
        for one, other in zip(together[number].get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_model_goes_on_with_the_whole_gpu_afterwards(blobs, two_gpus: Computer) -> None:
    together, alone = small_ones()[:2], small_ones()[:2]
    fit_many(together, *blobs, 10, 1, 0)
    for model, twin in zip(together, alone, strict=True):
        model.predict(blobs[0])
        model.fit(*blobs, 10, 1, 0)
        engine: Any = model._session.engine
        assert engine._hardware.multiprocessors == two_gpus.gpus[0].multiprocessors
        twin.fit(*blobs, 10, 2, 0)
        for one, other in zip(model.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_the_tiled_engine_has_a_gpu_to_itself(blobs, two_gpus: Computer, monkeypatch) -> None:
    watch = Watch(monkeypatch)
    fit_many([*models(), *small_ones()], *blobs, [*BATCH_SIZES, *SMALL_BATCHES], 2, 0)
    assert all(busy <= gpu.multiprocessors for busy, gpu in zip(watch.most_busy.values(), two_gpus.gpus, strict=True))


def test_the_data_is_uploaded_once_for_all_models_of_a_gpu(blobs, two_gpus: Computer, monkeypatch) -> None:
    uploaded: list[tuple[int, tuple[int, ...]]] = []
    upload = CudaEngine.upload

    def watched(self: Any, array: Any) -> Any:
        uploaded.append((id(self.device), array.shape))
        return upload(self, array)

    monkeypatch.setattr(CudaEngine, "upload", watched)
    fit_many([*models(), *models()], *blobs, 15, 1, 0, validation_split=0.25)
    assert len(uploaded) == len(set(uploaded)) == 2 * 4  # training and validation, images and targets


def test_a_gpu_that_is_lost_in_one_stream_is_lost_in_all(two_gpus: Computer) -> None:
    first, share, other = open_gpu(0), open_gpu(0, 1), open_gpu(1, 1)
    two_gpus.gpus[0].break_down()
    with pytest.raises(DeviceError, match="the GPU failed"):
        share.zeros(4, np.float32)
    assert first.lost is not None
    assert share.lost == first.lost
    assert other.lost is None


def test_a_gpu_that_fails_ends_its_models_and_no_others(blobs, two_gpus: Computer) -> None:
    together, alone = models(), models()

    class Fails(gpunet.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                two_gpus.gpus[0].break_down()

    with pytest.warns(UserWarning, match=r"models\[0\]: DeviceError"):
        histories = fit_many(together, *blobs, 15, 2, 0, callbacks=[[Fails()], None, None, None])
    assert [type(history.error) for history in histories] == [gpunet.DeviceError] * 2 + [type(None)] * 2
    assert together[0].epochs_trained == 1
    for number in (2, 3):
        alone[number].fit(*blobs, 15, 2, 0)
        for one, other in zip(together[number].get_weights(), alone[number].get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
