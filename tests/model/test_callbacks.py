"""The callbacks: alone with made-up logs, next to Keras' own, and in complete trainings."""

from __future__ import annotations

import copy
import csv
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gpunet
from conftest import command_environment
from gpunet import SGD, Adam, ArgumentError, Callback, Dense, OutputError, Sequential, TrainingDivergedError
from gpunet.callbacks import (
    CSVLogger,
    EarlyStopping,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TensorBoard,
    TerminateOnNaN,
)
from gpunet.engines.cuda.persistent import PersistentEngine
from gpunet.engines.cuda.tiled import TiledEngine
from gpunet.engines.reference import ReferenceEngine
from support.devices import open_device

INTEGER = "sparse_categorical_crossentropy"


def small_model(optimizer=None) -> Sequential:
    model = Sequential([Dense(6, "tanh", input_dim=8), Dense(3, "softmax")], seed=0)
    model.compile(optimizer or Adam(0.02), INTEGER)
    return model


def fit(model: Sequential, blobs, *callbacks: Callback, epochs: int = 6, **arguments: Any) -> gpunet.History:
    x, y = blobs
    validation = {"validation_data": (x[:20], y[:20])}
    return model.fit(*blobs, 16, epochs, 0, callbacks, **{**validation, **arguments})


def same_weights(one: Sequential, other: Sequential) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


class Script(Callback):
    """Puts made-up values into the logs, before the callback under test."""

    def __init__(self, **values: list[float]) -> None:
        self.values = values

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        logs.update({name: values[epoch] for name, values in self.values.items()})


# Next to Keras: the same made-up logs must stop in the same epoch and give the same rates.


class Stub:
    """What Keras' and gpunet's callbacks need of a model; its weights show which epoch they are from."""

    def __init__(self, rate: float = 1.0) -> None:
        self.optimizer = SimpleNamespace(learning_rate=rate)
        self.stop_training = False
        self.weights: list[Any] = []

    def get_weights(self) -> list[Any]:
        return list(self.weights)

    def set_weights(self, weights: list[Any]) -> None:
        self.weights = list(weights)


def play(callback: Any, values: list[float], monitor: str) -> tuple[list[float], list[Any], int]:
    """(rates during the epochs, weights at the end, epochs run), for the monitored quantity's value in each epoch."""
    stub, rates = Stub(), []
    callback.set_model(stub)
    callback.set_params({"epochs": len(values), "steps": 1, "do_validation": True})
    callback.on_train_begin()
    for epoch, value in enumerate(values):
        callback.on_epoch_begin(epoch)
        stub.weights = [epoch]
        rates.append(float(stub.optimizer.learning_rate))
        callback.on_epoch_end(epoch, {monitor: value})
        if stub.stop_training:
            break
    callback.on_train_end()
    return rates, stub.weights, len(rates)


@pytest.fixture(scope="module")
def keras_callbacks() -> Any:
    reason = "compares with Keras; pip install keras jax"
    pytest.importorskip("keras", reason=reason)
    import keras

    return keras.callbacks


# Multiples of 1/64, so that Keras' float32 and Python's float64 agree about which is larger.
VALUES = st.lists(st.integers(0, 30).map(lambda n: n / 64), min_size=1, max_size=15)
MONITORS = st.sampled_from([("val_loss", "auto"), ("loss", "min"), ("mine", "max"), ("mine", "min")])
DELTAS = st.sampled_from([0, 2 / 64, -2 / 64, 5 / 64])


@settings(max_examples=200, deadline=None)
@given(
    values=VALUES,
    monitor=MONITORS,
    min_delta=DELTAS,
    patience=st.integers(0, 4),
    baseline=st.sampled_from([None, 0.1, 0.3]),
    restore=st.booleans(),
    start=st.integers(0, 4),
)
def test_early_stopping_does_what_keras_does(
    keras_callbacks, values, monitor, min_delta, patience, baseline, restore, start
) -> None:
    arguments = {
        "monitor": monitor[0],
        "mode": monitor[1],
        "min_delta": min_delta,
        "patience": patience,
        "baseline": baseline,
        "restore_best_weights": restore,
        "start_from_epoch": start,
    }
    got = play(EarlyStopping(**arguments), values, monitor[0])
    assert got == play(keras_callbacks.EarlyStopping(**arguments), values, monitor[0])


