"""The tiled CUDA engine: one launch per fused operation, any size of network and batch, every GPU from sm_52 on.

The way of an update: dense_forward for every layer, softmax_cross_entropy, then from the last layer to the first
dense_backward and dense_update: 9 launches for three layers. Which update it is stands on the device (see
kernels/batch.cuh), so the launches of every update are the same ones; on a GPU they are captured once as a CUDA graph.
Between the first and the last update of an epoch nothing is allocated, copied or waited for.

Matrices on the device have rows padded to a multiple of 4 (kernels/matrix.cuh). A layer's bias is the last row of its
weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gpunet.cuda.device import Array, Device, Graph
from gpunet.engines.base import Engine, EpochStatistics, OptimizerState, Progress
from gpunet.engines.reference import softmax
from gpunet.engines.tiled_launches import Batches, DeviceLayer, Launches, padded
from gpunet.errors import TrainingDivergedError
from gpunet.layers import Network
from gpunet.optimizers import Adam, Optimizer

FORWARD_ROWS = 1024  # rows of examples at a time in predict and evaluate
GRAPH_UPDATES = 20  # updates a captured graph holds; a graph's start costs about as much as one launch


class TiledEngine(Engine):
    """See Engine. device: where to run; graph: whether to capture updates, off for debugging."""

    name: ClassVar[str] = "tiled"

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        weights: Sequence[NDArray[np.floating]],
        device: Device,
        graph: bool = True,
    ) -> None:
        self.device, self._use_graph = device, graph
        self._epoch: _Epoch | None = None
        super().__init__(network, optimizer, weights)

    def _allocate(self) -> None:
        self._layers = []
        for (inputs, units), activation in zip(self.network.sizes, self.network.activations, strict=True):
            shape = (inputs + 1, padded(units))
            self._layers.append(
                DeviceLayer(
                    inputs,
                    units,
                    "linear" if activation == "softmax" else activation,
                    weights=self.device.zeros(shape, np.float32),
                    state=self.device.zeros((max(1, len(self._slots)), *shape), np.float32),
                )
            )
        self._made_updates = self._made_updates_before = 0
        arrays = [array for layer in self._layers for array in (layer.weights, layer.state)]
        self._backups = [(array, self.device.empty(array.shape, array.dtype)) for array in arrays]

    def _get_weights(self) -> list[NDArray[np.floating]]:
        return [part for layer in self._layers for part in _split(layer, self.device.download(layer.weights))]

    def _set_weights(self, weights: Sequence[NDArray[np.floating]]) -> None:
        for layer, matrix, bias in zip(self._layers, weights[::2], weights[1::2], strict=True):
            self.device.write(layer.weights, _join(matrix, bias))

    def _get_state(self) -> OptimizerState:
        state = OptimizerState(self._made_updates, {slot: [] for slot in self._slots})
        for layer in self._layers:
            for slot, values in zip(self._slots, self.device.download(layer.state), strict=False):
                state.slots[slot] += _split(layer, values)
        return state

    def _set_state(self, state: OptimizerState) -> None:
        for number, layer in enumerate(self._layers):
            arrays = [state.slots[slot][2 * number : 2 * number + 2] for slot in self._slots]
            if arrays:
                self.device.write(layer.state, np.stack([_join(matrix, bias) for matrix, bias in arrays]))
        self._made_updates = state.updates

    def _back_up(self) -> None:
        for array, backup in self._backups:
            self.device.copy(array, backup)
        self._made_updates_before = self._made_updates

    def _restore(self) -> None:
        for array, backup in self._backups:  # in the device's order: after everything that was started
            self.device.copy(backup, array)
        self.device.synchronize()
        self._made_updates = self._made_updates_before

    def place(self, array: NDArray[Any]) -> Array:
        return self.device.upload(pad_columns(array))

    def prepare(self, images: Array, labels: Array, examples: int, batch_size: int) -> None:
        if self._epoch is None or not self._epoch.serves(images, labels, examples, batch_size):
            self._epoch = None  # frees its memory before the next one takes some
            self._epoch = _Epoch(
                self.device, self._layers, self.optimizer, images, labels, examples, batch_size, self._use_graph
            )

    def _train_epoch(
        self, images: Array, labels: Array, order: NDArray[np.int32], batch_size: int, progress: Progress
    ) -> EpochStatistics:
        self.prepare(images, labels, len(order), batch_size)
        epoch = self._epoch
        assert epoch is not None
        self.device.synchronize()
        started = time.perf_counter()
        epoch.load(order, self.optimizer, self._made_updates)
        epoch.run(progress)
        losses, hits = self.device.download(epoch.losses), self.device.download(epoch.hits)
        seconds = time.perf_counter() - started
        self._made_updates += epoch.updates
        finite = np.isfinite(losses)
        if not finite.all():
            raise TrainingDivergedError(int(finite.argmin()) // batch_size + 1)
        return EpochStatistics(float(losses.mean(dtype=np.float64)), float(hits.mean()), epoch.updates, seconds)

    def each_launch(
        self, images: Array, labels: Array, order: NDArray[np.int32], batch_size: int
    ) -> list[tuple[str, Callable[[], None]]]:
        """The launches of an epoch's first update one by one, with their kernels' names; for timing.

        The update has been made once, so that every launch finds what it reads; it may be made again and again.
        """
        self.prepare(images, labels, len(order), batch_size)
        assert self._epoch is not None
        return self._epoch.each_launch(order, self.optimizer)

    def predict(self, images: Array) -> NDArray[np.floating]:
        forward = _ForwardPass(self.device, self._layers, len(images))
        return np.concatenate([softmax(forward.logits(images, first)) for first in forward.firsts])

    def evaluate(self, images: Array, labels: Array) -> tuple[float, float]:
        forward = _ForwardPass(self.device, self._layers, len(images))
        losses, hits = zip(*(forward.losses_and_hits(images, labels, first) for first in forward.firsts), strict=True)
        return float(np.concatenate(losses).mean(dtype=np.float64)), float(np.concatenate(hits).mean())


class _Epoch:
    """Everything on the device that epochs over the same examples with the same batch size share.

    losses, hits: of each example of the last epoch, in its order.
    """

    def __init__(
        self,
        device: Device,
        layers: Sequence[DeviceLayer],
        optimizer: Optimizer,
        images: Array,
        labels: Array,
        examples: int,
        batch_size: int,
        use_graph: bool,
    ) -> None:
        self._device, self._images, self._labels = device, images, labels
        self.updates = -(-examples // batch_size)
        order, self._cursors = device.empty(examples, np.int32), device.zeros(2, np.int32)
        self._batches = Batches(order, True, self._cursors, batch_size, examples)
        self._constants, self._steps = device.zeros(4, np.float32), device.empty((self.updates, 2), np.float32)
        self.losses, self.hits = device.empty(examples, np.float32), device.empty(examples, np.uint8)
        self._launches = Launches(device)
        self._add_launches(layers, _kernel_optimizer(optimizer))
        self._launches.make_room()
        self._graph: Graph | None = None
        if use_graph and self.updates >= GRAPH_UPDATES:
            self._graph = device.capture(self._run_graph_updates)

    def serves(self, images: Array, labels: Array, examples: int, batch_size: int) -> bool:
        """Whether an epoch over these arrays can use what is here."""
        same_arrays = self._images is images and self._labels is labels
        return same_arrays and (self._batches.examples, self._batches.batch_size) == (examples, batch_size)

    def load(self, order: NDArray[np.int32], optimizer: Optimizer, updates_before: int) -> None:
        """Hand the device what is new in an epoch: the order, the step sizes, and the cursors at the start."""
        self._device.write(self._batches.order, order)
        self._device.write(self._cursors, np.zeros(2, np.int32))
        steps, constants = np.zeros((self.updates, 2)), np.zeros(4)
        if isinstance(optimizer, Adam):
            steps[:, 0], steps[:, 1] = optimizer.step_sizes(updates_before + 1 + np.arange(self.updates))
            constants[:] = optimizer.beta_1, 1 - optimizer.beta_1, optimizer.beta_2, 1 - optimizer.beta_2
        else:
            steps[:, 0], constants[0] = optimizer.learning_rate, optimizer.momentum
        self._device.write(self._steps, steps.astype(np.float32))
        self._device.write(self._constants, constants.astype(np.float32))

    def run(self, progress: Progress) -> None:
        """Start every update of the epoch; returns before the last has run."""
        done = 0
        while self._graph is not None and done + GRAPH_UPDATES <= self.updates:
            self._graph.launch()
            done += GRAPH_UPDATES
            progress(done)
        while done < self.updates:
            self._launches.run()
            done += 1
            progress(done)

    def each_launch(self, order: NDArray[np.int32], optimizer: Optimizer) -> list[tuple[str, Callable[[], None]]]:
        """See TiledEngine.each_launch."""
        self.load(order, optimizer, updates_before=0)
        self._launches.run()
        self.load(order, optimizer, updates_before=0)  # the cursors stand at the first update again
        return self._launches.each()

    def _run_graph_updates(self) -> None:
        for _ in range(GRAPH_UPDATES):
            self._launches.run()

    def _add_launches(self, layers: Sequence[DeviceLayer], optimizer: str) -> None:
        """The launches of one update, in the order of kernels that the module's comment gives."""
        update, batches = self._launches, self._batches
        room = [self._device.zeros((batches.batch_size, padded(layer.units)), np.float32) for layer in layers]
        gradients = [self._device.zeros((batches.batch_size, padded(layer.units)), np.float32) for layer in layers]
        inputs = [self._images, *room[:-1]]
        for number, layer in enumerate(layers):
            update.dense_forward(layer, inputs[number], room[number], batches, gather=number == 0)
        update.softmax_cross_entropy(
            room[-1], self._labels, gradients[-1], self.losses, self.hits, layers[-1].units, batches
        )
        for number, layer in reversed(list(enumerate(layers))):
            if number > 0:
                before = layers[number - 1].activation
                update.dense_backward(layer, before, gradients[number], inputs[number], gradients[number - 1], batches)
            update.dense_update(
                layer, optimizer, inputs[number], gradients[number], self._constants, self._steps, batches,
                gather=number == 0, last_of_update=number == 0,
            )  # fmt: skip


