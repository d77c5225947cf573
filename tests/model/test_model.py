"""Sequential: what it promises, and what it refuses before anything changes."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import gpunet
from conftest import command_environment
from gpunet import (
    SGD,
    Activation,
    Adam,
    ArgumentError,
    Dense,
    Input,
    NotCompiledError,
    Sequential,
    engines,
    seeds,
    to_categorical,
)
from gpunet.arrays import as_images
from gpunet.engines.reference import ReferenceEngine
from gpunet.layers import HIDDEN_ACTIVATIONS, Network
from gpunet.scale import Scale


def small_model(seed: int | None = 0, loss: str = "sparse_categorical_crossentropy", **compile_arguments) -> Sequential:
    model = Sequential([Dense(6, "tanh", input_dim=8), Dense(3, "softmax")], seed=seed)
    model.compile(**{"optimizer": Adam(0.02), "loss": loss, **compile_arguments})
    return model


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
@pytest.mark.parametrize("optimizer", [Adam(0.02), SGD(0.2), SGD(0.05, 0.9)], ids=["adam", "sgd", "momentum"])
def test_every_activation_and_optimizer_learns(blobs, activation: str, optimizer) -> None:
    model = Sequential([Dense(8), Activation(activation), Dense(3, "softmax")], seed=0)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    history = model.fit(*blobs, batch_size=10, epochs=60, verbose=0)
    assert history.history["accuracy"][-1] > 0.95
    assert model.evaluate(*blobs)[1] > 0.95


@pytest.mark.parametrize("widths", [(3,), (1, 3), (7, 5, 2, 3), (40, 3)])
def test_any_number_of_layers_and_any_widths(blobs, widths) -> None:
    model = Sequential([*(Dense(units, "relu") for units in widths[:-1]), Dense(widths[-1], "softmax")], seed=0)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*blobs, epochs=2, verbose=0)
    assert [w.shape[-1] for w in model.get_weights()[::2]] == list(widths)


def test_history_has_keras_keys_and_one_value_per_epoch(blobs) -> None:
    x, y = blobs
    history = small_model().fit(x, y, batch_size=16, epochs=3, verbose=0, validation_data=(x[:9], y[:9]))
    assert history.epoch == [0, 1, 2]
    assert set(history.history) == {"loss", "accuracy", "val_loss", "val_accuracy", "seconds", "updates"}
    assert {len(values) for values in history.history.values()} == {3}
    assert history.history["updates"] == [4, 4, 4]  # 60 = 3 x 16 + 12


def test_validation_agrees_with_evaluate(blobs) -> None:
    x, y = blobs
    model = small_model()
    history = model.fit(x, y, epochs=2, verbose=0, validation_split=0.25).history
    assert [history["val_loss"][-1], history["val_accuracy"][-1]] == model.evaluate(x[45:], y[45:])


def test_validation_split_does_not_train_on_the_end(blobs) -> None:
    x, y = blobs
    split, cut = small_model(), small_model()
    split.fit(x, y, epochs=2, verbose=0, validation_split=0.25)
    cut.fit(x[:45], y[:45], epochs=2, verbose=0)
    assert same(split, cut)


def same(one: Sequential, other: Sequential) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def test_same_seed_gives_identical_weights_and_another_seed_does_not(blobs) -> None:
    models = [small_model(seed) for seed in (5, 5, 6)]
    assert same(models[0], models[1])
    assert not same(models[0], models[2])
    for model in models:
        model.fit(*blobs, batch_size=7, epochs=3, verbose=0)
    assert same(models[0], models[1])


def test_a_drawn_seed_can_be_used_again(blobs) -> None:
    model = small_model(seed=None)
    again = small_model(seed=model.seed)
    assert same(model, again)
    assert not same(model, small_model(seed=None))


def test_two_fits_continue_one_another(blobs) -> None:
    once, twice = small_model(), small_model()
    once.fit(*blobs, epochs=4, verbose=0)
    twice.fit(*blobs, epochs=2, verbose=0)
    twice.fit(*blobs, epochs=2, verbose=0)
    assert same(once, twice)


def test_every_epoch_is_reshuffled_unless_told_otherwise(blobs) -> None:
    model = small_model()
    orders = [seeds.epoch_order(model.seed, epoch, 60) for epoch in range(2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(60))
    assert (orders[0] != orders[1]).any()
    x, y = blobs
    kept, sorted_by_hand = small_model(), small_model()
    kept.fit(x[orders[0]], y[orders[0]], verbose=0, shuffle=False)
    sorted_by_hand.fit(x, y, verbose=0)
    assert same(kept, sorted_by_hand)


def test_glorot_start(mnist) -> None:
    model = Sequential([Dense(500, "sigmoid", input_dim=784), Dense(10, "softmax")], seed=0)
    first, bias, second, _ = model.get_weights()
    for weights in (first, second):
        limit = np.sqrt(6 / sum(weights.shape))
        assert 0.99 * limit < np.abs(weights).max() <= limit
        assert weights.std() == pytest.approx(limit / np.sqrt(3), rel=0.03)
    assert not bias.any()


def test_set_weights_round_trip_and_orientation(blobs) -> None:
    x, _ = blobs
    model = small_model()
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype(np.float32) for shape in ((8, 6), (6,), (6, 3), (3,))]
    model.set_weights(weights)
    hidden = np.tanh(x @ weights[0] + weights[1])
    logits = np.exp(hidden @ weights[2] + weights[3])
    np.testing.assert_allclose(model.predict(x), logits / logits.sum(axis=1, keepdims=True), rtol=2e-5, atol=1e-7)
    model.set_weights([w * 2 for w in weights])  # now there is an engine
    for one, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, 2 * other)


def test_images_are_flattened_and_bytes_are_scaled() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(5, 2, 4), dtype=np.uint8)
    model = small_model()
    expected = model.predict(images.reshape(5, 8).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(model.predict(images), expected)


def test_targets_of_both_losses_train_alike(blobs) -> None:
    x, y = blobs
    integer, one_hot = small_model(), small_model(loss="categorical_crossentropy")
    integer.fit(x, y, epochs=2, verbose=0)
    one_hot.fit(x.tolist(), to_categorical(y, 3), epochs=2, verbose=0)
    assert same(integer, one_hot)


def test_compile_again_keeps_the_weights(blobs) -> None:
    model = small_model()
    model.fit(*blobs, verbose=0)
    before = model.get_weights()
    model.compile("sgd", "sparse_categorical_crossentropy")
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    model.fit(*blobs, verbose=0)
    fresh = small_model(optimizer="sgd")  # the new optimizer is used, and nothing of Adam's state
    fresh.epochs_trained = 1
    fresh.set_weights(before)
    fresh.fit(*blobs, verbose=0)
    assert same(model, fresh)


def test_fit_starts_again_after_a_callback_stopped_it(blobs) -> None:
    class Stop(gpunet.Callback):
        def on_epoch_end(self, epoch: int, logs=None) -> None:
            self.model.stop_training = True

    model = small_model()
    assert len(model.fit(*blobs, epochs=3, verbose=0, callbacks=[Stop()]).epoch) == 1
    assert len(model.fit(*blobs, epochs=3, verbose=0).epoch) == 3
    assert model.epochs_trained == 4


def test_the_default_batch_size_fits_small_data(blobs) -> None:
    x, y = blobs
    assert small_model().fit(x[:20], y[:20], verbose=0).history["updates"] == [1]
    assert small_model().fit(x, y, verbose=0).history["updates"] == [2]


def test_validation_split_is_rounded_as_keras_rounds_it(blobs) -> None:
    x, y = blobs
    split, cut = small_model(), small_model()
    split.fit(x[:15], y[:15], verbose=0, validation_split=0.1)
    cut.fit(x[:13], y[:13], verbose=0)
    assert same(split, cut)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda x: x.T.copy().T, lambda x: np.repeat(x, 2, 1)[:, ::2]])
def test_arrays_of_any_layout_in_memory_train_alike(blobs, layout) -> None:
    x, y = blobs
    plain, odd = small_model(), small_model()
    plain.fit(x, y, verbose=0)
    odd.fit(layout(x), y, verbose=0)
    assert same(plain, odd)
    images, _ = as_images("x", layout((np.abs(x) * 9).astype(np.uint8)), 8)
    assert images.flags.c_contiguous


def test_learning_rate_can_change_between_epochs(blobs) -> None:
    model, twin = small_model(optimizer=SGD(0.1)), small_model(optimizer=SGD(0.1))
    for each in (model, twin):
        each.fit(*blobs, verbose=0)
    model.optimizer.learning_rate = 1e-12
    before = model.get_weights()
    model.fit(*blobs, verbose=0)
    np.testing.assert_allclose(model.get_weights()[0], before[0], atol=1e-9)
    twin.fit(*blobs, verbose=0)
    assert not same(model, twin)


def test_a_copy_chooses_its_engine_where_it_is_used(blobs) -> None:
    """A model that was pickled on a machine with a GPU predicts on one without, even without CuPy."""
    model = small_model()
    model.fit(*blobs, verbose=0)
    model._session.choice = model._session.choice._replace(engine="tiled")
    assert pickle.loads(pickle.dumps(model))._session.choice is None


@pytest.mark.parametrize("duplicate", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_continues_as_the_original_does_and_leaves_it_alone(blobs, duplicate) -> None:
    model = small_model()
    model.fit(*blobs, batch_size=7, epochs=2, verbose=0)
    twin = duplicate(model)
    before = model.get_weights()
    twin.fit(*blobs, batch_size=7, epochs=2, verbose=0)
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    model.fit(*blobs, batch_size=7, epochs=2, verbose=0)
    assert same(model, twin)


def test_compile_inside_a_callback_is_refused(blobs) -> None:
    class Meddler(gpunet.Callback):
        def on_epoch_end(self, epoch: int, logs=None) -> None:
            self.model.compile("sgd", ONE_HOT)

    with pytest.raises(ArgumentError, match="compile: not possible while fit is running"):
        small_model().fit(*blobs, verbose=0, callbacks=[Meddler()])


def test_keras_arguments_of_evaluate_and_predict_are_accepted(blobs) -> None:
    model = small_model()
    assert model.evaluate(*blobs, batch_size=7, verbose=0) == model.evaluate(*blobs)
    np.testing.assert_array_equal(model.predict(blobs[0], batch_size=7, verbose=0), model.predict(blobs[0]))
    model.fit(*blobs, callbacks=None, verbose=0)


def test_lr_is_another_name_of_the_learning_rate() -> None:
    optimizer = Adam(lr=0.5)
    optimizer.lr = 0.25
    assert optimizer.learning_rate == optimizer.lr == 0.25


def test_a_last_update_that_ruins_the_weights_is_noticed(blobs) -> None:
    x, y = blobs
    model = Sequential([Dense(3, "softmax", input_dim=8)], seed=0)
    model.compile(SGD(1e39), "sparse_categorical_crossentropy")
    with pytest.raises(gpunet.TrainingDivergedError, match="update 1 of epoch 1"):
        model.fit(x, y, batch_size=60, verbose=0)


def test_errors_survive_pickling() -> None:
    error = pickle.loads(pickle.dumps(gpunet.TrainingDivergedError(3, 2)))
    assert (error.update, error.epoch, str(error)) == (3, 2, str(gpunet.TrainingDivergedError(3, 2)))


def test_predict_needs_no_compile(blobs) -> None:
    probabilities = Sequential([Dense(3, "softmax", input_dim=8)]).predict(blobs[0])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


def test_callbacks_see_every_epoch_and_can_stop(blobs) -> None:
    class Recorder(gpunet.Callback):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def on_train_begin(self, logs=None) -> None:
            self.seen.append(f"train {self.params['epochs']}")

        def on_epoch_begin(self, epoch: int, logs=None) -> None:
            self.seen.append(f"begin {epoch} {self.params['steps']}")

        def on_progress(self, updates: int) -> None:
            self.seen.append(f"{updates}")

        def on_epoch_end(self, epoch: int, logs=None) -> None:
            self.seen.append(f"end {epoch}")
            self.model.stop_training = epoch == 1

        def on_train_end(self, logs=None) -> None:
            self.seen.append("over")

    recorder = Recorder()
    history = small_model().fit(*blobs, batch_size=30, epochs=9, verbose=0, callbacks=[recorder])
    expected = ["train 9", "begin 0 2", "2", "end 0", "begin 1 2", "2", "end 1", "over"]
    assert [event for event in recorder.seen if event != "1"] == expected  # engines need not come up after each update
    assert history.epoch == [0, 1]


def test_summary(capsys) -> None:
    small_model().summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["Dense", "tanh", "(None,", "6)", "54"]
    assert lines[-1].split() == ["total", "75"]


def test_the_display_prints_a_line_per_epoch(blobs, capsys) -> None:
    small_model().fit(*blobs, epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch 2/2  loss 0.")


def test_diverging_training_names_epoch_and_update(blobs) -> None:
    x, y = blobs
    model = Sequential([Dense(3, "softmax", input_dim=8)], seed=0)
    model.compile(SGD(1e38), "sparse_categorical_crossentropy")
    with pytest.raises(gpunet.TrainingDivergedError, match=r"update \d+ of epoch 1; .*smaller learning rate"):
        model.fit(x * 1e6, y, batch_size=10, epochs=5, verbose=0)


# Refusals: (call, words of the message). Each starts from a compiled model and good data, and breaks one thing.

ONE_HOT = "categorical_crossentropy"
FIT_FAULTS = {
    "wrong-width": (lambda m, x, y: m.fit(x[:, :5], y), ["x: expected shape (examples, 8)", "got (60, 5)"]),
    "one-dimension": (lambda m, x, y: m.fit(x[0], y), ["x: expected shape", "got (8,)"]),
    "no-examples": (lambda m, x, y: m.fit(x[:0], y[:0]), ["x: no examples", "got shape (0, 8)"]),
    "nan": (lambda m, x, y: m.fit(np.where(x == x[3, 2], np.nan, x), y), ["x: example 3 has NaN"]),
    "overflows-float32": (lambda m, x, y: m.fit(x.astype(float) * 1e300, y), ["x: example 0 has NaN or infinite"]),
    "text": (lambda m, x, y: m.fit(x.astype(str), y), ["x: expected numbers"]),
    "ragged": (lambda m, x, y: m.fit([[1, 2], [3]], y), ["x: cannot be converted to an array"]),
    "fewer-labels": (lambda m, x, y: m.fit(x, y[:-1]), ["y: expected one target for each of the 60", "59"]),
    "label-too-large": (lambda m, x, y: m.fit(x, y + 1), ["y: label 3 is out of range; expected 0 to 2"]),
    "negative-label": (lambda m, x, y: m.fit(x, y - 1), ["y: label -1 is out of range"]),
    "fractions": (lambda m, x, y: m.fit(x, y + 0.5), ["y: expected whole-number labels"]),
    "one-hot-for-integer": (lambda m, x, y: m.fit(x, to_categorical(y)), ["y: the loss 'sparse_", "(60, 3)", ONE_HOT]),
    "batch-size-0": (lambda m, x, y: m.fit(x, y, batch_size=0), ["batch_size: expected a whole number above 0, got 0"]),
    "batch-size-fraction": (lambda m, x, y: m.fit(x, y, batch_size=1.5), ["batch_size", "1.5"]),
    "epochs": (lambda m, x, y: m.fit(x, y, epochs=-1), ["epochs: expected a whole number from 0 on, got -1"]),
    "verbose": (lambda m, x, y: m.fit(x, y, verbose=7), ["verbose", "7"]),
    "split": (lambda m, x, y: m.fit(x, y, validation_split=1), ["validation_split", "1"]),
    "validation-pair": (lambda m, x, y: m.fit(x, y, validation_data=x), ["validation_data: expected (x, y)"]),
    "validation-labels": (
        lambda m, x, y: m.fit(x, y, validation_data=(x, y + 1)),
        ["validation_data y: label 3 is out of range"],
    ),
    "evaluate-width": (lambda m, x, y: m.evaluate(x[:, :5], y), ["x: expected shape (examples, 8)"]),
    "predict-width": (lambda m, x, y: m.predict(x[:, :5]), ["x: expected shape (examples, 8)"]),
    "weights-shapes": (lambda m, x, y: m.set_weights([x]), ["weights: expected arrays of shapes", "[(60, 8)]"]),
    "weights-text": (lambda m, x, y: m.set_weights(["a", "b", "c", "d"]), ["weights: expected arrays of shapes"]),
    "weights-none": (lambda m, x, y: m.set_weights(None), ["weights: expected a list of arrays, got None"]),
    "weights-too-large": (
        lambda m, x, y: m.set_weights([w.astype(float) + 1e300 for w in m.get_weights()]),
        ["weights: array 0 has NaN or infinite"],
    ),
    "batch-size-array": (lambda m, x, y: m.fit(x, y, batch_size=np.array([1, 2])), ["batch_size: expected a whole"]),
    "epochs-twice": (lambda m, x, y: m.fit(x, y, epochs=3, nb_epoch=2), ["epochs=3 and nb_epoch=2 mean the same"]),
    "split-none": (lambda m, x, y: m.fit(x, y, validation_split=None), ["validation_split", "None"]),
    "verbose-array": (lambda m, x, y: m.fit(x, y, verbose=np.zeros(2)), ["verbose"]),
    "callbacks-one": (lambda m, x, y: m.fit(x, y, callbacks=gpunet.Callback()), ["callbacks: expected a list"]),
    "callbacks-text": (lambda m, x, y: m.fit(x, y, callbacks=["x"]), ["callbacks: expected gpunet.Callback", "'x'"]),
    "huge-label": (lambda m, x, y: m.fit(x, y + 1e300), ["y: expected whole-number labels"]),
    "validation-bytes": (
        lambda m, x, y: m.fit(x, y, validation_data=(np.zeros((60, 8), np.uint8), y)),
        ["validation_data x: bytes (uint8), which are used as x / 255, but x is numbers from -"],
    ),
    "metrics-number": (lambda m, x, y: m.compile("adam", ONE_HOT, 5), ["metrics: expected a list of 'accuracy'", "5"]),
    "weights-nan": (
        lambda m, x, y: m.set_weights([w * np.nan for w in m.get_weights()]),
        ["weights: array 0 has NaN"],
    ),
    "add-late": (lambda m, x, y: (m.predict(x), m.add(Dense(3))), ["add: the model already has its weights"]),
    "loss": (lambda m, x, y: m.compile("adam", "mse"), ["loss: expected one of categorical", "'mse'"]),
    "no-loss": (lambda m, x, y: m.compile("adam"), ["loss: expected one of", "None"]),
    "optimizer": (
        lambda m, x, y: m.compile("rmsprop", ONE_HOT),
        ["optimizer: expected one of adam, adamw, sgd", "'rmsprop'"],
    ),
    "metrics": (lambda m, x, y: m.compile("adam", ONE_HOT, ["auc"]), ["metrics: expected 'accuracy'", "'auc'"]),
    "device": (lambda m, x, y: m.compile("adam", ONE_HOT, device="tpu"), ["device: expected one of auto", "'tpu'"]),
    "engine": (lambda m, x, y: m.compile("adam", ONE_HOT, engine="x"), ["engine: expected one of auto", "'x'"]),
    "validation-width": (
        lambda m, x, y: m.fit(x, y, validation_data=(x[:, :5], y)),
        ["validation_data x: expected shape (examples, 8)"],
    ),
    "scalar-labels": (lambda m, x, y: m.fit(x, 3), ["y: expected one target", "a single value"]),
    "bool-labels": (lambda m, x, y: m.fit(x, y > 0), ["y: expected whole-number labels", "bool"]),
    "complex-images": (lambda m, x, y: m.fit(x + 1j, y), ["x: expected numbers"]),
    "rate-bool": (
        lambda m, x, y: (setattr(m.optimizer, "learning_rate", True), m.fit(x, y, verbose=0)),
        ["Adam: learning_rate: expected a finite number, got True"],
    ),
    "rate-spoilt": (
        lambda m, x, y: (setattr(m.optimizer, "learning_rate", -1), m.fit(x, y, verbose=0)),
        ["Adam: learning_rate: expected a number from 0 on, got -1"],
    ),
}


class LazyAdam(gpunet.Adam):
    """A user's own optimizer: the engines do not know it."""

    def step_sizes(self, updates):
        raise AssertionError("never asked for")


