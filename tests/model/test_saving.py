"""Models in files: what comes back, what other programs read, and what a damaged file does."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import resource
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gpunet
from conftest import command_environment
from gpunet import SGD, Adam, AdamW, ArgumentError, Dense, ModelFileError, OutputError, Sequential, saving
from gpunet.data import Origin
from gpunet.layers import HIDDEN_ACTIVATIONS
from gpunet.saving import contents, formats

SUFFIXES = (".safetensors", ".npz")
OPTIMIZERS = {
    "adam": Adam(0.02, 0.8),
    "adamw": AdamW(0.02, 0.1),
    "sgd": SGD(0.1),
    "momentum": SGD(0.05, 0.9),
    "nesterov": SGD(0.05, 0.9, nesterov=True),
}
INTEGER = "sparse_categorical_crossentropy"


def trained_model(blobs, optimizer=None, epochs: int = 2) -> Sequential:
    model = Sequential([Dense(6, "tanh", input_dim=8), Dense(3, "softmax")], seed=5)
    model.compile(optimizer or Adam(0.02), INTEGER)
    model.fit(*blobs, batch_size=16, epochs=epochs, verbose=0)
    return model


def same_weights(one: Sequential, other: Sequential) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


@pytest.fixture(params=SUFFIXES)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"model{request.param}"


def test_a_saved_model_is_loaded_unchanged(blobs, path: Path) -> None:
    model = trained_model(blobs)
    model.save(path)
    loaded = gpunet.load(path)
    assert same_weights(loaded, model)
    assert (loaded.network, loaded.seed, loaded.loss) == (model.network, 5, INTEGER)
    assert loaded.optimizer == model.optimizer
    assert loaded.epochs_trained == 2
    np.testing.assert_array_equal(loaded.predict(blobs[0]), model.predict(blobs[0]))
    assert loaded.evaluate(*blobs) == model.evaluate(*blobs)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_with_the_optimizer_training_continues_as_if_it_had_never_stopped(blobs, path: Path, optimizer: str) -> None:
    model = trained_model(blobs, OPTIMIZERS[optimizer])
    model.save(str(path), include_optimizer=True)
    loaded = gpunet.load(str(path))
    for each in (model, loaded):
        each.fit(*blobs, batch_size=16, epochs=2, verbose=0)
    assert same_weights(loaded, model)


def test_without_the_optimizer_it_starts_afresh(blobs, path: Path) -> None:
    trained_model(blobs).save(path)
    assert gpunet.load(path).optimizer_state.updates == 0


def test_a_model_that_was_never_trained_or_compiled_is_loaded_as_such(blobs, path: Path) -> None:
    model = Sequential([Dense(6, "relu", input_dim=8), Dense(3, "softmax")], seed=2)
    model.save(path)
    loaded = gpunet.load(path)
    np.testing.assert_array_equal(loaded.predict(blobs[0]), model.predict(blobs[0]))
    with pytest.raises(gpunet.NotCompiledError):
        loaded.fit(*blobs)


def test_the_origin_of_the_training_data_is_saved(blobs, path: Path) -> None:
    model = trained_model(blobs)
    origin = Origin("blobs.npz", (2, 4), 3, "0" * 64)
    saving.write(path, dataclasses.replace(model.saved(), data=origin))
    assert saving.read(path).data == origin
    assert same_weights(gpunet.load(path), model)
    description = json.loads(raw_of(path).text)
    del description["data"], description["sha256"]  # as in a file of an older gpunet
    raw = raw_of(path)
    formats.write(path, formats.Raw(contents._seal(description, raw.arrays), raw.arrays))
    assert saving.read(path).data is None


def test_saving_a_loaded_model_gives_the_same_bytes(blobs, tmp_path: Path) -> None:
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    trained_model(blobs).save(one, include_optimizer=True)
    gpunet.load(one).save(other, include_optimizer=True)
    assert one.read_bytes() == other.read_bytes()


def test_pytorch_takes_the_weights_as_they_are(blobs, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch; pip install torch")
    from safetensors.torch import load_file

    path = tmp_path / "model.safetensors"
    model = trained_model(blobs)
    model.save(path)
    linear, activations = torch.nn.Linear, (torch.nn.Tanh(), torch.nn.Softmax(1))
    network = torch.nn.Sequential(linear(8, 6), activations[0], linear(6, 3), activations[1])
    network.load_state_dict(load_file(path))
    with torch.no_grad():
        probabilities = network(torch.from_numpy(blobs[0])).numpy()
    np.testing.assert_allclose(model.predict(blobs[0]), probabilities, rtol=1e-5, atol=1e-6)


def test_weights_written_by_pytorch_are_loaded(blobs, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch; pip install torch")
    from safetensors.torch import save_file

    path = tmp_path / "torch.safetensors"
    network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Sigmoid(), torch.nn.Linear(6, 3))
    save_file(network.state_dict(), path)
    model = Sequential([Dense(6, "sigmoid"), Dense(3, "softmax")])
    model.load_weights(path)
    with torch.no_grad():
        probabilities = torch.softmax(network(torch.from_numpy(blobs[0])), 1).numpy()
    np.testing.assert_allclose(model.predict(blobs[0]), probabilities, rtol=1e-5, atol=1e-6)
    with pytest.raises(ModelFileError, match=r"not written by gpunet; use model\.load_weights"):
        gpunet.load(path)


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_every_activation_is_remembered(path: Path, activation: str) -> None:
    Sequential([Dense(4, activation, input_dim=2), Dense(3, "softmax")]).save(path)
    assert gpunet.load(path).network.activations == (activation, "softmax")


def test_load_weights_into_a_model_that_trains(blobs, path: Path) -> None:
    model, other = trained_model(blobs), trained_model(blobs, epochs=5)
    other.save(path)
    updates = model.optimizer_state.updates
    model.load_weights(path)
    assert same_weights(model, other)
    assert model.optimizer_state.updates == updates


def test_load_weights_from_a_file_with_the_optimizer(blobs, path: Path) -> None:
    """As after ModelCheckpoint, which saves the optimizer's state unless told otherwise."""
    model = trained_model(blobs)
    model.save(path, include_optimizer=True)
    twin = Sequential([Dense(6, "tanh"), Dense(3, "softmax")])
    twin.load_weights(path)
    assert same_weights(twin, model)


