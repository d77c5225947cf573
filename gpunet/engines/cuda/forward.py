"""Forward passes of the CUDA engines over all examples of an array: launches that are prepared once and run one after
another, with one download at the end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpunet.engines.base import FORWARD_ROWS
from gpunet.engines.cuda.configuration import padded
from gpunet.engines.cuda.device import Array, Device, Kernels
from gpunet.engines.cuda.tiled_launches import Batches, DeviceLayer, Launches


class Outcomes:
    """Each example's loss and whether it is correct, adjacent in memory, so that one download gets both.

    losses: (examples,) float32, in nats. correct: (examples,) uint8, 1 where the most probable class is the target's.
    """

    def __init__(self, device: Device, examples: int) -> None:
        self._device, self._losses_bytes = device, 4 * examples
        self._memory = device.empty(5 * examples, np.uint8)
        self.losses: Array = self._memory[: self._losses_bytes].view(np.float32)
        self.correct: Array = self._memory[self._losses_bytes :]

    def download(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """(losses, correct), after all earlier work is done."""
        values = self._device.download(self._memory)
        return values[: self._losses_bytes].view(np.float32), values[self._losses_bytes :]


class _Pass:
    """The layers' launches over all examples, FORWARD_ROWS at a time, with one array of activations per layer.

    Once it is ready, nothing is compiled or allocated when it runs. The first run makes it ready, if `make_ready` was
    not called before.
    """

    def __init__(self, device: Device, layers: Sequence[DeviceLayer], images: Array) -> None:
        self.images, self._device, self._layers = images, device, layers
        self._rows = min(FORWARD_ROWS, len(images))
        self._launches = Launches(device)
        self._hidden = [self._activations(layer.units) for layer in layers[:-1]]
        self._cursors, self._no_order = device.zeros(2, np.int32), device.zeros(1, np.int32)

    def kernels(self) -> Kernels:
        """What `make_ready` will compile, unless it is compiled already."""
        return self._launches.kernels()

    def make_ready(self) -> None:
        self._launches.make_ready()

    def _activations(self, units: int) -> Array:
        return self._device.zeros((self._rows, padded(units)), np.float32)

    def _batches(self) -> list[tuple[slice, Batches]]:
        """Slices of the examples, and what kernels know of each; the last batch may be smaller."""
        starts = range(0, len(self.images), self._rows)
        ends = [min(first + self._rows, len(self.images)) for first in starts]
        return [
            (slice(first, end), Batches(self._no_order, False, self._cursors, self._rows, end - first))
            for first, end in zip(starts, ends, strict=True)
        ]

    def _add_layers(self, where: slice, batches: Batches, logits: Array) -> None:
        inputs = [self.images[where], *self._hidden]
        for layer, x, y in zip(self._layers, inputs, [*self._hidden, logits], strict=True):
            self._launches.dense_forward(layer, x, y, batches, gather=False)


class Prediction(_Pass):
    """The logits of all images."""

    def __init__(self, device: Device, layers: Sequence[DeviceLayer], images: Array) -> None:
        super().__init__(device, layers, images)
        self._logits = device.empty((len(images), padded(layers[-1].units)), np.float32)
        for where, batches in self._batches():
            self._add_layers(where, batches, self._logits[where])

    def run(self) -> NDArray[np.float32]:
        """(examples, classes)."""
        self._launches.run()
        return self._device.download(self._logits)[:, : self._layers[-1].units]


class Evaluation(_Pass):
    """The loss and accuracy over all images. labels: as in Engine.evaluate."""

    def __init__(self, device: Device, layers: Sequence[DeviceLayer], images: Array, labels: Array) -> None:
        super().__init__(device, layers, images)
        self.labels, self._outcomes = labels, Outcomes(device, len(images))
        classes = layers[-1].units
        logits, dz = self._activations(classes), self._activations(classes)
        for where, batches in self._batches():
            self._add_layers(where, batches, logits)
            losses, correct = self._outcomes.losses[where], self._outcomes.correct[where]
            self._launches.softmax_cross_entropy(logits, labels[where], dz, losses, correct, classes, batches)

    def run(self) -> tuple[float, float]:
        """Mean loss and accuracy."""
        self._launches.run()
        losses, correct = self._outcomes.download()
        return float(losses.mean(dtype=np.float64)), float(correct.mean())

    def serves(self, images: Array, labels: Array) -> bool:
        """Whether it was made for these arrays."""
        return self.images is images and self.labels is labels