def test_a_custom_optimizer_class_is_refused_and_not_trained_as_its_parent(blobs) -> None:
    message = r"optimizer: expected .* of the class Adam, AdamW, SGD itself; got LazyAdam"
    model = small_model()
    with pytest.raises(ArgumentError, match=message):
        model.compile(LazyAdam(), "sparse_categorical_crossentropy")
    model.optimizer = LazyAdam()
    before = model.epochs_trained
    with pytest.raises(ArgumentError, match=message):
        model.fit(*blobs, verbose=0)
    assert model.epochs_trained == before
    for name, device in engines.DEVICE_OF.items():
        if device == "cpu":
            with pytest.raises(ArgumentError, match=message):
                engines.Choice(name, "").make(Network((8, 3), ("softmax",)), LazyAdam(), [])


@pytest.mark.parametrize("optimizer", [gpunet.Adam(0), gpunet.SGD(0, 0.9)], ids=["adam", "sgd"])
def test_a_learning_rate_of_0_changes_nothing(blobs, optimizer: gpunet.Adam | gpunet.SGD) -> None:
    """Where a schedule ends."""
    model = small_model()
    before = model.get_weights()
    model.compile(optimizer, "sparse_categorical_crossentropy", device="cpu")
    model.fit(*blobs, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("fault", FIT_FAULTS)
def test_bad_input_is_refused_before_anything_has_changed(blobs, fault: str) -> None:
    call, words = FIT_FAULTS[fault]
    model = small_model()
    before, loss = model.get_weights(), model.loss
    with pytest.raises(ArgumentError) as caught:
        call(model, *blobs)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (model.loss, model.epochs_trained) == (loss, 0)


def test_failed_fit_of_an_unbuilt_model_leaves_it_unbuilt(blobs) -> None:
    x, y = blobs
    model = Sequential([Dense(3, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    with pytest.raises(ArgumentError):
        model.fit(x[:, :5], y + 7)
    model.fit(x, y, verbose=0)
    assert model.network.widths == (8, 3)


def test_integer_labels_for_one_hot_loss_are_refused(blobs) -> None:
    x, y = blobs
    model = small_model(loss=ONE_HOT)
    with pytest.raises(ArgumentError, match=r"expects one-hot targets \(examples, 3\), got shape \(60,\).*sparse"):
        model.fit(x, y)
    with pytest.raises(ArgumentError, match=r"target 0 is .* expected probabilities that sum to 1"):
        model.fit(x, to_categorical(y) * 2)
    for wrong in ([2, -1, 0], [0.6, 0.6, 0], [0, 0, 0]):
        with pytest.raises(ArgumentError, match=r"target 0 is .* expected probabilities that sum to 1"):
            model.fit(x, np.tile(wrong, (60, 1)))
    with pytest.raises(ArgumentError, match=r"y: expected numbers of shape \(examples, 3\), got .* \(60, 4\)"):
        model.fit(x, to_categorical(y, 4))
    with pytest.raises(ArgumentError, match=r"target 1 is .*nan"):
        model.fit(x, np.where(np.arange(60)[:, None] == 1, np.nan, to_categorical(y)))


LAYER_FAULTS = {
    "unknown-activation": (lambda: Dense(3, "swish"), "activation: expected one of sigmoid.*'swish'"),
    "units-0": (lambda: Dense(0), "units: expected a whole number above 0, got 0"),
    "units-missing": (lambda: Dense(), "units: expected a whole number above 0, got None"),
    "units-twice": (lambda: Dense(3, output_dim=3), "units=3 and output_dim=3"),
    "input-shape": (lambda: Dense(3, input_shape=784), "input_shape: expected a tuple"),
    "both-inputs": (lambda: Dense(3, input_dim=2, input_shape=(2,)), "input_dim and input_shape"),
    "input": (lambda: Input(()), "shape: expected a tuple"),
    "learning-rate": (lambda: Adam(-0.1), "Adam: learning_rate: expected a number from 0 on, got -0.1"),
    "rate-text": (lambda: SGD("fast"), "SGD: learning_rate: expected a finite number, got 'fast'"),
    "beta": (lambda: Adam(beta_1=1), r"beta_1: expected a number in \[0, 1\), got 1"),
    "momentum": (lambda: SGD(momentum=-1), r"momentum: expected a number in \[0, 1\), got -1"),
    "not-a-layer": (lambda: Sequential([3]), "add: expected an Input, Dense, Activation or Dropout layer, got 3"),
    "seed": (lambda: Sequential(seed=-1), "seed: expected a whole number from 0 on, got -1"),
    "seed-fraction": (lambda: Sequential(seed=0.5), "seed: expected a whole number from 0 on, got 0.5"),
    "units-array": (lambda: Dense(np.zeros(3)), "units: expected a whole number above 0"),
    "units-huge": (
        lambda: Sequential([Dense(2**62), Dense(3, "softmax")]).compile("adam", "categorical_crossentropy"),
        "expected at most 16777216",
    ),
    "two-rates": (lambda: Adam(0.1, lr=0.2), "learning_rate=0.1 and lr=0.2 mean the same"),
    "layers": (lambda: Sequential(Dense(5)), "layers: expected a list of layers"),
    "classes": (lambda: to_categorical([0], "3"), "num_classes: expected a whole number above 0, got '3'"),
    "negative": (lambda: to_categorical([-1]), "labels: expected whole numbers from 0 on"),
    "labels": (lambda: to_categorical([0, 4], 3), "labels: 4 is out of range for num_classes=3"),
}


@pytest.mark.parametrize("fault", LAYER_FAULTS)
def test_bad_construction_is_refused(fault: str) -> None:
    call, message = LAYER_FAULTS[fault]
    with pytest.raises(ArgumentError, match=message):
        call()


NETWORK_FAULTS = {
    "empty": ([], "no Dense layer"),
    "activation-first": ([Activation("relu")], "expected after a Dense layer"),
    "two-activations": ([Dense(3, "relu"), Activation("softmax")], "already has the activation 'relu'"),
    "no-softmax": ([Dense(3, "sigmoid")], "output layer needs the activation 'softmax', got 'sigmoid'"),
    "softmax-inside": ([Dense(3, "softmax"), Dense(3, "softmax")], "activation of a hidden layer"),
    "input-later": ([Dense(3), Input((3,))], "Input: expected as the first layer"),
    "sizes": ([Dense(3), Dense(3, "softmax", input_dim=4)], "input_dim=4, but the layer before it has 3 outputs"),
}


@pytest.mark.parametrize("fault", NETWORK_FAULTS)
def test_layers_that_do_not_form_a_network_are_refused(fault: str) -> None:
    layers, message = NETWORK_FAULTS[fault]
    with pytest.raises(ArgumentError, match=message):
        Sequential(layers).compile("adam", ONE_HOT)


def test_fit_and_evaluate_before_compile_are_refused(blobs) -> None:
    model = Sequential([Dense(3, "softmax")])
    for method in (model.fit, model.evaluate):
        with pytest.raises(NotCompiledError, match=r"not compiled; call model\.compile"):
            method(*blobs)


def test_weights_before_the_inputs_are_known_are_refused() -> None:
    with pytest.raises(ArgumentError, match="does not know its number of inputs yet; give the first layer input_dim"):
        Sequential([Dense(3, "softmax")]).get_weights()


def test_importing_gpunet_imports_neither_cupy_nor_tqdm() -> None:
    code = "import sys, gpunet; print([m for m in ('cupy', 'cupy_backends', 'tqdm') if m in sys.modules])"
    output = subprocess.check_output([sys.executable, "-c", code], text=True, env=command_environment())
    assert output.strip() == "[]"


def test_more_classes_than_a_byte_can_count() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(600, 4)), np.arange(600) % 300
    model = Sequential([Dense(300, "softmax")], seed=0)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, verbose=0)
    assert model.evaluate(x, y)[0] == pytest.approx(-np.log(model.predict(x)[np.arange(600), y]).mean(), rel=1e-4)


@pytest.mark.parametrize("late", ["in the validation", "before the epoch counts"])
def test_an_interruption_after_the_last_update_undoes_the_epoch_too(blobs, monkeypatch, late: str) -> None:
    def interrupted(*_):
        raise KeyboardInterrupt

    model, twin = (small_model(engine="reference") for _ in range(2))
    for each in (model, twin):
        each.fit(*blobs, verbose=0)
    with monkeypatch.context() as context:
        if late == "in the validation":
            context.setattr(ReferenceEngine, "evaluate", interrupted)
        else:
            context.setattr(Scale, "joined", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.fit(*blobs, verbose=0, validation_data=blobs)
    assert model.epochs_trained == 1
    assert same(model, twin)
    for each in (model, twin):
        each.fit(*blobs, verbose=0)
    assert same(model, twin)
