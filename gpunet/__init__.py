"""gpunet trains small fully connected networks at the speed of the GPU, with its own CUDA kernels.

    from gpunet import Dense, Sequential, load_mnist

    (x_train, y_train), (x_val, y_val), (x_test, y_test) = load_mnist()
    model = Sequential([Dense(500, "sigmoid", input_dim=784), Dense(500, "sigmoid"), Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x_train, y_train, batch_size=100, epochs=20, validation_data=(x_val, y_val))

Importing it needs no GPU and imports no CuPy.
"""

# ruff: noqa: E402 - nothing may be imported before Ctrl-C is taken care of
from gpunet import starting

starting.catch_interrupts()

from typing import TYPE_CHECKING

from gpunet._version import __version__
from gpunet.arrays import to_categorical
from gpunet.callbacks import Callback, History
from gpunet.data import Dataset, Examples, load_mnist
from gpunet.data import load as load_data
from gpunet.errors import (
    ArgumentError,
    DataError,
    DeviceError,
    GpunetError,
    ModelFileError,
    NotCompiledError,
    OutputError,
    TrainingDivergedError,
)
from gpunet.keras_names import attributes_of, explain_modules
from gpunet.layers import Activation, Dense, Dropout, Flatten, Input, Network
from gpunet.many import fit_many
from gpunet.model import Sequential, load
from gpunet.model import load as load_model
from gpunet.normalization import Normalization
from gpunet.optimizers import SGD, Adam, AdamW
from gpunet.regularizers import L2

__all__ = [
    "L2",
    "SGD",
    "Activation",
    "Adam",
    "AdamW",
    "ArgumentError",
    "Callback",
    "DataError",
    "Dataset",
    "Dense",
    "DeviceError",
    "Dropout",
    "Examples",
    "Flatten",
    "GpunetError",
    "History",
    "Input",
    "ModelFileError",
    "Network",
    "Normalization",
    "NotCompiledError",
    "OutputError",
    "Sequential",
    "TrainingDivergedError",
    "__version__",
    "fit_many",
    "load",
    "load_data",
    "load_mnist",
    "load_model",
    "to_categorical",
]

explain_modules()
if not TYPE_CHECKING:  # for which it would be any name
    __getattr__ = attributes_of(__name__)
