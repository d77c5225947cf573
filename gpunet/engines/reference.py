"""The NumPy engine: the yardstick for correctness, and the fallback without a GPU and Numba.

It is written to be simple. It trains in float32; with float64 it is the truth that kernels are compared with. There is
one concession to speed: weights, gradients and optimizer state are long vectors (a layer's arrays are views of them),
and the optimizer updates them in place, in blocks that stay in the processor's cache. Matrix products use one thread,
so that results do not depend on the number of cores, and other processes may use the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gpunet import threads
from gpunet.engines import dropout
from gpunet.engines.base import FORWARD_ROWS, Array, Engine, EpochStatistics, OptimizerState, Progress
from gpunet.engines.weighted import Weighted, without_weights
from gpunet.errors import TrainingDivergedError
from gpunet.layers import Network
from gpunet.optimizers import SGD, Adam, AdamW, Optimizer

Floats = NDArray[np.floating]

NO_DROPOUT: Mapping[int, NDArray[np.float32]] = {}
OPTIMIZER_BLOCK = 32768  # elements; five blocks of float32 are 655 KB, which stays in a second-level cache


class ReferenceEngine(Engine):
    """See Engine. dtype: np.float32, or np.float64 for the truth."""

    name: ClassVar[str] = "reference"

    def __init__(
        self,
        network: Network,
        optimizer: Optimizer,
        weights: Sequence[Floats],
        dtype: DTypeLike = np.float32,
    ) -> None:
        self.dtype = np.dtype(dtype)
        super().__init__(network, optimizer, weights)

    def _allocate(self) -> None:
        self._weights_vector, self._weights = self._vector_and_views()
        self._gradients_vector, self._gradients = self._vector_and_views()
        self._slot_vectors = {slot: self._vector_and_views() for slot in self._slots}
        self._updates = 0

    def _vector_and_views(self) -> tuple[Floats, list[Floats]]:
        """Zeros for all parameters, as one vector and as views with the shapes of the weights."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self.network.weight_shapes])
        vector = np.zeros(ends[-1], self.dtype)
        parts = np.split(vector, ends[:-1])
        return vector, [part.reshape(shape) for part, shape in zip(parts, self.network.weight_shapes, strict=True)]

    def _get_weights(self) -> list[Floats]:
        return [array.copy() for array in self._weights]

    def _set_weights(self, weights: Sequence[Floats]) -> None:
        _copy_into(self._weights, weights)

    def _get_state(self) -> OptimizerState:
        slots = {slot: [view.copy() for view in views] for slot, (_, views) in self._slot_vectors.items()}
        return OptimizerState(self._updates, slots)

    def _set_state(self, state: OptimizerState) -> None:
        for slot, (_, views) in self._slot_vectors.items():
            _copy_into(views, state.slots[slot])
        self._updates = state.updates

    def _back_up(self) -> None:
        self._backup = self._get_weights(), self._get_state()

    def _restore(self) -> None:
        weights, state = self._backup
        self._set_weights(weights)
        self._set_state(state)

    @threads.one_blas_thread()
    @np.errstate(all="ignore")  # divergence is reported once, from the loss
    def _train_epoch(
        self, images: NDArray[Any], labels: Array, order: NDArray[np.int32], batch_size: int, progress: Progress
    ) -> EpochStatistics:
        total_loss, total_correct, updates, seconds = 0.0, 0, 0, 0.0
        for first in range(0, len(order), batch_size):
            started = time.perf_counter()
            batch = order[first : first + batch_size]
            losses, correct = self.update(images[batch], labels[batch], first)
            seconds += time.perf_counter() - started
            updates += 1
            batch_loss = float(losses.sum(dtype=np.float64))
            if not np.isfinite(batch_loss):
                raise TrainingDivergedError(updates)
            total_loss += batch_loss
            total_correct += correct
            progress(updates)
        return EpochStatistics(total_loss / len(order), total_correct / len(order), updates, seconds)

    def update(self, images: NDArray[Any], labels: Array, first: int = 0) -> tuple[Floats, int]:
        """One optimizer step on one batch; returns each example's loss and how many were correct, before the step."""
        losses, correct = self.gradients(images, labels, first)
        self._updates += 1
        slots = [vector for vector, _ in self._slot_vectors.values()]
        for block in _blocks(len(self._weights_vector), OPTIMIZER_BLOCK):
            arrays = [vector[block] for vector in (self._weights_vector, self._gradients_vector, *slots)]
            STEPS[self.optimizer.rule](self.optimizer, self._updates, *arrays)
        return losses, correct

    def gradients(self, images: NDArray[Any], labels: Array, first: int = 0) -> tuple[Floats, int]:
        """Backpropagation: stores d(mean loss + penalty)/d(weights) in `self._gradients`; returns as `update` does."""
        factors = self._dropout(len(images), first)
        outputs = self._forward(images, factors)
        losses, correct, dz = softmax_cross_entropy(outputs[-1], labels)
        for layer in reversed(range(self.network.layers)):
            np.matmul(outputs[layer].T, dz, out=self._gradients[2 * layer])
            if self.network.biases[layer]:
                np.sum(dz, axis=0, out=self._gradients[2 * layer + 1])
            else:
                self._gradients[2 * layer + 1].fill(0)
            if self.network.l2:
                self._gradients[2 * layer] += self.network.twice_l2[layer] * self._weights[2 * layer]
            if layer > 0:
                previous = self.network.activations[layer - 1]
                y, factor = outputs[layer], factors.get(layer - 1)
                if factor is not None:  # where a unit was dropped, no gradient is left, whatever its y was
                    y = np.divide(y, factor, where=factor != 0, out=np.zeros_like(y))
                dz = dense_backward(dz, self._weights[2 * layer], y, previous)
                if factor is not None:
                    dz *= factor
        return losses, correct

    @threads.one_blas_thread()
    @np.errstate(all="ignore")
    def predict(self, images: NDArray[Any]) -> Floats:
        blocks = [softmax(self._forward(images[rows])[-1]) for rows in _blocks(len(images), FORWARD_ROWS)]
        return np.concatenate(blocks)

    @threads.one_blas_thread()
    @np.errstate(all="ignore")
    def evaluate(self, images: NDArray[Any], labels: Array) -> tuple[float, float]:
        total_loss, total_correct = 0.0, 0
        for rows in _blocks(len(images), FORWARD_ROWS):
            losses, correct, _ = softmax_cross_entropy(self._forward(images[rows])[-1], labels[rows])
            total_loss += float(losses.sum(dtype=np.float64))
            total_correct += correct
        return total_loss / len(images), total_correct / len(images)

    def _dropout(self, examples: int, first: int) -> dict[int, NDArray[np.float32]]:
        """What the units of each layer with dropout are multiplied by. first: the batch's position in the epoch."""
        rates, widths = self.network.dropout, self.network.widths[1:]
        return {
            layer: dropout.factors(self.network, self._key, layer, first, (examples, widths[layer]))
            for layer, rate in enumerate(rates)
            if rate
        }

    def _forward(self, images: NDArray[Any], factors: Mapping[int, NDArray[np.float32]] = NO_DROPOUT) -> list[Floats]:
        """The input and the output of every layer; the last are the logits, before the softmax."""
        x = images.astype(self.dtype)
        if images.dtype == np.uint8:
            x /= 255
        outputs = [x]
        for layer, activation in enumerate(self.network.functions):
            outputs.append(
                dense_forward(outputs[-1], self._weights[2 * layer], self._weights[2 * layer + 1], activation)
            )
            if layer in factors:
                outputs[-1] *= factors[layer]
        return outputs


