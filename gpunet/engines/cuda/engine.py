"""What the CUDA engines share: weights and optimizer state on a device, forward passes, and an epoch's data.

On the device, the rows of a matrix are padded to a multiple of 4 (kernels/matrix.cuh), and a layer's bias is the last
row of its weights. One array holds the weights of all layers, layer by layer; another holds the optimizer's slots.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gpunet.engines import dropout
from gpunet.engines.base import Engine, EpochStatistics, OptimizerState, Progress
from gpunet.engines.cuda.configuration import padded
from gpunet.engines.cuda.device import Array, Device, Kernels
from gpunet.engines.cuda.forward import Evaluation, Outcomes, Prediction
from gpunet.engines.cuda.tiled_launches import DeviceLayer
from gpunet.engines.dropout import NO_KEY, Key
from gpunet.engines.reference import softmax
from gpunet.errors import TrainingDivergedError
from gpunet.layers import Network
from gpunet.optimizers import Optimizer


class Epoch(Protocol):
    """Trains epochs over the same examples with the same batch size."""

    data: EpochData

    def kernels(self) -> Kernels:
        """What `make_ready` will compile, unless it is compiled already."""

    def make_ready(self) -> None:
        """Compile, and do what needs the compiled kernels. Raises DeviceError if the device cannot."""

    def load(self, order: NDArray[np.int32], optimizer: Optimizer, updates_before: int, key: Key = NO_KEY) -> None:
        """Give the device the data of a new epoch."""

    def run(self, progress: Progress) -> None:
        """Start every update of the epoch; may return before the last one has run."""


class CudaEngine(Engine):
    """See Engine. device: where to run."""

    def __init__(
        self, network: Network, optimizer: Optimizer, weights: Sequence[NDArray[np.floating]], device: Device
    ) -> None:
        self.device = device
        self._epoch: Any = None  # an Epoch, once one was prepared
        self._evaluation: Evaluation | None = None  # likewise
        super().__init__(network, optimizer, weights)

    @property
    def lost(self) -> str | None:
        return self.device.lost

    def _allocate(self) -> None:
        slots = max(1, len(self._slots))
        sizes = [(inputs + 1) * padded(units) for inputs, units in self.network.sizes]
        self._all_weights = self.device.zeros(sum(sizes), np.float32)
        self._all_slots = self.device.zeros(slots * sum(sizes), np.float32)
        self._ends = np.cumsum(sizes)  # of each layer's weights, in the array of all weights
        self._layers, first = [], 0
        network = self.network
        penalties = network.twice_l2 or [0.0] * network.layers
        rows = zip(network.sizes, network.functions, network.biases, penalties, sizes, strict=True)
        for (inputs, units), activation, bias, twice_l2, size in rows:
            weights = self._all_weights[first : first + size]
            state = self._all_slots[slots * first : slots * (first + size)]
            self._layers.append(DeviceLayer(inputs, units, activation, weights, state, bias, twice_l2))
            first += size
        self._made_updates = self._made_updates_before = 0
        self._backups = [
            (array, self.device.empty(array.shape, array.dtype)) for array in (self._all_weights, self._all_slots)
        ]

    def _get_weights(self) -> list[NDArray[np.floating]]:
        values = np.split(self.device.download(self._all_weights), self._ends[:-1])
        return [part for layer, of_layer in zip(self._layers, values, strict=True) for part in _split(layer, of_layer)]

    def _set_weights(self, weights: Sequence[NDArray[np.floating]]) -> None:
        for layer, matrix, bias in zip(self._layers, weights[::2], weights[1::2], strict=True):
            self.device.write(layer.weights, join(matrix, bias))

    def _get_state(self) -> OptimizerState:
        state = OptimizerState(self._made_updates, {slot: [] for slot in self._slots})
        if not self._slots:
            return state
        values = np.split(self.device.download(self._all_slots), len(self._slots) * self._ends[:-1])
        for layer, of_layer in zip(self._layers, values, strict=True):
            for slot, part in zip(self._slots, np.split(of_layer, len(self._slots)), strict=True):
                state.slots[slot] += _split(layer, part)
        return state

    def _set_state(self, state: OptimizerState) -> None:
        for number, layer in enumerate(self._layers):
            arrays = [state.slots[slot][2 * number : 2 * number + 2] for slot in self._slots]
            if arrays:
                self.device.write(layer.state, np.concatenate([join(matrix, bias) for matrix, bias in arrays]))
        self._made_updates = state.updates

    def _back_up(self) -> None:
        for array, backup in self._backups:
            self.device.copy(array, backup)
        self._made_updates_before = self._made_updates

    def _restore(self) -> None:
        for array, backup in self._backups:  # runs on the device after everything that was started
            self.device.copy(backup, array)
        self.device.synchronize()
        self._made_updates = self._made_updates_before

    def _upload(self, array: Any) -> Array:
        if isinstance(array, np.ndarray):
            return self.device.upload(pad_columns(array))
        if array.ndim == 2 and array.shape[1] != padded(array.shape[1]):
            return self._upload(array.get())  # CuPy would have to compile a kernel to copy row by row
        return self.device.adopt(array)

    @abc.abstractmethod
    def _make_epoch(self, data: EpochData) -> Epoch:
        """Plan and allocate what epochs over these examples need. Raises DeviceError if the device cannot."""

    def prepare(
        self,
        images: Array,
        labels: Array,
        examples: int,
        batch_size: int,
        validation: tuple[Array, Array] | None = None,
    ) -> None:
        epoch = evaluation = None
        if self._epoch is None or not self._epoch.data.serves(images, labels, examples, batch_size):
            self._epoch = None  # frees its memory before the next one takes some
            data = EpochData(self.device, self.network, images, labels, examples, batch_size, self.optimizer)
            epoch = self._make_epoch(data)
        if validation is not None and (self._evaluation is None or not self._evaluation.serves(*validation)):
            self._evaluation = None
            evaluation = Evaluation(self.device, self._layers, *validation)
        new = [part for part in (epoch, evaluation) if part is not None]
        self.device.compile_all([kernel for part in new for kernel in part.kernels()])
        for part in new:
            part.make_ready()
        self._epoch, self._evaluation = epoch or self._epoch, evaluation or self._evaluation

    def _train_epoch(
        self, images: Array, labels: Array, order: NDArray[np.int32], batch_size: int, progress: Progress
    ) -> EpochStatistics:
        self.prepare(images, labels, len(order), batch_size)
        self.device.synchronize()
        started = time.perf_counter()
        self._epoch.load(order, self.optimizer, self._made_updates, self._key)
        self._epoch.run(progress)
        statistics: EpochStatistics = self._epoch.data.statistics(started)
        self._made_updates += statistics.updates
        return statistics

    def release(self) -> None:
        self._epoch = self._evaluation = None

    def predict(self, images: Array) -> NDArray[np.floating]:
        return softmax(Prediction(self.device, self._layers, images).run())

    def evaluate(self, images: Array, labels: Array) -> tuple[float, float]:
        if self._evaluation is not None and self._evaluation.serves(images, labels):
            return self._evaluation.run()
        return Evaluation(self.device, self._layers, images, labels).run()


class EpochData:
    """What kernels read and write during an epoch, besides images and targets.

    order:     (examples,) int32.
    constants: (updates, padded(n)) float32, the optimizer's constants for each update.
    drops:     (1 + layers, 4) uint32, what dropout needs (kernels/dropout.cuh); None if the network has none.
    losses, correct: (examples,) float32 and uint8, for each example of the last epoch, in that epoch's order.
    """

    def __init__(
        self,
        device: Device,
        network: Network,
        images: Array,
        labels: Array,
        examples: int,
        batch_size: int,
        optimizer: Optimizer,
    ) -> None:
        self._network = network
        self.drops = device.zeros((1 + network.layers, dropout.NUMBERS), np.uint32) if network.dropout else None
        self._device, self.images, self.labels = device, images, labels
        self.examples, self.batch_size, self.updates = examples, batch_size, -(-examples // batch_size)
        self.order = device.empty(examples, np.int32)
        numbers = optimizer.constants(np.ones(1, np.int64)).shape[1]
        self.constants = device.empty((self.updates, padded(numbers)), np.float32)
        self._outcomes = Outcomes(device, examples)
        self.losses, self.correct = self._outcomes.losses, self._outcomes.correct

    @property
    def dropped(self) -> list[int]:
        """The layers with dropout, by number."""
        return [layer for layer, rate in enumerate(self._network.dropout) if rate]

    def serves(self, images: Array, labels: Array, examples: int, batch_size: int) -> bool:
        """Whether an epoch over these arrays can use this object."""
        same_arrays = self.images is images and self.labels is labels
        return same_arrays and (self.examples, self.batch_size) == (examples, batch_size)

    def load(self, order: NDArray[np.int32], optimizer: Optimizer, updates_before: int, key: Key = NO_KEY) -> None:
        """Give the device the data of a new epoch: the order and the optimizer's constants."""
        self._device.write(self.order, order)
        constants = optimizer.constants(updates_before + 1 + np.arange(self.updates))
        self._device.write(self.constants, pad_columns(constants))
        if self.drops is not None:
            self._device.write(self.drops, dropout.table(self._network, key))

    def statistics(self, started: float) -> EpochStatistics:
        """Wait for the end of the epoch. started: time.perf_counter() at its start.

        Raises TrainingDivergedError if a batch's loss is not finite.
        """
        losses, correct = self._outcomes.download()
        seconds = time.perf_counter() - started
        finite = np.isfinite(losses)
        if not finite.all():
            raise TrainingDivergedError(int(finite.argmin()) // self.batch_size + 1)
        return EpochStatistics(float(losses.mean(dtype=np.float64)), float(correct.mean()), self.updates, seconds)


def pad_columns(array: NDArray[Any]) -> NDArray[Any]:
    """A matrix with its rows padded by zeros to a multiple of 4 columns; a vector unchanged."""
    if array.ndim == 1 or array.shape[1] == padded(array.shape[1]):
        return array
    wide = np.zeros((len(array), padded(array.shape[1])), array.dtype)
    wide[:, : array.shape[1]] = array
    return wide


def join(matrix: NDArray[np.floating], bias: NDArray[np.floating]) -> NDArray[np.float32]:
    """Weights and bias in the device's layout."""
    return pad_columns(np.vstack([matrix, bias]).astype(np.float32)).ravel()


def _split(layer: DeviceLayer, values: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """The reverse of `join`."""
    values = values.reshape(layer.inputs + 1, padded(layer.units))
    return [values[: layer.inputs, : layer.units].copy(), values[layer.inputs, : layer.units].copy()]
