"""What people who know Keras (or PyTorch) try first and gpunet does not have, and what to use instead.

There is one table per kind: names in modules, attributes of a model, arguments. A name is looked up here only after
Python has not found it, so `hasattr`, copies and pickles work as usual.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from opcode import opmap
from types import FrameType
from typing import NoReturn, ParamSpec, TypeVar

from gpunet.errors import UnknownArgumentError

Lines = tuple[tuple[str, str], ...]

DENSE_ONLY = "gpunet trains fully connected networks: a Sequential of Dense layers"
PENALTIES = "gpunet has L2 on weights, Dense(units, kernel_regularizer=L2(0.0001)), and no other penalty"
NOISE = "gpunet has Dropout(rate) after hidden layers, and no other noise"
START = "a start is a name: Dense(units, kernel_initializer='he_normal'); gpunet.first_weights.NAMES has all"
LOSSES = "a loss is a name: compile(loss='sparse_categorical_crossentropy') for class numbers, or 'categorical_...'"
RATE = "callbacks.LearningRateScheduler and ReduceLROnPlateau change the rate between epochs"
WHOLE = "fit, evaluate and predict take whole arrays"
FILES = "model.save(path) and gpunet.load(path) keep layers, weights and, if asked to, the optimizer's state"

NAMES: Lines = (
    ("Reshape Permute", "fit, evaluate and predict flatten images themselves: leave the layer out"),
    ("Rescaling", "bytes (uint8) are scaled to 0..1 when they are used; Normalization scales other numbers"),
    ("AlphaDropout SpatialDropout1D SpatialDropout2D GaussianDropout GaussianNoise", NOISE),
    ("BatchNormalization LayerNormalization GroupNormalization UnitNormalization", DENSE_ONLY),
    ("Conv1D Conv2D Conv3D SeparableConv2D DepthwiseConv2D Conv2DTranspose ZeroPadding2D UpSampling2D", DENSE_ONLY),
    ("MaxPooling1D MaxPooling2D MaxPool2D AveragePooling2D GlobalAveragePooling2D GlobalMaxPooling2D", DENSE_ONLY),
    ("Embedding LSTM GRU SimpleRNN RNN Bidirectional TimeDistributed Attention MultiHeadAttention", DENSE_ONLY),
    ("Model Functional Layer Lambda Add Concatenate Multiply Average Maximum Dot Masking RepeatVector", DENSE_ONLY),
    ("Linear Module nn", "Dense(units, activation) is the layer, and Sequential the network"),
    ("InputLayer InputSpec", "Input(shape=(784,)), or Dense(units, input_dim=784)"),
    (
        "ReLU LeakyReLU PReLU ELU Softmax Sigmoid Tanh activations",
        "an activation is a name: Dense(units, 'relu'), or Activation('relu'); gpunet.layers.ACTIVATIONS has them all",
    ),
    ("model_from_json model_from_yaml", "gpunet.load(path) reads what model.save wrote"),
    ("save_model save", FILES),
    ("save_weights load_weights", "model.{name}(path)"),
    ("models", "from gpunet import Sequential, load"),
    ("datasets mnist fashion_mnist", "gpunet.load_mnist() is the bundled MNIST; gpunet.load_data(path) reads others"),
    ("utils np_utils", "gpunet.to_categorical makes one-hot targets"),
    ("keras backend applications preprocessing", "from gpunet import Dense, Sequential, load_mnist"),
    ("plot_model", "model.summary() prints the layers"),
    ("set_random_seed manual_seed", "Sequential(layers, seed=0) fixes the start and every shuffle"),
    ("DataLoader TensorDataset Sequence PyDataset", WHOLE),
    ("ImageDataGenerator image_dataset_from_directory", WHOLE),
    ("LambdaCallback", "make a class that inherits from gpunet.Callback; nothing is called between batches"),
    ("BackupAndRestore", "callbacks.ModelCheckpoint, or gpunet train --checkpoint and --resume"),
    (
        "ProgbarLogger BaseLogger RemoteMonitor SwapEMAWeights",
        "fit(verbose=1) shows progress; callbacks.CSVLogger",
    ),
    (
        "EarlyStopping ModelCheckpoint CSVLogger LearningRateScheduler ReduceLROnPlateau TensorBoard TerminateOnNaN",
        "from gpunet.callbacks import {name}",
    ),
    ("MLPClassifier", "from gpunet.sklearn import MLPClassifier"),
    ("read_digit", "from gpunet.digits import read_digit"),
    (
        "RMSprop Adagrad Adadelta Adamax Nadam Adafactor Ftrl Lion Lamb Muon optim",
        "gpunet has the optimizers Adam, AdamW and SGD (with momentum, nesterov)",
    ),
    ("LearningRateSchedule ExponentialDecay CosineDecay CosineDecayRestarts PiecewiseConstantDecay", RATE),
    ("PolynomialDecay InverseTimeDecay schedules", RATE),
    ("CategoricalCrossentropy SparseCategoricalCrossentropy BinaryCrossentropy CrossEntropyLoss NLLLoss", LOSSES),
    ("MeanSquaredError MeanAbsoluteError MSE KLDivergence Huber Hinge", LOSSES),
    (
        "Accuracy SparseCategoricalAccuracy CategoricalAccuracy AUC Precision Recall",
        "a metric is a name: compile(metrics=['precision', 'recall', 'f1', 'top_5_accuracy'])",
    ),
    ("L1 L1L2 l1 l2 l1_l2 constraints MaxNorm", PENALTIES),
    ("initializers GlorotUniform GlorotNormal HeUniform HeNormal RandomNormal RandomUniform Zeros Ones", START),
)

ATTRIBUTES: Lines = (
    ("train_on_batch", "fit(x, y, batch_size=len(x)) makes one update"),
    ("test_on_batch", "evaluate(x, y)"),
    ("predict_on_batch predict_proba forward", "predict(x) gives probabilities"),
    ("predict_classes", "predict(x).argmax(axis=1)"),
    ("fit_generator evaluate_generator predict_generator", WHOLE),
    ("train", "fit(x, y)"),
    ("eval score", "evaluate(x, y) gives [loss, accuracy]"),
    ("load_state_dict", "load_weights(path) takes what safetensors.torch.save_file wrote"),
    ("export to_json to_yaml get_config from_config", FILES),
    ("build", "Dense(units, input_dim=784) says the number of inputs; the weights are made at their first use"),
    ("weights trainable_weights non_trainable_weights variables trainable_variables", "get_weights()"),
    ("parameters state_dict named_parameters", "get_weights()"),
    ("num_parameters", "network.parameters"),
    ("inputs input input_shape", "network.inputs"),
    ("outputs output output_shape", "network.classes"),
    ("get_layer", "layers is the list of layers"),
    ("pop insert remove", "make a new Sequential to change the layers"),
    ("history", "fit returns it"),
    ("metrics metrics_names", "evaluate gives [loss, accuracy]"),
    ("learning_rate lr", "optimizer.learning_rate"),
    ("name trainable", "a model has no {name}"),
    ("reset_states reset_metrics", "nothing is kept from one call to the next"),
    ("to cuda cpu", "compile(..., device='cuda') or device='cpu' says where to compute"),
)

ARGUMENTS: Lines = (
    ("bias", "use_bias"),
    ("initializer", START),
    ("weights", "model.set_weights sets them"),
    ("bias_regularizer activity_regularizer regularizer W_regularizer b_regularizer", PENALTIES),
    ("kernel_constraint bias_constraint W_constraint b_constraint", PENALTIES),
    ("weight_decay", "AdamW has it"),
    ("dropout", NOISE),
    ("name", "nothing has a name here; leave it out"),
    ("dtype", "everything is computed in float32"),
    ("trainable", "every layer is trained"),
    ("batch_input_shape batch_shape input_length", "input_dim=784, or Input(shape=(784,)); batch_size is fit's"),
    ("in_features input_size", "input_dim"),
    ("out_features num_units hidden_units", "units"),
    ("decay", RATE),
    (
        "clipnorm clipvalue global_clipnorm",
        "gradients are not clipped; a smaller learning rate helps",
    ),
    ("amsgrad", "Adam is Algorithm 1 of its paper"),
    ("nesterov momentum", "SGD has it"),
    ("rho beta1 beta2 betas", "beta_1 and beta_2"),
    ("eps", "epsilon"),
    ("use_ema ema_momentum ema_overwrite_frequency loss_scale_factor gradient_accumulation_steps", "leave it out"),
    ("sample_weights", "sample_weight"),
    ("steps_per_epoch samples_per_epoch steps validation_steps", "an epoch is all examples, once"),
    ("validation_freq", "validation data is looked at after every epoch"),
    ("validation_batch_size", "the engine takes as many examples at a time as suit it"),
    ("workers use_multiprocessing max_queue_size nb_worker generator", WHOLE),
    ("n_epochs num_epochs", "epochs"),
    ("return_dict", "evaluate gives [loss, accuracy]"),
    ("learning_rate lr", "it belongs to the optimizer: compile(Adam(learning_rate=0.001), ...)"),
    ("loss_weights weighted_metrics sample_weight_mode", "one loss; fit and evaluate have sample_weight"),
    (
        "run_eagerly jit_compile steps_per_execution auto_scale_loss",
        "leave it out: compiled code runs whole epochs",
    ),
    ("overwrite", "an old file is replaced as a whole"),
    ("save_format", "the name's end says it: .safetensors or .npz"),
    ("by_name skip_mismatch", "the file's layers must be the model's"),
    ("custom_objects safe_mode", "a file holds numbers and names only, nothing to run"),
    ("line_length positions expand_nested show_trainable", "leave it out"),
    ("from_logits", "the network ends in softmax, and the loss knows it"),
)


def _by_name(lines: Lines) -> dict[str, str]:
    return {name: line.format(name=name) for names, line in lines for name in names.split()}


_NAMES, _ATTRIBUTES, _ARGUMENTS = map(_by_name, (NAMES, ATTRIBUTES, ARGUMENTS))


def attributes_of(module: str) -> Callable[[str], NoReturn]:
    """A module's `__getattr__`."""

    def __getattr__(name: str) -> NoReturn:  # noqa: N807 - the name that Python knows
        if name not in _NAMES:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        line = f"{module} has no {name}: {_NAMES[name]}"
        if _is_import(sys._getframe(1)):
            raise ImportError(line)
        raise AttributeError(line)

    return __getattr__