@pytest.mark.parametrize("change", [("learning_rate", -1), ("momentum", 0.9), ("momentum", 1)], ids=str)
def test_an_optimizer_that_could_not_be_loaded_is_not_saved(blobs, path: Path, change: tuple[str, float]) -> None:
    model = trained_model(blobs, SGD(0.1))
    setattr(model.optimizer, *change)
    with pytest.raises(gpunet.ArgumentError, match=r"^(SGD: |optimizer state: )"):
        model.save(path, include_optimizer=True)
    assert not path.exists()


def test_numpy_numbers_in_the_optimizer_are_saved(blobs, path: Path) -> None:
    model = trained_model(blobs, SGD(0.1))
    model.optimizer.learning_rate = np.float32(0.25)
    model.save(path)
    assert gpunet.load(path).optimizer.learning_rate == 0.25


def test_weights_of_another_network_are_refused(blobs, path: Path) -> None:
    trained_model(blobs).save(path)
    for layers in ([Dense(7, "tanh"), Dense(3, "softmax")], [Dense(6, "relu"), Dense(3, "softmax")]):
        model = Sequential(layers)
        with pytest.raises(ModelFileError, match=r"holds 8-6-3 with tanh, softmax, but the model is 8-[67]-3"):
            model.load_weights(path)
        assert model._session.network is None


