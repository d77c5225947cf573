"""The interface between a model and the engines that compute: an engine trains a whole epoch.

Conventions everywhere: float32, row-major; activations (batch, units); weights (inputs, units); bias (units,); the loss
is the mean over the batch, in nats. uint8 images are bytes: the first layer reads x / 255.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpunet import optimizers
from gpunet.engines.dropout import NO_KEY, Key
from gpunet.engines.weighted import Weighted
from gpunet.errors import ArgumentError
from gpunet.layers import Network
from gpunet.optimizers import Optimizer

Array = Any  # an array of the engine's kind: NumPy's on a CPU, the device's for CUDA engines
Progress = Callable[[int], None]  # called now and then with the number of updates done in this epoch

# Examples at a time in predict and evaluate. The compiled engine processes 8 tiles of 6 or 14 rows together: 1008 is a
# multiple of both. With a GPU's tiles of up to 128 rows, a 64th of the rows is padding.
FORWARD_ROWS = 1008


@dataclass(frozen=True)
class EpochStatistics:
    """The result of an epoch: mean loss (nats) and accuracy over its examples, each computed before its update."""

    loss: float
    accuracy: float
    updates: int
    seconds: float


@dataclass
class OptimizerState:
    """An optimizer's state: updates made so far, and for each slot one array per array of weights."""

    updates: int = 0
    slots: dict[str, list[NDArray[np.floating]]] = field(default_factory=dict)

    @classmethod
    def at_start(cls, optimizer: Optimizer, network: Network) -> OptimizerState:
        """Zeros: the state before the first update."""
        return cls(0, {slot: [np.zeros(s, np.float32) for s in network.weight_shapes] for slot in optimizer.slots})


def on_host(array: Any) -> NDArray[Any]:
    """The array as a NumPy array, copied if it is CuPy's."""
    return array if isinstance(array, np.ndarray) else array.get()


