"""What Keras' first examples use: Flatten, load_model, save_weights, count_params, use_bias, kernel_initializer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest, truncnorm

import gpunet
from gpunet import Activation, ArgumentError, Dense, Flatten, Input, Sequential, first_weights

LOSS = "sparse_categorical_crossentropy"


def trained(*layers: gpunet.layers.Layer) -> Sequential:
    model = Sequential(layers, seed=2)
    model.compile("adam", LOSS, metrics=["accuracy"], device="cpu")
    images, labels = np.random.default_rng(0).integers(256, size=(30, 4, 2), dtype=np.uint8), np.arange(30) % 3
    model.fit(images, labels, epochs=2, batch_size=8, verbose=0)
    return model


def test_flatten_changes_nothing() -> None:
    models = [
        trained(Dense(5, "relu"), Dense(3, "softmax")),
        trained(Flatten(input_shape=(4, 2)), Dense(5, "relu"), Dense(3, "softmax")),
        trained(Input((4, 2)), Flatten(), Dense(5, "relu"), Dense(3, "softmax")),
    ]
    for model in models[1:]:
        for mine, first in zip(model.get_weights(), models[0].get_weights(), strict=True):
            np.testing.assert_array_equal(mine, first)
    assert Sequential([Flatten(), Dense(3, "softmax", input_dim=8)]).network.widths == (8, 3)
    for layers, words in (
        ([Dense(3, "softmax", input_dim=8), Flatten()], "Flatten: expected before the first Dense layer"),
        ([Flatten(), Input((8,)), Dense(3, "softmax")], "Input: expected as the first layer"),
        (
            [Input((9,)), Flatten(input_shape=(4, 2)), Dense(3, "softmax")],
            "Flatten: for 8 inputs, but the layer before",
        ),
    ):
        with pytest.raises(ArgumentError, match=words):
            _ = Sequential(layers).network


@pytest.mark.parametrize("name", ["a.safetensors", "a.npz"])
def test_a_model_without_biases_has_none_for_users_and_files(tmp_path: Path, name: str) -> None:
    model = trained(Dense(5, "relu", use_bias=False), Dense(3, "softmax"))
    assert [array.shape for array in model.get_weights()] == [(8, 5), (5, 3), (3,)]
    assert [array.shape for array in model.optimizer_state.slots["m"]] == [(8, 5), (5, 3), (3,)]
    assert model.count_params() == 8 * 5 + 5 * 3 + 3
    lines: list[str] = []
    model.summary(lines.append)
    assert [line.split()[-1] for line in lines] == ["parameters", "40", "18", "58"]
    model.save(tmp_path / name, include_optimizer=True)
    loaded = gpunet.load_model(tmp_path / name)
    assert loaded.network == model.network
    images = np.arange(16, dtype=np.uint8).reshape(2, 8)
    np.testing.assert_array_equal(loaded.predict(images), model.predict(images))
    for mine, theirs in zip(loaded.optimizer_state.slots["v"], model.optimizer_state.slots["v"], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    model.save_weights(tmp_path / name)
    twin = Sequential([Dense(5, "relu", use_bias=False), Dense(3, "softmax")])
    twin.load_weights(tmp_path / name)
    twin.set_weights(model.get_weights())
    np.testing.assert_array_equal(twin.predict(images), model.predict(images))
    with pytest.raises(
        gpunet.ModelFileError, match="holds 8-5-3 with relu, softmax, no bias in layer 1, but the model"
    ):
        Sequential([Dense(5, "relu"), Dense(3, "softmax")]).load_weights(tmp_path / name)
    with pytest.raises(ArgumentError, match="expected arrays of shapes"):
        twin.set_weights([*model.get_weights(), np.zeros(3)])


def test_pytorch_takes_weights_without_biases(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    from safetensors.torch import load_file

    model = trained(Dense(5, "relu", use_bias=False), Dense(3, "softmax"))
    model.save(tmp_path / "a.safetensors")
    layers = torch.nn.Linear(8, 5, bias=False), torch.nn.ReLU(), torch.nn.Linear(5, 3), torch.nn.Softmax(1)
    network = torch.nn.Sequential(*layers)
    network.load_state_dict(load_file(tmp_path / "a.safetensors"))
    x = np.random.default_rng(0).random((4, 8), np.float32)
    np.testing.assert_allclose(network(torch.from_numpy(x)).detach().numpy(), model.predict(x), atol=1e-6)


DEVIATIONS = {
    "glorot_uniform": np.sqrt(2 / 500),
    "glorot_normal": np.sqrt(2 / 500),
    "he_uniform": np.sqrt(2 / 300),
    "he_normal": np.sqrt(2 / 300),
    "lecun_uniform": np.sqrt(1 / 300),
    "lecun_normal": np.sqrt(1 / 300),
    "random_uniform": 0.05 / np.sqrt(3),
    "random_normal": 0.05,
}


@pytest.mark.parametrize("name", DEVIATIONS)
def test_weights_begin_as_the_name_says(name: str) -> None:
    model = Sequential([Dense(200, "relu", kernel_initializer=name, input_dim=300), Dense(3, "softmax")], seed=0)
    weights, bias = model.get_weights()[:2]
    drawn = weights.astype(np.float64).ravel() / DEVIATIONS[name]
    truth = "norm" if name == "random_normal" else truncnorm(-2, 2, scale=1 / truncnorm(-2, 2).std()).cdf
    if name.endswith("uniform"):
        truth = lambda x: np.clip(0.5 + x / np.sqrt(12), 0, 1)  # noqa: E731
    assert kstest(drawn, truth).pvalue > 1e-3
    assert not bias.any()


def test_names_of_2016_fixed_starts_and_biases() -> None:
    assert set(DEVIATIONS) | {"zeros", "ones"} == set(first_weights.NAMES)
    one, other = (Sequential([Dense(3, "softmax", input_dim=4, **given)], seed=5).get_weights()
                  for given in ({"init": "uniform"}, {"kernel_initializer": "random_uniform"}))  # fmt: skip
    np.testing.assert_array_equal(one[0], other[0])
    (weights,), bias = Sequential([Dense(3, "softmax", False, "zeros", input_dim=4)]).get_weights(), None
    assert (weights.any(), bias) == (False, None)
    assert Sequential([Dense(3, "softmax", bias_initializer="ones", input_dim=4)]).get_weights()[1].all()
    for wrong, words in (
        ({"kernel_initializer": "orthogonal"}, "Dense: kernel_initializer: expected one of glorot_uniform"),
        ({"bias_initializer": 0}, "Dense: bias_initializer: expected one of"),
        ({"use_bias": None}, "Dense: use_bias: expected True or False, got None"),
    ):
        with pytest.raises(ArgumentError, match=words):
            Dense(3, **wrong)


def test_a_models_text_shows_its_network() -> None:
    model = trained(Dense(5, "relu"), Dense(3, "softmax"))
    assert repr(model) == "<Sequential 8-5-3, relu softmax, 63 parameters, 2 epochs trained>"
    assert (
        repr(Sequential([Dense(5, "relu"), Dense(3, "softmax")]))
        == "<Sequential ?-5-3, relu softmax, 0 epochs trained>"
    )
    assert repr(Sequential([Flatten()])) == "<Sequential of 1 layers, no network yet>"
    assert repr(Dense(3, "softmax", False, input_dim=8)) == "Dense(3, 'softmax', use_bias=False, input_dim=8)"
    assert repr(Activation("tanh")) == "Activation('tanh')"


def test_no_epochs_and_a_batch_of_all_examples(blobs) -> None:
    x, y = blobs
    first, second = (Sequential([Dense(3, "softmax", input_dim=8)], seed=1) for _ in range(2))
    for model, size in ((first, 60), (second, 1000)):
        model.compile("adam", LOSS, device="cpu")
        history = model.fit(x, y, batch_size=size, epochs=0, verbose=0)
        assert (history.epoch, model.epochs_trained) == ([], 0)
        assert model.fit(x, y, batch_size=size, epochs=1, verbose=0).history["updates"] == [1]
    np.testing.assert_array_equal(first.predict(x), second.predict(x))