def test_the_optimizer_state_can_be_read_and_set(blobs) -> None:
    model = trained_model(blobs)
    twin = Sequential([Dense(6, "tanh", input_dim=8), Dense(3, "softmax")], seed=5)
    twin.compile(Adam(0.02), INTEGER)
    assert twin.optimizer_state.updates == 0
    twin.set_weights(model.get_weights())
    twin.optimizer_state, twin.epochs_trained = model.optimizer_state, model.epochs_trained
    for each in (model, twin):
        each.fit(*blobs, batch_size=16, verbose=0)
    assert same_weights(model, twin)


def test_a_wrong_optimizer_state_is_refused_and_changes_nothing(blobs) -> None:
    model = trained_model(blobs)
    good = model.optimizer_state
    for wrong, words in (
        (None, "slots"),
        (trained_model(blobs, SGD(0.1, 0.9)).optimizer_state, "slots"),
        (type(good)(-1, good.slots), "updates"),
        (type(good)(3, {"m": good.slots["m"], "v": [-v - 1 for v in good.slots["v"]]}), "v has numbers below 0"),
        (type(good)(3, {"m": good.slots["m"][:2], "v": good.slots["v"]}), "shapes"),
    ):
        with pytest.raises(ArgumentError, match=words):
            model.optimizer_state = wrong
    assert model.optimizer_state.updates == good.updates
    np.testing.assert_array_equal(model.optimizer_state.slots["v"][0], good.slots["v"][0])


def test_an_infinite_mean_of_squares_is_saved_and_loaded(blobs, path: Path) -> None:
    """A huge gradient leaves the weights finite and Adam's v infinite; training continues from there."""
    model = trained_model(blobs)
    state = model.optimizer_state
    state.slots["v"][0][1, 2] = np.inf
    model.optimizer_state = state
    model.save(path, include_optimizer=True)
    assert gpunet.load(path).optimizer_state.slots["v"][0][1, 2] == np.inf


def test_weights_that_are_not_finite_are_not_saved(blobs, path: Path) -> None:
    saved = trained_model(blobs).saved()
    saved.weights[0][0, 0] = np.inf
    with pytest.raises(ArgumentError, match="weights: array 0 has NaN or infinite values"):
        saving.write(path, saved)
    assert not path.exists()


# Files that are not what they should be.


def assert_refused(path: Path) -> None:
    with pytest.raises(ModelFileError) as caught:
        gpunet.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def raw_of(path: Path) -> formats.Raw:
    return formats.read(path, lambda text: contents._sizes(path, text))