class Engine(abc.ABC):
    """Trains one network with one optimizer on one device.

    network, optimizer: what to train, and how; the optimizer's hyper-parameters are read again for every epoch.
    weights:            the initial weights, NumPy arrays in Keras' order. Copied, and cast to the engine's data type.
    """

    name: ClassVar[str]

    def __init__(self, network: Network, optimizer: Optimizer, weights: Sequence[NDArray[np.floating]]) -> None:
        self.network, self.optimizer = network, optimizers.get(optimizer)
        self._rule, self._slots = optimizer.rule, tuple(optimizer.slots)
        self._can_undo = False  # whether there is a backup of what the last `train_epoch` changed
        self._key: Key = NO_KEY  # of the present epoch
        self._allocate()
        self.weights = list(weights)

    @property
    def lost(self) -> str | None:
        """Why the engine is unusable, weights and state included; None while it works."""
        return None

    @abc.abstractmethod
    def _allocate(self) -> None:
        """Allocate weights and optimizer state; the state is zero."""

    @property
    def weights(self) -> list[NDArray[np.floating]]:
        """Copies of the weights as NumPy arrays: weights (inputs, units) and bias (units,), layer after layer."""
        return self._get_weights()

    @weights.setter
    def weights(self, weights: Sequence[NDArray[np.floating]]) -> None:
        self._require_shapes("weights", weights)
        self._set_weights(weights)

    @property
    def optimizer_state(self) -> OptimizerState:
        """A copy of the optimizer's state; with the weights, it is all that is needed to continue elsewhere."""
        return self._get_state()

    @optimizer_state.setter
    def optimizer_state(self, state: OptimizerState) -> None:
        if tuple(state.slots) != self._slots or state.updates < 0:
            raise ArgumentError(
                f"optimizer state: expected the slots {self._slots}, got {tuple(state.slots)}, updates {state.updates}"
            )
        for slot, arrays in state.slots.items():
            self._require_shapes(f"optimizer state {slot}", arrays)
        self._set_state(state)

    @abc.abstractmethod
    def _get_weights(self) -> list[NDArray[np.floating]]: ...

    @abc.abstractmethod
    def _set_weights(self, weights: Sequence[NDArray[np.floating]]) -> None: ...

    @abc.abstractmethod
    def _get_state(self) -> OptimizerState: ...

    @abc.abstractmethod
    def _set_state(self, state: OptimizerState) -> None: ...

    @abc.abstractmethod
    def _back_up(self) -> None:
        """Back up weights and optimizer state."""

    @abc.abstractmethod
    def _restore(self) -> None:
        """Restore the backup, after everything that was started has ended."""

    def upload(self, array: Any) -> Array:
        """Move the array to where this engine computes; done once, so that epochs need not move it.

        array: NumPy's, or CuPy's on the GPU, which a CUDA engine copies there; or Weighted targets.
        """
        if isinstance(array, Weighted):
            return array.moved(self._upload)
        return self._upload(array)

    def _upload(self, array: Any) -> Array:
        return on_host(array)

    def prepare(  # noqa: B027 - most engines have nothing to prepare
        self,
        images: Array,
        labels: Array,
        examples: int,
        batch_size: int,
        validation: tuple[Array, Array] | None = None,
    ) -> None:
        """Compile and allocate what such epochs need, so that the first takes no longer than the others.

        validation: images and labels that will be evaluated; what that needs is prepared too.
        Raises DeviceError if the device cannot.
        """

    def release(self) -> None:  # noqa: B027 - likewise
        """Free what was prepared and the data that it holds; weights and optimizer state stay."""

    def train_epoch(
        self,
        images: Array,
        labels: Array,
        order: NDArray[np.int32],
        batch_size: int,
        progress: Progress | None = None,
        key: Key = NO_KEY,
    ) -> EpochStatistics:
        """Make one update per `batch_size` examples of `order`; the last batch may be smaller.

        Epochs are atomic: an error or Ctrl-C rolls back weights and optimizer state.

        images:  (examples, inputs) uint8 or float32, from `upload`.
        labels:  (examples,) int32 classes, or (examples, classes) float32 probabilities; or Weighted ones. From
                 `upload`.
        order:   indices of examples, in the order of training.
        key:     of the epoch's random numbers, which decide what Dropout drops.
        Raises:  TrainingDivergedError if a batch's loss is not finite.
        """
        self.keep_epoch()
        self.optimizer.check()
        if self.optimizer.rule != self._rule:
            raise ArgumentError(
                f"optimizer: its rule was {self._rule} at the start and is now {self.optimizer.rule} (momentum or "
                "nesterov was switched on or off); call compile again"
            )
        self._key = key
        self._back_up()
        self._can_undo = True
        try:
            return self._train_epoch(images, labels, order, batch_size, progress or (lambda updates: None))
        except BaseException:
            self.undo_epoch()
            raise

    def undo_epoch(self) -> None:
        """Restore weights and optimizer state from before the last `train_epoch`.

        Does nothing if they are restored already, and completes what Ctrl-C left in the middle.
        """
        if self._can_undo and self.lost is None:
            self._restore()
            self._can_undo = False

    def keep_epoch(self) -> None:
        """From here on there is nothing to undo, until the next `train_epoch`."""
        self._can_undo = False

    def _require_shapes(self, name: str, arrays: Sequence[NDArray[np.floating]]) -> None:
        shapes = [np.shape(array) for array in arrays]
        if shapes != self.network.weight_shapes:
            raise ArgumentError(f"{name}: expected arrays of shapes {self.network.weight_shapes}, got {shapes}")

    @abc.abstractmethod
    def _train_epoch(
        self, images: Array, labels: Array, order: NDArray[np.int32], batch_size: int, progress: Progress
    ) -> EpochStatistics: ...

    @abc.abstractmethod
    def predict(self, images: Array) -> NDArray[np.floating]:
        """Probabilities (examples, classes) for images as in `train_epoch`."""

    @abc.abstractmethod
    def evaluate(self, images: Array, labels: Array) -> tuple[float, float]:
        """Mean loss (nats) and accuracy over all examples, for images and labels as in `train_epoch`.

        Weights of examples only affect the loss.
        """