# The operations, named after the kernels that fuse them. Each keeps the data type of its arguments.


def dense_forward(x: Floats, weights: Floats, bias: Floats, activation: str) -> Floats:
    """y = activation(x weights + bias): x (batch, inputs), weights (inputs, units), bias (units,), y (batch, units)."""
    y: Floats = x @ weights
    y += bias
    return activate(y, activation)


def dense_backward(dz: Floats, weights: Floats, y_previous: Floats, activation_previous: str) -> Floats:
    """The previous layer's dz: (dz weights^T) * activation'(y_previous).

    dz (batch, units) = d(mean loss)/d(x weights + bias); weights (inputs, units); y_previous (batch, inputs).
    """
    dx: Floats = dz @ weights.T
    dx *= activation_derivative(y_previous, activation_previous)
    return dx


def softmax_cross_entropy(logits: Floats, targets: NDArray[Any]) -> tuple[Floats, int, Floats]:
    """Loss of each row (nats), number of rows whose largest logit is the target's, and d(mean loss)/d(logits).

    logits (batch, classes); targets (batch,) integers, or (batch, classes) probabilities that sum to 1; or Weighted.
    Subtracting the row's maximum keeps exp finite: Goodfellow et al., Deep Learning (2016), section 4.1.
    """
    weights = targets.weights if isinstance(targets, Weighted) else None
    targets = without_weights(targets)
    rows = np.arange(len(logits))
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    totals = exponentials.sum(axis=1)
    dz = exponentials / totals[:, np.newaxis]
    if targets.ndim == 1:
        classes = targets
        losses = np.log(totals) - shifted[rows, classes]
        dz[rows, classes] -= 1
    else:
        classes = targets.argmax(axis=1)
        # Where a target is 0, nothing is added, even if the logit is -infinity: 0 times -infinity would be NaN.
        losses = np.log(totals) - np.multiply(targets, shifted, where=targets != 0, out=np.zeros_like(shifted)).sum(
            axis=1
        )
        dz -= targets
    if weights is not None:
        losses *= weights
        dz *= weights[:, np.newaxis]
    dz /= len(logits)
    correct = int(np.count_nonzero(logits.argmax(axis=1) == classes))
    return losses, correct, dz