@settings(max_examples=200, deadline=None)
@given(
    values=VALUES,
    monitor=MONITORS,
    min_delta=DELTAS,
    patience=st.integers(0, 4),
    factor=st.sampled_from([0.5, 0.1]),
    cooldown=st.integers(0, 3),
    min_lr=st.sampled_from([0.0, 0.2]),
)
def test_reduce_lr_on_plateau_does_what_keras_does(
    keras_callbacks, values, monitor, min_delta, patience, factor, cooldown, min_lr
) -> None:
    arguments = {
        "monitor": monitor[0],
        "mode": monitor[1],
        "min_delta": min_delta,
        "patience": patience,
        "factor": factor,
        "cooldown": cooldown,
        "min_lr": min_lr,
    }
    rates, _, _ = play(ReduceLROnPlateau(**arguments), values, monitor[0])
    expected, _, _ = play(keras_callbacks.ReduceLROnPlateau(**arguments), values, monitor[0])
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


@pytest.mark.parametrize("schedule", [lambda epoch: 1.0 / (epoch + 1), lambda epoch, rate: rate * 0.9])
def test_learning_rate_scheduler_does_what_keras_does(keras_callbacks, schedule) -> None:
    rates, _, _ = play(LearningRateScheduler(schedule), [0.0] * 5, "loss")
    assert rates == play(keras_callbacks.LearningRateScheduler(schedule), [0.0] * 5, "loss")[0]


@settings(max_examples=50, deadline=None)
@given(values=VALUES, monitor=MONITORS, threshold=st.sampled_from([None, 0.2]))
def test_model_checkpoint_saves_when_keras_does(keras_callbacks, values, monitor, threshold) -> None:
    def saved_epochs(callback: Any) -> list[int]:
        epochs: list[int] = []
        callback.set_model(SimpleNamespace(save=lambda *_, **__: epochs.append(epoch)))
        callback.set_params({"do_validation": True})
        callback.on_train_begin()
        for epoch, value in enumerate(values):
            callback.on_epoch_end(epoch, {monitor[0]: value})
        return epochs

    arguments = {"monitor": monitor[0], "mode": monitor[1], "initial_value_threshold": threshold}
    got = saved_epochs(ModelCheckpoint("model.npz", save_best_only=True, **arguments))
    assert got == saved_epochs(keras_callbacks.ModelCheckpoint("model.keras", save_best_only=True, **arguments))


def test_the_csv_columns_are_those_of_keras(keras_callbacks, tmp_path: Path) -> None:
    logs = {"val_loss": 0.5, "loss": 0.25, "accuracy": 1.0, "val_accuracy": 0.75}
    for append in (False, True):
        for callback in (CSVLogger, keras_callbacks.CSVLogger):
            logger = callback(str(tmp_path / f"{callback.__module__}.csv"), separator=";", append=append)
            logger.set_model(None)
            logger.on_train_begin()
            for epoch in range(2):
                logger.on_epoch_end(epoch, dict(logs))
            logger.on_train_end()
    got, expected = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert got == expected
    assert got.startswith(b"epoch;accuracy;loss;val_accuracy;val_loss\r\n0;1.0;0.25;0.75;0.5\r\n")
    assert got.count(b"epoch") == 1


# In complete trainings.


def test_early_stopping_ends_training_and_restores_the_best_weights(blobs) -> None:
    losses = [0.5, 0.4, 0.6, 0.7, 0.1, 0.1]
    model, twin = small_model(), small_model()
    stopping = EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    history = fit(model, blobs, Script(val_loss=losses), stopping)
    assert history.epoch == [0, 1, 2, 3]
    fit(twin, blobs, epochs=2)
    assert same_weights(model, twin)
    assert len(fit(model, blobs, Script(val_loss=losses), stopping).epoch) == 4  # it may be used again


