"""The tiled CUDA engine: one launch per fused operation, any size of network and batch, every GPU from sm_52 on.

An update: dense_forward for every layer but the last, dense_output for the last, then dense_backward_update layer by
layer (a layer's backward pass beside the update of the layer above), and dense_update_pair for the first two layers.
With three layers that is 5 launches. The update counter lives on the device (see kernels/batch.cuh), so the launches
are the same for every update; on a GPU they are captured once as CUDA graphs. Between the first and the last update of
an epoch nothing is allocated, copied or waited for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gpunet.engines.base import Progress
from gpunet.engines.cuda.configuration import padded
from gpunet.engines.cuda.device import Array, Device, Graph, Kernels
from gpunet.engines.cuda.engine import CudaEngine, EpochData
from gpunet.engines.cuda.tiled_launches import NO_DROPOUT, Batches, DeviceLayer, Dropout, Launches
from gpunet.engines.cuda.tiled_plan import OUTPUT_CLASSES
from gpunet.engines.dropout import NO_KEY, Key
from gpunet.optimizers import Optimizer

GRAPH_UPDATES = 20  # the most that a captured graph holds; starting a graph costs about as much as one launch


class TiledEngine(CudaEngine):
    """See Engine. device: where to run."""

    name: ClassVar[str] = "tiled"
    graph = True  # whether to capture updates; off for debugging, before anything is prepared

    def _make_epoch(self, data: EpochData) -> _Epoch:
        return _Epoch(self.device, self._layers, self.optimizer, data, self.graph)

    def each_launch(
        self, images: Array, labels: Array, order: NDArray[np.int32], batch_size: int
    ) -> list[tuple[str, Callable[[], None]]]:
        """The launches of an epoch's first update one by one, with their kernels' names; for timing.

        The update has already run once, so every launch finds its input; each launch may be repeated.
        """
        self.prepare(images, labels, len(order), batch_size)
        epoch: _Epoch = self._epoch
        return epoch.each_launch(order, self.optimizer)


class _Epoch:
    """The launches of epochs over the same examples with the same batch size."""

    def __init__(
        self, device: Device, layers: Sequence[DeviceLayer], optimizer: Optimizer, data: EpochData, use_graph: bool
    ) -> None:
        self._device, self.data, self._use_graph = device, data, use_graph
        self._cursors = device.zeros(2, np.int32)
        self._batches = Batches(data.order, True, self._cursors, data.batch_size, data.examples)
        self._launches = Launches(device)
        self._add_launches(layers, optimizer.rule)
        self._graphs: dict[int, Graph] = {}

    def kernels(self) -> Kernels:
        """What `make_ready` will compile if that has not been done yet."""
        return self._launches.kernels()

    def make_ready(self) -> None:
        self._launches.make_ready()
        if self._use_graph:
            self._graphs = self._captured()

    def load(self, order: NDArray[np.int32], optimizer: Optimizer, updates_before: int, key: Key = NO_KEY) -> None:
        """Copy to the device what is new in an epoch, and reset the cursors."""
        self.data.load(order, optimizer, updates_before, key)
        self._device.write(self._cursors, np.zeros(2, np.int32))

    def run(self, progress: Progress) -> None:
        """Start every update of the epoch; returns before the last has run."""
        for first in range(0, self.data.updates, GRAPH_UPDATES):
            updates = min(GRAPH_UPDATES, self.data.updates - first)
            if updates in self._graphs:
                self._graphs[updates].launch()
            else:
                self._run_updates(updates)
            progress(first + updates)

    def each_launch(self, order: NDArray[np.int32], optimizer: Optimizer) -> list[tuple[str, Callable[[], None]]]:
        """See TiledEngine.each_launch."""
        self.load(order, optimizer, updates_before=0)
        self._launches.run()
        self.load(order, optimizer, updates_before=0)  # the cursors are at the first update again
        return self._launches.each()

    def _captured(self) -> dict[int, Graph]:
        """Graphs by their number of updates: GRAPH_UPDATES, and what remains at the end of an epoch."""
        lengths = {min(GRAPH_UPDATES, self.data.updates), self.data.updates % GRAPH_UPDATES} - {0}
        return {length: self._device.capture(functools.partial(self._run_updates, length)) for length in lengths}

    def _run_updates(self, updates: int) -> None:
        for _ in range(updates):
            self._launches.run()

    def _dropout(self, layer: int) -> Dropout:
        return (self.data.drops, layer) if layer in self.data.dropped else NO_DROPOUT

    def _add_launches(self, layers: Sequence[DeviceLayer], optimizer: str) -> None:
        """Add the launches of one update, in the order that the module docstring gives."""
        batches, rows = self._batches, self._batches.batch_size
        outputs = [self._device.zeros((rows, padded(layer.units)), np.float32) for layer in layers]
        gradients = [self._device.zeros((rows, padded(layer.units)), np.float32) for layer in layers]
        inputs, constants = [self.data.images, *outputs[:-1]], self.data.constants
        for number, layer in enumerate(layers[:-1]):
            self._launches.dense_forward(
                layer, inputs[number], outputs[number], batches, number == 0, self._dropout(number)
            )
        self._add_output(layers, inputs, outputs[-1], gradients)
        for number in range(len(layers) - 2, 0, -1):
            self._launches.dense_backward_update(
                layers[number], layers[number + 1], layers[number - 1].activation, optimizer, gradients[number],
                inputs[number], gradients[number - 1], inputs[number + 1], gradients[number + 1], constants, batches,
                self._dropout(number - 1),
            )  # fmt: skip
        if len(layers) > 1:
            self._launches.dense_update_pair(
                layers[0], layers[1], optimizer, inputs[0], gradients[0], inputs[1], gradients[1], constants, batches
            )
        else:
            self._launches.dense_update(
                layers[0], optimizer, inputs[0], gradients[0], constants, batches, gather=True, last_of_update=True
            )

    def _add_output(
        self, layers: Sequence[DeviceLayer], inputs: Sequence[Array], logits: Array, gradients: Sequence[Array]
    ) -> None:
        """Add the launches of the last layer, up to the gradient of the layer before."""
        update, batches, data, layer = self._launches, self._batches, self.data, layers[-1]
        first = len(layers) == 1
        before = "linear" if first else layers[-2].activation
        dropout = NO_DROPOUT if first else self._dropout(len(layers) - 2)
        if layer.units <= OUTPUT_CLASSES and not dropout:
            update.dense_output(
                layer, before, inputs[-1], data.labels, gradients[-1], gradients[-1 if first else -2],
                data.losses, data.correct, batches, first_layer=first,
            )  # fmt: skip
            return
        update.dense_forward(layer, inputs[-1], logits, batches, gather=first)
        update.softmax_cross_entropy(
            logits, data.labels, gradients[-1], data.losses, data.correct, layer.units, batches
        )
        if not first:
            update.dense_backward(layer, before, gradients[-1], inputs[-1], gradients[-2], batches, dropout)
