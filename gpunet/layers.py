"""The parts of a network: layers with their names and sizes. The arithmetic is in the engines."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpunet import first_weights, regularizers
from gpunet.checks import require_number, require_positive_integer
from gpunet.errors import ArgumentError, shown
from gpunet.keras_names import attributes_of, explained, not_callable
from gpunet.regularizers import L2

HIDDEN_ACTIVATIONS = ("sigmoid", "softplus", "softsign", "relu", "tanh", "hard_sigmoid", "linear")
ACTIVATIONS = (*HIDDEN_ACTIVATIONS, "softmax")
MOST_UNITS = 2**24  # keeps every index within a layer's row far from overflow


@dataclass(frozen=True)
class Network:
    """The shape of a fully connected network: all that an engine needs to know about it. Hashable.

    widths:      units of the input and of every layer, such as (784, 500, 500, 10).
    activations: one name per layer, such as ("sigmoid", "sigmoid", "softmax"); only the last one is softmax.
    biases:      whether each layer has biases; all have by default. A bias is the weight of an input that is always 1.
                 For engines every layer has biases; in a layer without, that input is always 0, so its biases start
                 and stay at 0.
    l2:          for each layer, the factor of the sum of its squared weights (without biases) in the loss; empty if no
                 layer has such a penalty.
    dropout:     for each layer, the share of its units that are dropped in training (see Dropout); empty if there is
                 no dropout. 0 for the last layer.
    """

    widths: tuple[int, ...]
    activations: tuple[str, ...]
    biases: tuple[bool, ...] = ()
    l2: tuple[float, ...] = ()
    dropout: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dropout", tuple(self.dropout) if any(self.dropout) else ())
        object.__setattr__(self, "l2", tuple(self.l2) if any(self.l2) else ())
        object.__setattr__(self, "biases", tuple(self.biases) or (True,) * len(self.activations))
        if len(self.biases) != len(self.activations) or not all(isinstance(bias, bool) for bias in self.biases):
            raise ArgumentError(f"network: biases: expected True or False for each layer, got {shown(self.biases)}")
        if len(self.activations) < 1 or len(self.widths) != len(self.activations) + 1:
            raise ArgumentError(
                f"network: {len(self.widths)} widths and {len(self.activations)} activations do not fit together; "
                "expected one activation per layer and one width more"
            )
        for width in self.widths:
            if require_positive_integer("network width", width) > MOST_UNITS:
                raise ArgumentError(f"a layer has {width} inputs or units; expected at most {MOST_UNITS}")
        for activation in self.activations[:-1]:
            if activation not in HIDDEN_ACTIVATIONS:
                raise ArgumentError(
                    f"activation of a hidden layer: expected one of {', '.join(HIDDEN_ACTIVATIONS)}; "
                    f"got {shown(activation)}"
                )
        if self.l2 and len(self.l2) != len(self.activations):
            raise ArgumentError(
                f"network: {len(self.l2)} penalties for {len(self.activations)} layers; expected one each"
            )
        for penalty in self.l2:
            regularizers.checked("l2", penalty)
        for rate in self.dropout:
            _checked_rate(rate)
        if self.dropout and (len(self.dropout) != len(self.activations) or self.dropout[-1]):
            raise ArgumentError(f"network: dropout: expected a rate for each layer, 0 for the last; got {self.dropout}")
        if self.activations[-1] != "softmax":
            raise ArgumentError(
                f"the output layer needs the activation 'softmax', got {shown(self.activations[-1])}; "
                "end the model with Dense(classes, activation='softmax')"
            )

    @property
    def layers(self) -> int:
        return len(self.activations)

    @property
    def inputs(self) -> int:
        return self.widths[0]

    @property
    def classes(self) -> int:
        return self.widths[-1]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(inputs, units) of every layer."""
        return list(itertools.pairwise(self.widths))

    @property
    def functions(self) -> tuple[str, ...]:
        """The activations that the layers apply, number by number. The softmax is part of the loss, so the output layer
        is linear.
        """
        return tuple("linear" if name == "softmax" else name for name in self.activations)

    @property
    def weight_shapes(self) -> list[tuple[int, ...]]:
        """Shapes in Keras' order: weights (inputs, units) and bias (units,), layer after layer; every layer's biases,
        as engines have them.
        """
        shapes: list[tuple[int, ...]] = []
        for inputs, units in self.sizes:
            shapes += [(inputs, units), (units,)]
        return shapes

    @property
    def present(self) -> list[bool]:
        """Of which of the arrays of `weight_shapes` the network really has: all but the biases of layers without."""
        return [has for bias in self.biases for has in (True, bias)]

    @property
    def own_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the arrays that the network really has, as users and files see them."""
        return [shape for shape, present in zip(self.weight_shapes, self.present, strict=True) if present]

    @property
    def shape(self) -> Network:
        """Without what concerns training alone: networks whose shapes are equal can have each other's weights."""
        return replace(self, l2=(), dropout=())

    @property
    def twice_l2(self) -> tuple[float, ...]:
        """Of every layer what times a weight is added to its gradient, by the penalty; empty if there is none."""
        return tuple(2 * float(penalty) for penalty in self.l2)

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.own_shapes)

    def __str__(self) -> str:
        return "-".join(map(str, self.widths))


