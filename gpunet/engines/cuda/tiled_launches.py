"""Sequences of launches of the tiled engine's kernels: plans bound to arrays on a device.

Each method adds one operation. The comments in the kernels say what they read and write.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpunet.engines.cuda import tiled_plan
from gpunet.engines.cuda.configuration import Launch
from gpunet.engines.cuda.device import Array, Defines, Device, Module
from gpunet.engines.weighted import Weighted, without_weights


@dataclass
class DeviceLayer:
    """A layer's sizes and its arrays on the device.

    activation: as the kernels see it: "linear" for the output layer, whose softmax is part of the loss.
    weights:    (inputs + 1, padded(units)); the last row is the bias, zeros if the layer has none.
    state:      (slots, inputs + 1, padded(units)), the optimizer's.
    twice_l2:   twice the factor of the penalty on the weights (kernels/optimizer.cuh).
    """

    inputs: int
    units: int
    activation: str
    weights: Array
    state: Array
    bias: bool = True
    twice_l2: float = 0.0


@dataclass
class Batches:
    """What kernels know about the batches of an epoch.

    order:      (examples,) int32, in which examples are gathered; with `gather` False, rows are taken in place.
    cursors:    (2,) int32; see kernels/batch.cuh.
    batch_size: rows of a batch, for which launches are planned; the last batch may have fewer.
    """

    order: Array
    gather: bool
    cursors: Array
    batch_size: int
    examples: int


Dropout = tuple[()] | tuple[Array, int]  # for a layer with dropout: `drops` (kernels/dropout.cuh) and its number there
NO_DROPOUT: Dropout = ()


class Launches:
    """Launches in a fixed order, to be run repeatedly; owns the workspace that the blocks of a split share."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._launches: list[tuple[Launch, list[Array | np.generic]]] = []
        self._modules: list[Module] = []  # one for each launch, once ready
        self._partials: Array = None
        self._arrivals: Array = None

    def __len__(self) -> int:
        return len(self._launches)

    def run(self) -> None:
        """Start them all; returns before they have run."""
        if not self._modules:
            self.make_ready()
        for module, (launch, arguments) in zip(self._modules, self._launches, strict=True):
            self._start(module, launch, arguments)

    def _start(self, module: Module, launch: Launch, arguments: list[Array | np.generic]) -> None:
        workspace = (self._partials, self._arrivals) if launch.configuration.tile else ()
        module.launch(
            launch.configuration.kernel, launch.grid, (launch.configuration.threads,), [*arguments, *workspace]
        )

    def each(self) -> list[tuple[str, Callable[[], None]]]:
        """Every launch by itself, with its kernel's name; for timing."""
        return [
            (launch.configuration.kernel, functools.partial(self._start, module, launch, arguments))
            for module, (launch, arguments) in zip(self._modules, self._launches, strict=True)
        ]

    def kernels(self) -> list[tuple[str, Defines]]:
        """What `make_ready` will compile if that has not been done yet."""
        configurations = [launch.configuration for launch, _ in self._launches]
        return [(configuration.kernel, dict(configuration.defines)) for configuration in configurations]

    def make_ready(self) -> None:
        """Compile, and allocate what the launches share. The first run calls this if nobody has."""
        self.device.compile_all(self.kernels())
        self._modules = [self.device.compile(name, defines) for name, defines in self.kernels()]
        launches = [launch for launch, _ in self._launches]
        self._partials = self.device.empty(max(1, *(launch.shared_numbers for launch in launches)), np.float32)
        self._arrivals = self.device.zeros(max(1, *(launch.tiles for launch in launches)), np.uint32)

    def _add(self, launch: Launch, *arguments: Array | np.generic | int | bool) -> None:
        scalars = [np.int32(value) if isinstance(value, int) else value for value in arguments]
        self._launches.append((launch, scalars))

    def dense_forward(
        self, layer: DeviceLayer, x: Array, y: Array, batches: Batches, gather: bool, dropout: Dropout = NO_DROPOUT
    ) -> None:
        """y (batch, units) from x: all images if `gather`, else the layer's input for the batch."""
        launch = tiled_plan.dense_forward(
            x.dtype == np.uint8, layer.activation, batches.batch_size, layer.inputs, layer.units, self.device,
            bool(dropout),
        )  # fmt: skip
        self._add(
            launch, x, batches.order, gather, batches.cursors, batches.batch_size, batches.examples,
            layer.weights, y, *dropout, layer.inputs, layer.units,
        )  # fmt: skip

    def softmax_cross_entropy(
        self, logits: Array, targets: Array, dz: Array, losses: Array, correct: Array, classes: int, batches: Batches
    ) -> None:
        """losses and correct (examples,), and dz (batch, classes) of the mean loss. targets: may be Weighted."""
        weights = (targets.weights,) if isinstance(targets, Weighted) else ()
        launch = tiled_plan.softmax_cross_entropy(targets.dtype == np.int32, batches.batch_size, bool(weights))
        self._add(
            launch, logits, without_weights(targets), *weights, batches.order, batches.gather, batches.cursors,
            batches.batch_size, batches.examples, classes, dz, losses, correct,
        )  # fmt: skip

    def dense_output(
        self, layer: DeviceLayer, activation: str, x: Array, targets: Array, dz: Array, dz_previous: Array,
        losses: Array, correct: Array, batches: Batches, first_layer: bool,
    ) -> None:  # fmt: skip
        """Everything for a small output layer except its step: losses and correct (examples,), dz (batch, classes) of
        the mean loss and, unless it is the first layer, dz_previous (batch, inputs). activation: the previous layer's.
        """
        weights = (targets.weights,) if isinstance(targets, Weighted) else ()
        launch = tiled_plan.dense_output(
            x.dtype == np.uint8, activation, targets.dtype == np.int32, batches.batch_size, bool(weights)
        )
        self._add(
            launch, x, batches.order, batches.gather, first_layer, batches.cursors, batches.batch_size,
            batches.examples, layer.weights, layer.inputs, layer.units, without_weights(targets), *weights, dz,
            losses, correct, dz_previous,
        )  # fmt: skip

    def dense_backward(
        self,
        layer: DeviceLayer,
        activation: str,
        dz: Array,
        y_previous: Array,
        dz_previous: Array,
        batches: Batches,
        dropout: Dropout = NO_DROPOUT,
    ) -> None:
        """dz_previous (batch, inputs) from dz (batch, units). activation, dropout: the previous layer's."""
        launch = tiled_plan.dense_backward(
            activation, batches.batch_size, layer.inputs, layer.units, self.device, bool(dropout)
        )
        self._add(
            launch, dz, layer.weights, y_previous, dz_previous, batches.cursors, batches.batch_size,
            batches.examples, *dropout, layer.inputs, layer.units,
        )  # fmt: skip

    def dense_update(
        self,
        layer: DeviceLayer,
        rule: str,
        x: Array,
        dz: Array,
        constants: Array,
        batches: Batches,
        gather: bool,
        last_of_update: bool,
    ) -> None:
        """One optimizer step of the layer's weights; constants: see kernels/optimizer.cuh."""
        penalty = _penalties(layer)
        launch = tiled_plan.dense_update(
            x.dtype == np.uint8,
            rule,
            batches.batch_size,
            layer.inputs,
            layer.units,
            self.device,
            layer.bias,
            bool(penalty),
        )
        self._add(
            launch, x, batches.order, gather, dz, batches.cursors, batches.batch_size, batches.examples,
            last_of_update, layer.weights, layer.state, constants, *penalty, layer.inputs, layer.units,
        )  # fmt: skip

    def dense_backward_update(
        self, layer: DeviceLayer, upper: DeviceLayer, activation: str, rule: str, dz: Array, y_previous: Array,
        dz_previous: Array, y: Array, upper_dz: Array, constants: Array, batches: Batches,
        dropout: Dropout = NO_DROPOUT,
    ) -> None:  # fmt: skip
        """dense_backward of a layer, and dense_update of the layer above it, which reads y.

        One launch; two if the plan says so or the previous layer has dropout.
        """
        launch = tiled_plan.dense_backward_update(
            activation, rule, batches.batch_size, (layer.inputs, layer.units, upper.units), self.device, upper.bias,
            bool(upper.twice_l2),
        )  # fmt: skip
        if launch is None or dropout:
            self.dense_backward(layer, activation, dz, y_previous, dz_previous, batches, dropout)
            self.dense_update(upper, rule, y, upper_dz, constants, batches, gather=False, last_of_update=False)
            return
        backward, update = launch.counts
        self._add(
            launch, dz, layer.weights, y_previous, dz_previous, layer.inputs, layer.units, *backward,
            y, upper_dz, upper.weights, upper.state, upper.units, *update,
            batches.cursors, batches.batch_size, batches.examples, constants, *_penalties(upper),
        )  # fmt: skip

    def dense_update_pair(
        self, layer: DeviceLayer, second: DeviceLayer, rule: str, x: Array, dz: Array, y: Array, second_dz: Array,
        constants: Array, batches: Batches,
    ) -> None:  # fmt: skip
        """dense_update of the first two layers; ends an update. The first layer reads all images, the second reads y.

        One launch; two if the plan says so or only one layer has biases.
        """
        launch = tiled_plan.dense_update_pair(
            x.dtype == np.uint8, rule, batches.batch_size, (layer.inputs, layer.units, second.units), self.device,
            layer.bias, bool(_penalties(layer, second)),
        )  # fmt: skip
        if launch is None or layer.bias != second.bias:
            self.dense_update(second, rule, y, second_dz, constants, batches, gather=False, last_of_update=False)
            self.dense_update(layer, rule, x, dz, constants, batches, gather=batches.gather, last_of_update=True)
            return
        of_first, of_second = launch.counts
        self._add(
            launch, x, batches.order, batches.gather, dz, layer.weights, layer.state, layer.inputs, layer.units,
            *of_first, y, second_dz, second.weights, second.state, second.units, *of_second,
            batches.cursors, batches.batch_size, batches.examples, constants, *_penalties(layer, second),
        )  # fmt: skip


def _penalties(*layers: DeviceLayer) -> list[np.float32]:
    """A kernel's arguments for the layers' penalties: none if no layer has one."""
    return [np.float32(layer.twice_l2) for layer in layers] if any(layer.twice_l2 for layer in layers) else []
