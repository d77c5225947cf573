"""Hooks around epochs, with Keras' names and arguments. There are none per batch: an engine may run an epoch as one
launch.

If a callback monitors a quantity that is missing, it raises an error; Keras warns and continues.
"""

from typing import TYPE_CHECKING

from gpunet.callbacks.base import Callback, Logs
from gpunet.callbacks.csv_logger import CSVLogger
from gpunet.callbacks.early_stopping import EarlyStopping
from gpunet.callbacks.history import History
from gpunet.callbacks.learning_rate import LearningRateScheduler, ReduceLROnPlateau
from gpunet.callbacks.model_checkpoint import ModelCheckpoint
from gpunet.callbacks.progress import ProgressDisplay
from gpunet.callbacks.tensorboard import TensorBoard
from gpunet.callbacks.terminate_on_nan import TerminateOnNaN
from gpunet.keras_names import attributes_of

__all__ = [
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "LearningRateScheduler",
    "Logs",
    "ModelCheckpoint",
    "ProgressDisplay",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]

if not TYPE_CHECKING:  # a type checker would accept any name
    __getattr__ = attributes_of(__name__)