# The network of the lecture in docs/lecture.md.
LECTURE = Network((784, 500, 500, 10), ("sigmoid", "sigmoid", "softmax"))


class Preparation:
    """A layer in front of the first Dense layer, which has nothing to be trained.

    inputs: numbers of one example, if the layer knows.
    """

    inputs: int | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, {self.inputs or 'any number of'} inputs>"


class Input(Preparation):
    """The shape of one example, as Keras' `Input(shape=(784,))`."""

    if not TYPE_CHECKING:
        __call__ = not_callable

    @explained
    def __init__(self, shape: Sequence[int]) -> None:
        self.inputs = _flat_size("Input: shape", shape)


class Flatten(Preparation):
    """Keras' word for making an image a row of numbers. `fit`, `evaluate` and `predict` do so with or without it.

    input_shape: of one example, such as (28, 28); without it the model takes it from the data.
    """

    @explained
    def __init__(self, *, input_shape: Sequence[int] | None = None) -> None:
        self.inputs = None if input_shape is None else _flat_size("Flatten: input_shape", input_shape)


class Dense:
    """A fully connected layer: `units` outputs, each a weighted sum of all inputs plus a bias.

    units:       number of outputs; `output_dim` is its name in Keras in 2016.
    activation:  one of ACTIVATIONS; None is linear, and an Activation layer may follow.
    use_bias:    False for a layer without biases.
    kernel_initializer, bias_initializer: how weights and biases begin, by name (gpunet.first_weights.NAMES); `init`
                 was the first one's name in 2016.
    kernel_regularizer: the penalty on its weights: gpunet.L2(0.0001), or "l2" for Keras' L2(0.01); none if not given.
    input_dim:   number of inputs, for the first layer; `input_shape=(n,)` says the same. Without it the model
                 takes the number from the data.
    """

    if not TYPE_CHECKING:  # for which it could be called
        __call__ = not_callable

    @explained
    def __init__(
        self,
        units: int | None = None,
        activation: str | None = None,
        use_bias: bool = True,
        kernel_initializer: str = first_weights.GLOROT,
        bias_initializer: str = first_weights.ZEROS,
        *,
        init: str | None = None,
        input_dim: int | None = None,
        input_shape: Sequence[int] | None = None,
        output_dim: int | None = None,
        kernel_regularizer: L2 | str | None = None,
    ) -> None:
        if units is not None and output_dim is not None:
            raise ArgumentError(f"Dense: units={units!r} and output_dim={output_dim!r} mean the same; give one")
        if input_dim is not None and input_shape is not None:
            raise ArgumentError("Dense: input_dim and input_shape mean the same; give one")
        self.units = require_positive_integer("Dense: units", output_dim if units is None else units)
        self.activation = None if activation is None else _known_activation("Dense", activation)
        if not isinstance(use_bias, bool):
            raise ArgumentError(f"Dense: use_bias: expected True or False, got {shown(use_bias)}")
        self.use_bias = use_bias
        self.kernel_initializer = first_weights.get("Dense: kernel_initializer", init or kernel_initializer)
        self.bias_initializer = first_weights.get("Dense: bias_initializer", bias_initializer)
        self.kernel_regularizer = regularizers.get("Dense", kernel_regularizer)
        self.inputs: int | None = None
        if input_shape is not None:
            self.inputs = _flat_size("Dense: input_shape", input_shape)
        elif input_dim is not None:
            self.inputs = require_positive_integer("Dense: input_dim", input_dim)

    def __repr__(self) -> str:
        given = [str(self.units)]
        given += [] if self.activation is None else [repr(self.activation)]
        given += [] if self.use_bias else ["use_bias=False"]
        given += [] if self.inputs is None else [f"input_dim={self.inputs}"]
        return f"Dense({', '.join(given)})"


class Activation:
    """The activation of the Dense layer before it, by name (one of ACTIVATIONS)."""

    if not TYPE_CHECKING:
        __call__ = not_callable

    @explained
    def __init__(self, activation: str) -> None:
        self.activation = _known_activation("Activation", activation)

    def __repr__(self) -> str:
        return f"Activation({self.activation!r})"


class Dropout:
    """Drops units of the layer before it in training, at random, each with a probability of `rate`; as Keras' layer.

    The others are multiplied by 1 / (1 - rate), so that their mean stays. Nothing is dropped in predict and evaluate.
    After a hidden Dense layer and its Activation. The model's seed and the number of the epoch decide what is dropped.
    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014).
    """

    @explained
    def __init__(self, rate: float) -> None:
        self.rate = _checked_rate(rate)

    def __repr__(self) -> str:
        return f"Dropout({self.rate!r})"