def _is_import(frame: FrameType) -> bool:
    """Whether `from module import name` asks. It would drop an AttributeError's line, and say less by itself."""
    asks = frame.f_code.co_code[frame.f_lasti] if frame.f_lasti >= 0 else None
    return frame.f_globals.get("__name__") == "importlib._bootstrap" or asks == opmap["IMPORT_FROM"]


class _ModuleFinder(MetaPathFinder):
    """For `import gpunet.models` and the like. Comes after Python's own finders; never finds anything."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:
        package, _, name = fullname.rpartition(".")
        if package == "gpunet" and name in _NAMES:
            frame: FrameType | None = sys._getframe(1)
            while frame is not None and frame.f_globals.get("__name__") == "importlib._bootstrap":
                if frame.f_code.co_name == "_find_and_load_unlocked":  # importlib.util.find_spec may look for it
                    raise ModuleNotFoundError(f"gpunet has no module {name}: {_NAMES[name]}", name=fullname)
                frame = frame.f_back


def explain_modules() -> None:
    """Let the import of a module that other frameworks have say what to use instead."""
    if not any(isinstance(finder, _ModuleFinder) for finder in sys.meta_path):
        sys.meta_path.append(_ModuleFinder())


def not_callable(owner: object, *args: object, **kwargs: object) -> NoReturn:
    """The `__call__` of models and layers."""
    kind = type(owner).__name__
    is_model = kind == "Sequential"
    instead = "predict(x) gives probabilities" if is_model else "Sequential([...]) takes the layers in a list"
    raise TypeError(f"{kind!r} object is not callable: {instead}")


def no_attribute(owner: object, name: str) -> NoReturn:
    """The `__getattr__` of models."""
    kind = type(owner).__name__
    if name in _ATTRIBUTES:
        raise AttributeError(f"{kind} has no {name}: {_ATTRIBUTES[name]}")
    raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=owner)


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def explained(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function; a keyword that it lacks and that is known here is a TypeError that says what there is instead."""
    known = inspect.signature(function).parameters
    names = function.__qualname__.split(".")
    called = names[-2] if names[-1] == "__init__" else names[-1]

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for name in kwargs:
            if name not in known and name in _ARGUMENTS:
                raise UnknownArgumentError(f"{called}() has no argument {name}: {_ARGUMENTS[name]}")
        return function(*args, **kwargs)

    return call