@pytest.mark.slow
def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(blobs, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    trained_model(blobs).save(path)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    for change, message in (
        ({"0.weight": np.zeros(10**8, np.uint8)}, "0.weight.npy unpacks to 100,000,128 bytes; expected at most"),
        ({"other": np.zeros(10**8, np.uint8)}, "unexpected array 'other', which does not belong"),
        ({"gpunet": np.zeros(10**8, np.uint8)}, "gpunet.npy unpacks to 100,000,128 bytes"),
    ):
        np.savez_compressed(path, **(arrays | change))
        assert path.stat().st_size < 10**6
        tracemalloc.start()
        with pytest.raises(ModelFileError, match=message):
            gpunet.load(path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
        tracemalloc.stop()


def forged(path: Path, changes: dict[str, object], length: int | None = None, size: int | None = None) -> None:
    """The .safetensors file with changes to its header, which may then claim another length, or the file have another
    size.
    """
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps({**json.loads(content[8:end]), **changes}).encode()
    path.write_bytes((length or len(header)).to_bytes(8, "little") + header + content[end:])
    if size is not None:
        os.truncate(path, size)  # a hole, which takes no space on the disk


HUGE = 3 * 10**9
WEIGHTS = {"dtype": "F32", "shape": [6, 8]}
FORGERIES = {
    "header": ({}, {"length": 10**11}, "a header of 100,000,000,000 bytes in a file of"),
    "header-in-a-large-file": ({}, {"length": 10**9, "size": 2 * 10**9}, "a header of 1,000,000,000 bytes"),
    "array": ({"0.weight": {**WEIGHTS, "data_offsets": [0, 10**11]}}, {}, "the arrays do not fill the file"),
    "array-of-a-stranger": (
        {"__metadata__": {}, "0.weight": {**WEIGHTS, "data_offsets": [0, 10**11]}},
        {},
        "the arrays do not fill the file",
    ),
    "file": ({}, {"size": HUGE}, "the arrays do not fill the file"),
    "other": ({"x": {"dtype": "U8", "shape": [HUGE], "data_offsets": [300, HUGE + 300]}}, {"size": 1}, "'x', which"),
    "shape": ({"0.bias": {"dtype": "F32", "shape": [2**62], "data_offsets": [0, 24]}}, {}, "0.bias does not have"),
    "negative": ({"0.bias": {"dtype": "F32", "shape": [-2, -3], "data_offsets": [0, 24]}}, {}, "damaged"),
    "type": ({"0.bias": {"dtype": "F31", "shape": [6], "data_offsets": [0, 24]}}, {}, "F31"),
    "entry": ({"0.bias": 3}, {}, "damaged"),
    "no-offsets": ({"0.bias": {"dtype": "F32", "shape": [6]}}, {}, "damaged"),
    "metadata": ({"__metadata__": 3}, {}, "damaged"),
    "text": ({"__metadata__": {"gpunet": 3}}, {}, "damaged"),
    "deep": ({"x": "DEEP"}, {}, "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_header_is_refused_before_memory_is_taken(blobs, tmp_path: Path, forgery: str) -> None:
    changes, sizes, message = FORGERIES[forgery]
    path = tmp_path / "model.safetensors"
    trained_model(blobs).save(path)
    if forgery == "other":  # as long as its header says, so that the names alone tell
        forged(path, changes)
        content = path.read_bytes()
        sizes = {"size": 8 + int.from_bytes(content[:8], "little") + HUGE + 300}
    forged(path, changes, **sizes)
    if forgery == "deep":
        header = b'{"x": ' + b"[" * 10**5
        path.write_bytes(len(header).to_bytes(8, "little") + header)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError) as caught:
            gpunet.load(path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_an_array_larger_than_the_models_is_refused_before_it_is_read(blobs, tmp_path: Path) -> None:
    path, size = tmp_path / "model.safetensors", 10**8
    trained_model(blobs).save(path)
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    begin, name = max((entry["data_offsets"][0], name) for name, entry in header.items() if name != "__metadata__")
    forged(path, {name: {"dtype": "F32", "shape": [size // 4], "data_offsets": [begin, begin + size]}})
    os.truncate(path, 8 + int.from_bytes(path.read_bytes()[:8], "little") + begin + size)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=f"{name} has 100,000,000 bytes; expected at most"):
            gpunet.load(path)
        assert tracemalloc.get_traced_memory()[1] < 10**7
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), MemoryError()])
def test_an_unreadable_file_is_reported_as_such(blobs, path: Path, error: Exception, monkeypatch) -> None:
    trained_model(blobs).save(path)

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Path, "open", refuse)
    expected = MemoryError if isinstance(error, MemoryError) else ModelFileError
    with pytest.raises(expected, match="cannot be read: Permission denied" if expected is ModelFileError else None):
        gpunet.load(path)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_truncated_file_is_refused(blobs, path: Path, data: st.DataObject) -> None:
    if not path.exists():
        trained_model(blobs).save(path, include_optimizer=True)
    whole = path.read_bytes()
    cut = path.with_stem("cut")
    cut.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    assert_refused(cut)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bits_are_refused_or_change_nothing(blobs, path: Path, data: st.DataObject) -> None:
    """Some bytes mean nothing to a reader, such as the time of day in an .npz."""
    if not path.exists():
        trained_model(blobs).save(path, include_optimizer=True)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = path.with_stem("damaged")
    damaged.write_bytes(content)
    if content == path.read_bytes():  # flipped back
        return
    try:
        loaded = gpunet.load(damaged)
    except ModelFileError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
        return
    again = path.with_stem("again")
    loaded.save(again, include_optimizer=True)
    assert raw_of(again).text == raw_of(path).text  # with the checksum, so the arrays are the same as well


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=400))
def test_a_file_with_any_other_content_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert_refused(path)
    with pytest.raises(ModelFileError):
        Sequential([Dense(3, "softmax")]).load_weights(path)


def rewritten(path: Path, **changes: object) -> None:
    """The file with changes to its description, and a checksum that agrees with them."""
    raw = raw_of(path)
    description = {**json.loads(raw.text), **changes}
    del description["sha256"]
    formats.write(path, formats.Raw(contents._seal(description, raw.arrays), raw.arrays))


DESCRIPTIONS = {
    "newer": ({"format": 3, "version": "9.1"}, r"written by a newer gpunet \(9.1\) in format 3; .* --upgrade"),
    "format": ({"format": "one"}, "damaged: format 'one'"),
    "widths": ({"widths": [8, 7, 3]}, r"expected arrays of shapes \[\(8, 7\)"),
    "widths-text": ({"widths": "abc"}, "model's description is wrong: "),
    "widths-none": ({"widths": None}, "model's description is wrong: "),
    "widths-fraction": ({"widths": [8.0, 6, 3]}, "expected a whole number above 0, got 8.0"),
    "fewer": (
        {"widths": [8, 3], "activations": ["softmax"]},
        "unexpected array '2.bias', which does not belong to the model",
    ),
    "more": ({"widths": [8, 6, 3, 3], "activations": ["tanh", "relu", "softmax"]}, "no array '4.weight'"),
    "activation": ({"activations": ["swish", "softmax"]}, "got 'swish'"),
    "seed": ({"seed": -1}, "expected a whole number from 0 on, got -1"),
    "epochs": ({"epochs_trained": None}, "expected a whole number from 0 on, got None"),
    "loss": ({"loss": "mse"}, "loss: expected one of"),
    "no-loss": ({"loss": None}, "a loss without an optimizer, or the reverse"),
    "optimizer": ({"optimizer": {"name": "rmsprop"}}, "model's description is wrong: 'rmsprop'"),
    "optimizer-list": ({"optimizer": [1]}, "model's description is wrong: "),
    "optimizer-words": ({"optimizer": {"name": "adam", "lambda": 1}}, "unexpected keyword argument 'lambda'"),
    "rate": ({"optimizer": {"name": "adam", "learning_rate": float("nan")}}, "learning_rate: expected a finite"),
    "slots": ({"optimizer": {"name": "sgd"}}, "unexpected array 'optimizer.m.0.bias', which does not belong"),
    "updates": ({"updates": -3}, "expected a whole number of updates"),
    "data": ({"data": {"path": None, "shape": [0], "classes": 3, "sha256": ""}}, "data: expected path, shape, classes"),
    "data-words": ({"data": {"path": None}}, "model's description is wrong: "),
    "training": ({"training": 7}, "model's description is wrong: "),
}


@pytest.mark.parametrize("fault", DESCRIPTIONS)
def test_an_impossible_description_is_refused(blobs, tmp_path: Path, fault: str) -> None:
    changes, message = DESCRIPTIONS[fault]
    path = tmp_path / "model.safetensors"
    trained_model(blobs).save(path, include_optimizer=True)
    rewritten(path, **changes)
    with pytest.raises(ModelFileError, match=message) as caught:
        gpunet.load(path)
    assert "\n" not in str(caught.value)


def test_an_infinite_weight_is_refused(blobs, path: Path) -> None:
    trained_model(blobs).save(path)
    raw = raw_of(path)
    raw.arrays["0.bias"] = np.where(np.arange(6) == 1, np.float32(np.inf), raw.arrays["0.bias"])
    formats.write(path, raw)
    with pytest.raises(ModelFileError, match="checksum"):
        gpunet.load(path)
    rewritten(path)
    with pytest.raises(ModelFileError, match="NaN or infinite"):
        gpunet.load(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    np.savez(path, gpunet=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ModelFileError, match="allow_pickle=False"):
        gpunet.load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    for wrong in ("model.h5", "model", "", "model.pkl"):
        with pytest.raises(ArgumentError, match=r"a name that ends in \.safetensors or \.npz"):
            gpunet.load(tmp_path / wrong if wrong else wrong)
    with pytest.raises(ArgumentError, match="expected the path of a model file, got 3"):
        gpunet.load(3)
    with pytest.raises(ModelFileError, match="no such file"):
        gpunet.load(tmp_path / "none.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ModelFileError, match="not a file"):
        gpunet.load(tmp_path / "folder.npz")
    np.savez(tmp_path / "data.npz", x_train=np.zeros(3))
    with pytest.raises(ModelFileError, match="not written by gpunet"):
        gpunet.load(tmp_path / "data.npz")
    safetensors.numpy.save_file({"0.weight": np.zeros((3, 8), np.float32)}, tmp_path / "half.safetensors")
    with pytest.raises(ModelFileError, match=r"no array '0\.bias'"):
        Sequential([Dense(3, "softmax")]).load_weights(tmp_path / "half.safetensors")


# Writing.


def test_a_model_without_inputs_cannot_be_saved(path: Path) -> None:
    with pytest.raises(ArgumentError, match="does not know its number of inputs yet"):
        Sequential([Dense(3, "softmax")]).save(path)
    assert not path.exists()


def test_a_missing_folder_is_one_clear_line(blobs, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"none/m\.npz: cannot be written: No such file or directory"):
        trained_model(blobs).save(tmp_path / "none" / "m.npz")


def test_a_link_stays_one_and_a_device_is_left_alone(blobs, tmp_path: Path) -> None:
    link = tmp_path / "link.npz"
    link.symlink_to(tmp_path / "real.npz")
    trained_model(blobs).save(link)
    assert link.is_symlink()
    assert gpunet.load(tmp_path / "real.npz").network.widths == (8, 6, 3)
    link.unlink()
    link.symlink_to("/dev/null")
    with pytest.raises(OutputError, match="not a file"):
        trained_model(blobs).save(link)


def test_a_private_file_stays_private(blobs, path: Path) -> None:
    model = trained_model(blobs)
    model.save(path)
    path.chmod(0o600)
    model.save(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_file_and_folder_are_forced_to_the_disk(blobs, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forced, fsync = [], os.fsync

    def remember(descriptor: int) -> None:
        forced.append(stat.S_IFMT(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", remember)
    trained_model(blobs).save(path)
    assert forced == [stat.S_IFREG, stat.S_IFDIR]


@pytest.mark.parametrize("moment", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=str)
def test_an_error_while_writing_leaves_the_old_file_intact(
    blobs, path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, error: BaseException
) -> None:
    old, new = trained_model(blobs), trained_model(blobs, epochs=3)
    old.save(path)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, moment, fail)
    with pytest.raises((OutputError, KeyboardInterrupt), match=r"No space left|^$"):
        new.save(path)
    monkeypatch.undo()
    assert same_weights(gpunet.load(path), old)
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk_leaves_the_old_file_intact(blobs, path: Path) -> None:
    """A limit on the size of files stands in for a full disk."""
    old = trained_model(blobs)
    old.save(path)
    code = f"import gpunet; m = gpunet.load({str(path)!r}); m.save({str(path)!r}, include_optimizer=True)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=command_environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)),
    )
    assert f"gpunet.errors.OutputError: {path}: cannot be written: File too large" in result.stderr
    assert same_weights(gpunet.load(path), old)
    assert os.listdir(path.parent) == [path.name]
