"""Names that people who know Keras try first: the line that they get; and Python's own rules still hold."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest

import gpunet
import gpunet.callbacks
from gpunet import SGD, Adam, ArgumentError, Dense, Input, Sequential, keras_names, layers, losses, metrics, optimizers

MODULES = (gpunet, gpunet.callbacks, layers, losses, metrics, optimizers)
FUNCTIONS: tuple[Callable[..., Any], ...] = (
    *(Sequential, Sequential.compile, Sequential.fit, Sequential.evaluate, Sequential.predict, Sequential.save),
    *(
        Sequential.load_weights,
        Sequential.save_weights,
        Sequential.summary,
        gpunet.load,
        Dense,
        Input,
        gpunet.Activation,
        Adam,
        SGD,
    ),
)


def names(lines: keras_names.Lines) -> list[str]:
    return [name for words, _ in lines for name in words.split()]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
@pytest.mark.parametrize("name", ["GaussianDropout", "Conv2D", "BatchNormalization", "Reshape", "save_model"])
def test_a_name_of_keras_says_what_gpunet_has(module: Any, name: str) -> None:
    line = f"{module.__name__} has no {name}: "
    with pytest.raises(AttributeError, match=line) as caught:
        getattr(module, name)
    assert "\n" not in str(caught.value)
    with pytest.raises(ImportError, match=line):
        exec(f"from {module.__name__} import {name}", {})
    assert not hasattr(module, name)
    assert getattr(module, name, 3) == 3


@pytest.mark.parametrize("module", ["models", "keras", "keras.layers", "datasets.mnist", "optim", "utils"])
def test_a_module_of_keras_says_what_gpunet_has(module: str) -> None:
    first = module.partition(".")[0]
    for statement in (f"import gpunet.{module}", f"from gpunet.{module} import anything"):
        with pytest.raises(ModuleNotFoundError, match=rf"^gpunet has no module {first}: \S") as caught:
            exec(statement, {})
        assert caught.value.name == f"gpunet.{first}"
        assert "\n" not in str(caught.value)
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'gpunet\.nothing'$"):
        exec("import gpunet.nothing", {})


def test_a_call_says_what_to_do_instead() -> None:
    with pytest.raises(TypeError, match=r"^'Sequential' object is not callable: predict\(x\) gives probabilities$"):
        Sequential([Dense(3, "softmax")])([[1.0]], training=False)
    for layer in (Dense(3), Input(shape=(4,)), gpunet.Activation("relu")):
        with pytest.raises(TypeError, match=rf"^'{type(layer).__name__}' object is not callable: Sequential\(\["):
            layer(Input(shape=(4,)))


def test_a_callback_in_another_module_is_named() -> None:
    with pytest.raises(ImportError, match=r"gpunet has no EarlyStopping: from gpunet.callbacks import EarlyStopping"):
        exec("from gpunet import Dense, EarlyStopping", {})
    exec("from gpunet.callbacks import EarlyStopping", {})  # as the line advises


def test_other_names_are_pythons_own_errors() -> None:
    with pytest.raises(AttributeError, match="module 'gpunet' has no attribute 'nothing'"):
        gpunet.nothing  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nothing' from 'gpunet'"):
        exec("from gpunet import nothing", {})
    with pytest.raises(AttributeError, match="'Sequential' object has no attribute 'nothing'"):
        Sequential().nothing  # noqa: B018
    with pytest.raises(TypeError, match="unexpected keyword argument 'usebias'"):
        Dense(3, usebias=False)


def test_modules_of_gpunet_are_still_found() -> None:
    exec("from gpunet import plots, digits, sklearn, callbacks, layers, Dense", {})
    assert not [name for name in names(keras_names.NAMES) if importlib.util.find_spec(f"gpunet.{name}")]


@pytest.mark.parametrize("name", names(keras_names.ATTRIBUTES))
def test_a_models_attribute_of_keras_says_what_gpunet_has(name: str) -> None:
    model = Sequential([Dense(3, "softmax")])
    with pytest.raises(AttributeError, match=f"^Sequential has no {name}: "):
        getattr(model, name)
    assert not hasattr(model, name)


def test_copies_and_pickles_of_models_layers_and_optimizers(blobs) -> None:
    model = Sequential([Dense(3, "softmax", input_dim=8)], seed=1)
    model.compile(Adam(0.1), losses.INTEGER)
    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert (twin.predict(blobs[0]) == model.predict(blobs[0])).all()
    assert pickle.loads(pickle.dumps(Adam(0.1))) == Adam(0.1)
    assert pickle.loads(pickle.dumps(Dense(3, "relu"))).activation == "relu"
    assert pickle.loads(pickle.dumps(Sequential)) is Sequential


CALLS: dict[str, Callable[[Sequential], Any]] = {
    "Dense() has no argument bias: use_bias": lambda m: Dense(3, bias=False),
    "Dense() has no argument initializer: a start is": lambda m: Dense(3, initializer="he_normal"),
    "Dense() has no argument name: ": lambda m: Dense(3, name="hidden"),
    "Input() has no argument batch_shape: ": lambda m: Input(batch_shape=(1, 2)),
    "Adam() has no argument weight_decay: AdamW has it": lambda m: Adam(weight_decay=0.1),
    "Adam() has no argument nesterov: SGD has it": lambda m: Adam(nesterov=True),
    "Sequential() has no argument name: ": lambda m: Sequential([], name="net"),
    "compile() has no argument learning_rate: it belongs": lambda m: m.compile("adam", learning_rate=0.1),
    "fit() has no argument sample_weights: sample_weight": lambda m: m.fit([[1]], [0], sample_weights=[1]),
    "fit() has no argument steps_per_epoch: ": lambda m: m.fit([[1]], [0], steps_per_epoch=3),
    "evaluate() has no argument return_dict: ": lambda m: m.evaluate([[1]], [0], return_dict=True),
    "predict() has no argument steps: ": lambda m: m.predict([[1]], steps=3),
    "save() has no argument overwrite: ": lambda m: m.save("m.npz", overwrite=True),
    "load_weights() has no argument by_name: ": lambda m: m.load_weights("m.npz", by_name=True),
    "load() has no argument custom_objects: ": lambda m: gpunet.load("m.npz", custom_objects={}),
    "summary() has no argument line_length: ": lambda m: m.summary(line_length=80),
}


@pytest.mark.parametrize("line", CALLS)
def test_an_argument_of_keras_says_what_gpunet_has(line: str) -> None:
    with pytest.raises(TypeError) as caught:
        CALLS[line](Sequential([Dense(3, "softmax")]))
    assert str(caught.value).startswith(line)
    assert isinstance(caught.value, ArgumentError)


def test_signatures_are_what_they_were() -> None:
    assert list(inspect.signature(Dense).parameters)[:3] == ["units", "activation", "use_bias"]
    assert list(inspect.signature(Sequential([]).fit).parameters)[:4] == ["x", "y", "batch_size", "epochs"]
    for function in FUNCTIONS:
        kinds = {parameter.kind for parameter in inspect.signature(function).parameters.values()}
        assert not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}, function


def test_the_tables_have_each_name_once_and_refer_only_to_what_exists() -> None:
    for lines in (keras_names.NAMES, keras_names.ATTRIBUTES, keras_names.ARGUMENTS):
        assert len(names(lines)) == len(set(names(lines)))
    model = Sequential([Dense(3, "softmax", input_dim=8)])
    for lines in (keras_names.NAMES, keras_names.ATTRIBUTES, keras_names.ARGUMENTS):
        for _, line in lines:
            assert len(line) < 120
            for module, name in re.findall(r"\b(gpunet|callbacks|model)\.(\w+)", line.replace("gpunet.callbacks", "")):
                owner = {"gpunet": gpunet, "callbacks": gpunet.callbacks, "model": model}[module]
                assert hasattr(owner, name) or importlib.util.find_spec(f"gpunet.{name}"), line
    for name in names(keras_names.ATTRIBUTES):
        assert name not in vars(model)
    for path in ("network.parameters", "network.inputs", "network.classes"):
        assert isinstance(getattr(model.network, path.split(".")[1]), int)
