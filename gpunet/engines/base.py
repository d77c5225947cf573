"""The seam between a model and the engines that compute: an engine trains a whole epoch.

Conventions, everywhere: float32, row-major; activations (batch, units); weights (inputs, units); bias (units,); the
loss is the mean over the batch, in nats. Images that are uint8 count as bytes: the first layer reads x / 255.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpunet.errors import ArgumentError
from gpunet.layers import Network
from gpunet.optimizers import Optimizer

Array = Any  # an array where the engine keeps its arrays: NumPy's for the reference, the device's for CUDA engines
Progress = Callable[[int], None]  # called now and then with the number of updates done in this epoch


@dataclass(frozen=True)
class EpochStatistics:
    """What an epoch reports: mean loss (nats) and accuracy over its examples, each taken before its update."""

    loss: float
    accuracy: float
    updates: int
    seconds: float

    @property
    def us_per_update(self) -> float:
        return 1e6 * self.seconds / self.updates


@dataclass
class OptimizerState:
    """Where an optimizer stands: updates made so far, and for each slot one array for each array of weights."""

    updates: int = 0
    slots: dict[str, list[NDArray[np.floating]]] = field(default_factory=dict)


class Engine(abc.ABC):
    """Trains one network with one optimizer on one device.

    network, optimizer: what to train, and how; the optimizer's numbers are read anew for every epoch.
    weights:            NumPy arrays in Keras' order, the start. Copied, and cast to the engine's data type.
    """

    name: ClassVar[str]

    def __init__(self, network: Network, optimizer: Optimizer, weights: Sequence[NDArray[np.floating]]) -> None:
        self.network, self.optimizer = network, optimizer
        self._slots = tuple(optimizer.slots)
        self._allocate()
        self.weights = list(weights)

    @abc.abstractmethod
    def _allocate(self) -> None:
        """Make room for weights and optimizer state; the state is zero."""

    @property
    @abc.abstractmethod
    def weights(self) -> list[NDArray[np.floating]]:
        """Copies of the weights as NumPy arrays: weights (inputs, units) and bias (units,), layer after layer."""

    @weights.setter
    @abc.abstractmethod
    def weights(self, weights: list[NDArray[np.floating]]) -> None: ...

    @property
    @abc.abstractmethod
    def optimizer_state(self) -> OptimizerState:
        """A copy of the optimizer's state; with the weights it is all that is needed to go on elsewhere."""

    @optimizer_state.setter
    @abc.abstractmethod
    def optimizer_state(self, state: OptimizerState) -> None: ...

    def place(self, array: NDArray[Any]) -> Array:
        """The array where this engine wants it; done once, so that epochs need not move it."""
        return array

    def train_epoch(
        self,
        images: Array,
        labels: Array,
        order: NDArray[np.int32],
        batch_size: int,
        progress: Progress | None = None,
    ) -> EpochStatistics:
        """One update for each `batch_size` examples of `order`; the last batch may be smaller.

        images:  (examples, inputs) uint8 or float32, from `place`.
        labels:  (examples,) int32 classes, or (examples, classes) float32 probabilities, from `place`.
        order:   indices of examples, in the order of training.
        Raises:  TrainingDivergedError if a batch's loss is not finite.
        """
        self.optimizer.check()
        if tuple(self.optimizer.slots) != self._slots:
            raise ArgumentError("optimizer: momentum was switched on or off after the start; call compile again")
        return self._train_epoch(images, labels, order, batch_size, progress or (lambda updates: None))

    @abc.abstractmethod
    def _train_epoch(
        self, images: Array, labels: Array, order: NDArray[np.int32], batch_size: int, progress: Progress
    ) -> EpochStatistics: ...

    @abc.abstractmethod
    def predict(self, images: Array) -> NDArray[np.floating]:
        """Probabilities (examples, classes) for images as in `train_epoch`."""

    @abc.abstractmethod
    def evaluate(self, images: Array, labels: Array) -> tuple[float, float]:
        """Mean loss (nats) and accuracy over all examples, for images and labels as in `train_epoch`."""