class _ForwardPass:
    """Forward passes over many examples, FORWARD_ROWS at a time."""

    def __init__(self, device: Device, layers: Sequence[DeviceLayer], examples: int) -> None:
        self._device, self._layers = device, layers
        self._rows = min(FORWARD_ROWS, examples)
        self.firsts = range(0, examples, self._rows)
        self._outputs = [device.zeros((self._rows, padded(layer.units)), np.float32) for layer in layers]
        self._cursors, self._no_order = device.zeros(2, np.int32), device.zeros(1, np.int32)

    def logits(self, images: Array, first: int) -> NDArray[np.floating]:
        """The logits (rows, classes) of the examples from `first` on."""
        launches, batches = self._forward(images, first)
        launches.run()
        logits: NDArray[np.floating] = self._device.download(self._outputs[-1])
        return logits[: batches.examples, : self._layers[-1].units]

    def losses_and_hits(
        self, images: Array, labels: Array, first: int
    ) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
        """The loss of each example from `first` on, and 1 where the most probable class is the target's."""
        launches, batches = self._forward(images, first)
        rows, classes = batches.examples, self._layers[-1].units
        losses, hits = self._device.empty(rows, np.float32), self._device.empty(rows, np.uint8)
        dz = self._device.empty((self._rows, padded(classes)), np.float32)
        targets = labels[first : first + rows]
        launches.softmax_cross_entropy(self._outputs[-1], targets, dz, losses, hits, classes, batches)
        launches.run()
        return self._device.download(losses), self._device.download(hits)

    def _forward(self, images: Array, first: int) -> tuple[Launches, Batches]:
        launches, x = Launches(self._device), images[first : first + self._rows]
        batches = Batches(self._no_order, False, self._cursors, self._rows, len(x))
        for layer, y in zip(self._layers, self._outputs, strict=True):
            launches.dense_forward(layer, x, y, batches, gather=False)
            x = y
        return launches, batches


def _kernel_optimizer(optimizer: Optimizer) -> str:
    """The optimizer's name in kernels/optimizer.cuh."""
    if isinstance(optimizer, Adam):
        return "adam"
    return "momentum" if optimizer.momentum else "sgd"


def pad_columns(array: NDArray[Any]) -> NDArray[Any]:
    """A matrix with zeros behind every row, to a multiple of 4 columns; a vector as it is."""
    if array.ndim == 1 or array.shape[1] == padded(array.shape[1]):
        return array
    wide = np.zeros((len(array), padded(array.shape[1])), array.dtype)
    wide[:, : array.shape[1]] = array
    return wide


def _join(matrix: NDArray[np.floating], bias: NDArray[np.floating]) -> NDArray[np.float32]:
    """Weights and bias as the device keeps them."""
    return pad_columns(np.vstack([matrix, bias]).astype(np.float32))


def _split(layer: DeviceLayer, values: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    """The reverse of `_join`."""
    return [values[: layer.inputs, : layer.units].copy(), values[layer.inputs, : layer.units].copy()]