def test_a_refused_fit_does_not_change_the_weights(blobs) -> None:
    """A callback that kept weights from an earlier training does not restore them if no training took place."""
    model, stopping = small_model(), EarlyStopping("val_loss", restore_best_weights=True)
    fit(model, blobs, Script(val_loss=[0.5, 0.6]), stopping)
    model.fit(*blobs, epochs=2, verbose=0)
    before = model.get_weights()
    with pytest.raises(ArgumentError, match="EarlyStopping: 'val_loss' needs validation data"):
        model.fit(*blobs, verbose=0, callbacks=[stopping])
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_on_train_end_is_called_only_for_callbacks_that_began(blobs) -> None:
    calls: list[str] = []

    class Begins(gpunet.Callback):
        def on_train_begin(self, logs=None) -> None:
            calls.append("begin")

        def on_train_end(self, logs=None) -> None:
            calls.append("end")

    class Fails(Begins):
        def on_train_begin(self, logs=None) -> None:
            raise RuntimeError("the first error is the one to tell")

    with pytest.raises(RuntimeError, match="the first error"):
        small_model().fit(*blobs, verbose=0, callbacks=[Begins(), Fails(), Begins()])
    assert calls == ["begin", "end"]


def test_a_copy_made_by_a_callback_can_be_trained(blobs) -> None:
    copies = []

    class Copy(gpunet.Callback):
        def on_epoch_end(self, epoch, logs=None) -> None:
            copies.append(copy.deepcopy(self.model))

    model = small_model()
    model.fit(*blobs, verbose=0, callbacks=[Copy()])
    for each in (model, copies[0]):
        each.fit(*blobs, verbose=0)
    assert same_weights(model, copies[0])