Layer = Preparation | Dense | Activation | Dropout


def network_of(layers: Iterable[Layer], inputs: int | None = None) -> Network:
    """The network that a list of layers describes.

    inputs: number of inputs if the layers do not say it (taken from the data).
    Raises ArgumentError if the layers do not form a network, or if `inputs` is needed and missing.
    """
    widths: list[int] = []
    activations: list[str | None] = []
    biases: list[bool] = []
    penalties: list[float] = []
    dropout: list[float | None] = []  # of each layer, None before there is a Dropout
    prepared: list[Preparation] = []
    for number, layer in enumerate(layers):
        if isinstance(layer, Preparation):
            if activations or (number and isinstance(layer, Input)):
                first = (
                    "as the first layer of the model" if isinstance(layer, Input) else "before the first Dense layer"
                )
                raise ArgumentError(f"{type(layer).__name__}: expected {first}")
            _check_preparation(layer, prepared, widths)
            if layer.inputs is not None:
                widths = [layer.inputs]
            prepared.append(layer)
        elif isinstance(layer, Dense):
            if not widths:
                widths.append(_known_inputs(layer, inputs))
            elif layer.inputs not in (None, widths[-1]):
                raise ArgumentError(
                    f"Dense: input_dim={layer.inputs}, but the layer before it has {widths[-1]} outputs"
                )
            widths.append(layer.units)
            activations.append(layer.activation)
            biases.append(layer.use_bias)
            penalties.append(layer.kernel_regularizer.l2 if layer.kernel_regularizer else 0.0)
            dropout.append(None)
        elif isinstance(layer, Dropout):
            if not activations:
                raise ArgumentError(f"{layer}: expected after a hidden Dense layer; gpunet drops no inputs")
            if dropout[-1] is not None:
                raise ArgumentError(f"{layer}: the Dense layer before it already has a Dropout({dropout[-1]!r})")
            dropout[-1] = layer.rate
        elif dropout and dropout[-1] is not None:
            raise ArgumentError(f"{layer}: expected before the Dropout, directly after its Dense layer")
        else:
            if not activations:
                raise ArgumentError(f"Activation({layer.activation!r}): expected after a Dense layer")
            if activations[-1] not in (None, "linear"):
                raise ArgumentError(
                    f"Activation({layer.activation!r}): the Dense layer before it already has the activation "
                    f"{activations[-1]!r}"
                )
            activations[-1] = layer.activation
    if not activations:
        raise ArgumentError("the model has no Dense layer; add one with model.add(Dense(units, activation='softmax'))")
    if dropout[-1] is not None:
        raise ArgumentError(f"Dropout({dropout[-1]!r}): expected after a hidden layer, not after the last")
    functions = tuple(activation or "linear" for activation in activations)
    rates = tuple(rate or 0.0 for rate in dropout)
    return Network(tuple(widths), functions, tuple(biases), tuple(penalties), rates)


def _check_preparation(layer: Preparation, before: Sequence[Preparation], widths: Sequence[int]) -> None:
    """Raise ArgumentError unless it fits the layers before it. widths: the number of inputs, if they say it."""
    kind = type(layer).__name__
    if widths and layer.inputs not in (None, widths[0]):
        raise ArgumentError(f"{kind}: for {layer.inputs} inputs, but the layer before it says {widths[0]}")
    if any(type(layer) is type(other) for other in before):
        raise ArgumentError(f"{kind}: the model has one already")


def _known_inputs(first: Dense, inputs: int | None) -> int:
    """The inputs of the first Dense layer. inputs: as in `network_of`."""
    known = inputs if first.inputs is None else first.inputs
    if known is None:
        raise ArgumentError(
            "the model does not know its number of inputs yet; give the first layer input_dim=..., "
            "or call fit first, which takes it from the data"
        )
    return known


def _checked_rate(rate: object) -> float:
    share = require_number("Dropout: rate", rate)
    if not 0 <= share < 1:
        raise ArgumentError(f"Dropout: rate: expected a share from 0 to below 1, got {shown(rate)}")
    return share


def _known_activation(owner: str, name: object) -> str:
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ArgumentError(f"{owner}: activation: expected one of {', '.join(ACTIVATIONS)}; got {shown(name)}")
    return name


def _flat_size(name: str, shape: object) -> int:
    if isinstance(shape, str | bytes) or not isinstance(shape, Sequence) or not shape:
        raise ArgumentError(f"{name}: expected a tuple of whole numbers such as (784,), got {shown(shape)}")
    return math.prod(require_positive_integer(name, size) for size in shape)


if not TYPE_CHECKING:  # for which it would be any name
    __getattr__ = attributes_of(__name__)