def softmax(logits: Floats) -> Floats:
    """exp(logits) / sum(exp(logits)), row by row."""
    exponentials: Floats = np.exp(logits - logits.max(axis=1, keepdims=True))
    exponentials /= exponentials.sum(axis=1, keepdims=True)
    return exponentials


def activate(z: Floats, activation: str) -> Floats:
    """activation(z), element by element; overwrites z and returns it."""
    match activation:
        case "linear":
            pass
        case "sigmoid":
            with np.errstate(over="ignore"):  # for very negative z, exp(-z) = inf gives the correct limit, 0
                np.exp(np.negative(z, out=z), out=z)
            z += 1
            np.reciprocal(z, out=z)
        case "tanh":
            np.tanh(z, out=z)
        case "relu":
            np.maximum(z, 0, out=z)
        case "softplus":
            np.logaddexp(z, 0, out=z)
        case "softsign":
            z /= 1 + np.abs(z)
        case "hard_sigmoid":  # as Keras had it in 2016
            z *= 0.2
            z += 0.5
            np.clip(z, 0, 1, out=z)
        case _:
            raise ValueError(f"unknown activation {activation!r}")
    return z


def activation_derivative(y: Floats, activation: str) -> Floats:
    """activation'(z), from the output y = activation(z)."""
    derivative: Floats
    match activation:
        case "linear":
            derivative = np.ones_like(y)
        case "sigmoid":
            derivative = y * (1 - y)
        case "tanh":
            derivative = 1 - y * y
        case "relu":
            derivative = (y > 0).astype(y.dtype)
        case "softplus":
            derivative = -np.expm1(-y)
        case "softsign":
            derivative = (1 - np.abs(y)) ** 2
        case "hard_sigmoid":
            derivative = 0.2 * ((y > 0) & (y < 1)).astype(y.dtype)
        case _:
            raise ValueError(f"unknown activation {activation!r}")
    return derivative


# Each rule's step, in place on vectors; it overwrites the gradients g. update: counted from 1. The formulas are in the
# optimizers' classes.


def adam_step(adam: Adam, update: int, w: Floats, g: Floats, m: Floats, v: Floats) -> None:
    alpha, epsilon = (float(size) for size in adam.step_sizes(np.array(float(update))))
    m *= adam.beta_1
    m += (1 - adam.beta_1) * g
    v *= adam.beta_2
    g *= g
    g *= 1 - adam.beta_2
    v += g
    np.sqrt(v, out=g)
    g += epsilon
    np.divide(m, g, out=g)
    g *= alpha
    w -= g


def adamw_step(adamw: AdamW, update: int, w: Floats, g: Floats, m: Floats, v: Floats) -> None:
    w -= adamw.learning_rate * adamw.weight_decay * w
    adam_step(adamw, update, w, g, m, v)


def momentum_step(sgd: SGD, update: int, w: Floats, g: Floats, velocity: Floats) -> None:
    velocity *= sgd.momentum
    g *= sgd.learning_rate
    velocity -= g
    w += velocity


def nesterov_step(sgd: SGD, update: int, w: Floats, g: Floats, velocity: Floats) -> None:
    velocity *= sgd.momentum
    g *= sgd.learning_rate
    velocity -= g
    w += sgd.momentum * velocity
    w -= g


def sgd_step(sgd: SGD, update: int, w: Floats, g: Floats) -> None:
    g *= sgd.learning_rate
    w -= g


STEPS: dict[str, Callable[..., None]] = {
    "adam": adam_step,
    "adamw": adamw_step,
    "momentum": momentum_step,
    "nesterov": nesterov_step,
    "sgd": sgd_step,
}


def _blocks(length: int, size: int) -> Iterator[slice]:
    for first in range(0, length, size):
        yield slice(first, min(first + size, length))


def _copy_into(arrays: Sequence[Floats], values: Sequence[Floats]) -> None:
    for array, value in zip(arrays, values, strict=True):
        np.copyto(array, value, casting="same_kind")