def test_early_stopping_says_what_it_does(blobs, capsys) -> None:
    fit(
        small_model(),
        blobs,
        Script(val_loss=[0.5, 0.6, 0.7]),
        EarlyStopping(patience=1, verbose=1, restore_best_weights=True),
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["Epoch 2: early stopping", "Restoring model weights from the end of the best epoch: 1."]


def test_the_schedule_is_what_the_engine_trains_with(blobs) -> None:
    scheduled, by_hand = small_model(SGD(0.4)), small_model(SGD(0.4))
    history = fit(scheduled, blobs, LearningRateScheduler(lambda epoch, rate: rate / 2), epochs=3)
    for rate in (0.2, 0.1, 0.05):
        by_hand.optimizer.learning_rate = rate
        fit(by_hand, blobs, epochs=1)
    assert same_weights(scheduled, by_hand)
    assert history.history["learning_rate"] == [0.2, 0.1, 0.05]


def test_a_plateau_reduces_the_rate_that_the_engine_trains_with(blobs) -> None:
    model = small_model(SGD(0.4))
    plateau = ReduceLROnPlateau("val_loss", factor=0.5, patience=1)
    history = fit(model, blobs, Script(val_loss=[1.0, 1.0, 1.0, 0.5]), plateau, epochs=4)
    assert history.history["learning_rate"] == [0.4, 0.4, 0.2, 0.1]
    assert model.optimizer.learning_rate == 0.1


def test_epochs_are_counted_from_initial_epoch(blobs) -> None:
    whole, parts = small_model(), small_model()
    epochs: list[int] = []
    schedule = LearningRateScheduler(lambda epoch: epochs.append(epoch) or 0.1 / (epoch + 1))
    fit(whole, blobs, schedule, epochs=5)
    fit(parts, blobs, schedule, epochs=2)
    history = fit(parts, blobs, schedule, epochs=5, initial_epoch=2)
    assert history.epoch == [2, 3, 4]
    assert epochs == [0, 1, 2, 3, 4] * 2
    assert same_weights(whole, parts)
    assert fit(parts, blobs, epochs=5, initial_epoch=5).epoch == []
    with pytest.raises(ArgumentError, match="initial_epoch: expected a whole number from 0 on, got -1"):
        fit(parts, blobs, initial_epoch=-1)


def test_model_checkpoint_writes_every_epoch_under_its_name(blobs, tmp_path: Path) -> None:
    model = small_model()
    history = fit(model, blobs, ModelCheckpoint(tmp_path / "a" / "{epoch:02d}-{val_loss:.3f}.safetensors"), epochs=3)
    names = [f"{e + 1:02d}-{loss:.3f}.safetensors" for e, loss in enumerate(history.history["val_loss"])]
    assert sorted(os.listdir(tmp_path / "a")) == names
    loaded = gpunet.load(tmp_path / "a" / names[1])
    assert loaded.epochs_trained == 2
    fit(loaded, blobs, epochs=3, initial_epoch=2)
    assert same_weights(loaded, model)  # the optimizer's state was saved as well


def test_model_checkpoint_keeps_the_best(blobs, tmp_path: Path, capsys) -> None:
    path = tmp_path / "best.npz"
    checkpoint = ModelCheckpoint(path, save_best_only=True, save_weights_only=True, verbose=1)
    fit(small_model(), blobs, Script(val_loss=[0.5, 0.2, 0.3]), checkpoint, epochs=3)
    loaded = gpunet.load(path)
    assert (loaded.epochs_trained, loaded.optimizer_state.updates) == (2, 0)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"Epoch 2: val_loss improved from 0.50000 to 0.20000, saving model to {path}"
    assert lines[2] == "Epoch 3: val_loss did not improve from 0.20000"


def test_csv_logger_writes_one_row_per_epoch(blobs, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    history = fit(small_model(), blobs, CSVLogger(path), epochs=2)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    for name, values in history.history.items():
        assert [float(row[name]) for row in rows] == values
    fit(small_model(), blobs, CSVLogger(path, append=True), epochs=2)
    assert len(path.read_text().splitlines()) == 5
    fit(small_model(), blobs, CSVLogger(path), epochs=2)
    assert len(path.read_text().splitlines()) == 3


def diverging_model() -> Sequential:
    model = Sequential([Dense(3, "softmax", input_dim=8)], seed=0)
    model.compile(SGD(0.01), INTEGER)
    return model


@pytest.mark.parametrize("batch_size", [10, 60], ids=["in-the-epoch", "at-its-last-update"])
def test_terminate_on_nan_ends_quietly_with_the_weights_from_before(blobs, capsys, batch_size: int) -> None:
    model, twin = diverging_model(), diverging_model()
    explode = LearningRateScheduler(lambda epoch, rate: 3e38 if epoch == 2 else rate)
    x, y = blobs
    y = np.random.default_rng(0).permutation(y)  # nothing to learn, so that there is always a gradient
    history = model.fit(x * 1e6, y, batch_size, 5, 0, [explode, TerminateOnNaN()])
    assert history.epoch == [0, 1]
    assert capsys.readouterr().out.startswith("Epoch 3, update ")
    twin.fit(x * 1e6, y, batch_size, 2, 0)
    assert same_weights(model, twin)
    assert model.epochs_trained == 2
    with pytest.raises(TrainingDivergedError, match="of epoch 3"):
        diverging_model().fit(x * 1e6, y, batch_size, 5, 0, [explode, TerminateOnNaN(raise_error=True)])


def test_divergence_resets_the_model_to_before_the_epoch(blobs) -> None:
    x, y = blobs
    model = diverging_model()
    before = model.get_weights()
    model.optimizer.learning_rate = 1e39
    with pytest.raises(TrainingDivergedError, match="update 1 of epoch 1"):
        model.fit(x, y, 60, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])
    assert model.epochs_trained == 0


def test_divergence_in_the_last_update_undoes_the_epoch_too(blobs) -> None:
    """Even with one update per epoch: no epoch continues from weights that are not finite."""
    x, y = blobs
    model, twin = diverging_model(), diverging_model()
    explode = LearningRateScheduler(lambda epoch: 1e39 if epoch == 2 else 0.01)
    with pytest.raises(TrainingDivergedError, match="update 1 of epoch 3"):
        model.fit(x, y, 60, 5, 0, [explode])
    twin.fit(x, y, 60, 2, 0)
    assert same_weights(model, twin)
    assert model.epochs_trained == 2


def test_a_model_that_diverges_is_never_saved(blobs, tmp_path: Path) -> None:
    x, y = blobs
    model = diverging_model()
    explode = LearningRateScheduler(lambda epoch: 1e39 if epoch == 1 else 0.01)
    with pytest.raises(TrainingDivergedError):
        model.fit(x, y, 60, 3, 0, [explode, ModelCheckpoint(tmp_path / "m.npz")])
    assert gpunet.load(tmp_path / "m.npz").epochs_trained == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reference", "tiled", "persistent"])
def test_every_engine_can_undo_its_last_epoch(blobs, name: str) -> None:
    arguments = () if name == "reference" else (open_device("order-forward"),)
    engine_class = {"reference": ReferenceEngine, "tiled": TiledEngine, "persistent": PersistentEngine}[name]
    network = gpunet.Network((8, 6, 3), ("tanh", "softmax"))
    engine = engine_class(network, Adam(0.02), small_model().get_weights(), *arguments)
    uploaded, order = [engine.upload(array) for array in blobs], np.arange(60, dtype=np.int32)
    engine.train_epoch(*uploaded, order, 16)
    weights, state = engine.weights, engine.optimizer_state
    after = engine.train_epoch(*uploaded, order, 16)
    assert (engine.weights[0] != weights[0]).any()
    engine.undo_epoch()
    arrays = zip(engine.weights + engine.optimizer_state.slots["v"], weights + state.slots["v"], strict=True)
    assert all(np.array_equal(one, other) for one, other in arrays)
    assert engine.optimizer_state.updates == state.updates == 4
    assert engine.train_epoch(*uploaded, order, 16).loss == after.loss


# TensorBoard.


def events(folder: Path) -> list[tuple[str, int, float]]:
    """(tag, step, value) of the scalars, and (tag, step, number of values) of the histograms, in a folder of events."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2", reason="pip install tensorboardX")
    found = []
    for path in folder.iterdir():
        content = path.read_bytes()
        while content:  # a record: length, its checksum, the event, its checksum
            (length,) = struct.unpack("<Q", content[:8])
            event, content = event_pb2.Event.FromString(content[12 : 12 + length]), content[16 + length :]
            for value in event.summary.value:
                number = value.histo.num if value.HasField("histo") else value.simple_value
                found.append((value.tag, event.step, number))
    return found


def test_tensorboard_writes_where_keras_writes(blobs, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="pip install tensorboardX")
    board = TensorBoard(tmp_path / "logs", histogram_freq=2, write_steps_per_second=True)
    history = fit(small_model(), blobs, board, epochs=3).history
    validation = events(tmp_path / "logs" / "validation")
    train = events(tmp_path / "logs" / "train")
    for name in ("loss", "accuracy"):
        expected = [(f"epoch_{name}", step, pytest.approx(value)) for step, value in enumerate(history[name])]
        assert [event for event in train if event[0] == f"epoch_{name}"] == expected
        expected = [(f"epoch_{name}", step, pytest.approx(value)) for step, value in enumerate(history[f"val_{name}"])]
        assert [event for event in validation if event[0] == f"epoch_{name}"] == expected
    assert ("epoch_learning_rate", 2, pytest.approx(0.02)) in train
    assert [step for tag, step, _ in train if tag == "epoch_steps_per_second"] == [0, 1, 2]
    assert [e for e in train if e[0] == "dense_0/weights/histogram"] == [
        ("dense_0/weights/histogram", 0, 48),
        ("dense_0/weights/histogram", 2, 48),
    ]


@pytest.mark.parametrize("moment", ["at the first event", "at the end of an epoch"])
def test_tensorboard_on_a_full_disk_is_one_clear_line(blobs, tmp_path: Path, monkeypatch, capfd, moment: str) -> None:
    records = pytest.importorskip("tensorboardX.record_writer", reason="pip install tensorboardX")
    buffering = 0 if moment == "at the first event" else -1
    monkeypatch.setattr(records, "open_file", lambda path: open("/dev/full", "wb", buffering=buffering))  # noqa: SIM115
    threads = threading.active_count()
    with pytest.raises(OutputError, match=r"^TensorBoard: .*logs: cannot be written: No space left on device$"):
        fit(small_model(), blobs, TensorBoard(tmp_path / "logs", histogram_freq=1))
    assert threading.active_count() == threads
    assert capfd.readouterr() == ("", "")


def test_tensorboard_where_no_folder_can_be_made_is_one_clear_line(blobs, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="pip install tensorboardX")
    (tmp_path / "logs").write_text("a file")
    with pytest.raises(OutputError, match=r"^TensorBoard: .*logs: cannot be written: Not a directory$"):
        fit(small_model(), blobs, TensorBoard(tmp_path / "logs"))


def test_tensorboard_without_its_library_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ArgumentError, match=r"TensorBoard: needs tensorboardX .*pip install 'gpunet\[tensorboard\]'"):
        TensorBoard()


# Refusals.

CONSTRUCTION_FAULTS = {
    "mode": (lambda: EarlyStopping(mode="best"), "EarlyStopping: mode: expected one of auto, min, max; got 'best'"),
    "monitor": (lambda: EarlyStopping(3), "monitor: expected the name of a quantity such as 'val_loss'; got 3"),
    "direction": (lambda: EarlyStopping("seconds"), "mode='auto' does not know which way 'seconds' is better"),
    "patience": (lambda: EarlyStopping(patience=-1), "patience: expected a whole number from 0 on, got -1"),
    "patience-text": (lambda: EarlyStopping(patience="2"), "patience: expected a whole number from 0 on, got '2'"),
    "delta": (lambda: EarlyStopping(min_delta=None), "min_delta: expected a finite number, got None"),
    "factor": (lambda: ReduceLROnPlateau(factor=1), "factor: expected a number between 0 and 1, got 1"),
    "schedule": (lambda: LearningRateScheduler(0.1), "schedule: expected a function of the epoch, got 0.1"),
    "arguments": (lambda: LearningRateScheduler(lambda: 1), r"expected schedule\(epoch, rate\) or schedule\(epoch\)"),
    "save-freq": (lambda: ModelCheckpoint("m.npz", save_freq=100), "save_freq: expected 'epoch', got 100: .*launch"),
    "suffix": (lambda: ModelCheckpoint("m.keras"), r"m.keras: expected a name that ends in \.safetensors"),
    "format": (lambda: ModelCheckpoint("{epoch.npz"), "filepath {epoch.npz: "),
    "separator": (lambda: CSVLogger("a.csv", "tab"), "separator: expected one letter, got 'tab'"),
    "filename": (lambda: CSVLogger(""), "filename: expected a path, got ''"),
    "update-freq": (lambda: TensorBoard(update_freq="batch"), "update_freq: expected 'epoch', got 'batch': .*launch"),
    "profile": (lambda: TensorBoard(profile_batch=2), "profile_batch=2 is not supported"),
    "unknown": (lambda: TensorBoard(colour=2), "unknown argument colour=2"),
}  # fmt: skip


@pytest.mark.parametrize("fault", CONSTRUCTION_FAULTS)
def test_bad_arguments_are_refused(fault: str) -> None:
    call, message = CONSTRUCTION_FAULTS[fault]
    with pytest.raises(ArgumentError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


class PerBatch(Callback):
    def on_train_batch_end(self, batch: int, logs=None) -> None: ...


FIT_FAULTS = {
    "no-validation": (EarlyStopping, "EarlyStopping: 'val_loss' needs validation data; call fit with validation_data"),
    "no-validation-field": (lambda: ModelCheckpoint("{val_loss}.npz"), "ModelCheckpoint: 'val_loss' needs validation"),
    "monitor": (lambda: EarlyStopping("f1", mode="max"), "EarlyStopping: monitor: no 'f1' in the logs; there are"),
    "field": (lambda: ModelCheckpoint("{f1}.npz"), "filepath {f1}.npz: nothing is called 'f1'; there are loss,"),
    "field-format": (lambda: ModelCheckpoint("{loss:d}.npz"), "filepath {loss:d}.npz: Unknown format code 'd'"),
    "rate-0": (lambda: LearningRateScheduler(lambda epoch: -1), "expected a learning rate from 0 on, got -1"),
    "rate-none": (lambda: LearningRateScheduler(lambda epoch: None), r"schedule\(0\): expected a finite number"),
    "batches": (PerBatch, "PerBatch.on_train_batch_end would never be called, because an epoch may be one launch"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FIT_FAULTS)
def test_impossible_requests_are_one_clear_line(blobs, tmp_path: Path, monkeypatch, fault: str) -> None:
    monkeypatch.chdir(tmp_path)
    callback, message = FIT_FAULTS[fault]
    with pytest.raises(ArgumentError, match=message) as caught:
        small_model().fit(*blobs, verbose=0, callbacks=[callback()])
    assert "\n" not in str(caught.value)
    assert os.listdir() == []


def test_an_unwritable_file_is_one_clear_line(blobs, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for callback, message in (
        (CSVLogger(tmp_path), "CSVLogger: .*: cannot be written: not a file"),
        (ModelCheckpoint(tmp_path / "file" / "m.npz"), "file/m.npz: its folder cannot be made: "),
    ):
        with pytest.raises(OutputError, match=message):
            fit(small_model(), blobs, callback)
    if Path("/dev/full").exists():
        with pytest.raises(OutputError, match="CSVLogger: /dev/full: cannot be written: No space left on device"):
            fit(small_model(), blobs, CSVLogger("/dev/full"))


def test_importing_gpunet_does_not_import_tensorboardx() -> None:
    code = "import sys, gpunet; print('tensorboardX' in sys.modules)"
    output = subprocess.check_output([sys.executable, "-c", code], text=True, env=command_environment())
    assert output == "False\n"
