"""The optimizers' names and hyper-parameters. Their arithmetic is in the engines and kernels.

Hyper-parameters may be changed between epochs (`model.optimizer.learning_rate = 1e-4`); engines read them anew.
`lr` is the name that `learning_rate` had in 2016.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from gpunet.errors import ArgumentError


class _WithLearningRate:
    """What the optimizers share: a learning rate by both of its names."""

    learning_rate: float

    @property
    def lr(self) -> float:
        return self.learning_rate

    @lr.setter
    def lr(self, rate: float) -> None:
        self.learning_rate = rate

    def _set_learning_rate(self, learning_rate: float | None, lr: float | None, default: float) -> None:
        if learning_rate is not None and lr is not None:
            raise ArgumentError(
                f"{type(self).__name__}: learning_rate={learning_rate!r} and lr={lr!r} mean the same; give one"
            )
        rate = lr if learning_rate is None else learning_rate
        self.learning_rate = default if rate is None else rate


@dataclass(init=False)
class Adam(_WithLearningRate):
    """Adam: Algorithm 1 of Kingma & Ba, "Adam: A Method for Stochastic Optimization" (2015).

    For update t = 1, 2, ... with gradient g:  m = beta_1 m + (1 - beta_1) g,  v = beta_2 v + (1 - beta_2) g^2,
    w -= learning_rate * m_hat / (sqrt(v_hat) + epsilon),  m_hat = m / (1 - beta_1^t),  v_hat = v / (1 - beta_2^t).
    """

    learning_rate: float
    beta_1: float
    beta_2: float
    epsilon: float

    slots = ("m", "v")  # what is remembered for every weight, in the words of the paper

    def __init__(
        self,
        learning_rate: float | None = None,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        lr: float | None = None,
    ) -> None:
        self._set_learning_rate(learning_rate, lr, default=0.001)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.check()

    def check(self) -> None:
        """Raise ArgumentError for a hyper-parameter that cannot be used."""
        _require_numbers(self)
        _require("Adam: learning_rate", self.learning_rate, self.learning_rate >= 0, "a number from 0 on")
        _require("Adam: beta_1", self.beta_1, 0 <= self.beta_1 < 1, "a number in [0, 1)")
        _require("Adam: beta_2", self.beta_2, 0 <= self.beta_2 < 1, "a number in [0, 1)")
        _require("Adam: epsilon", self.epsilon, self.epsilon > 0, "a number above 0")

    def step_sizes(self, updates: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(alpha_t, epsilon_t) for w -= alpha_t * m / (sqrt(v) + epsilon_t): the bias corrections, folded in exactly.

        updates: the values of t, counted from 1 over the whole training. The paper gives this form at the end of its
        section 2; scaling epsilon along keeps it equal to Algorithm 1.
        """
        t = updates.astype(np.float64)
        correction = np.sqrt(1.0 - self.beta_2**t)
        return self.learning_rate * correction / (1.0 - self.beta_1**t), self.epsilon * correction


@dataclass(init=False)
class SGD(_WithLearningRate):
    """Stochastic gradient descent, with momentum if it is above 0.

    velocity = momentum * velocity - learning_rate * g,  w += velocity (Keras' form).
    """

    learning_rate: float
    momentum: float

    def __init__(self, learning_rate: float | None = None, momentum: float = 0.0, *, lr: float | None = None) -> None:
        self._set_learning_rate(learning_rate, lr, default=0.01)
        self.momentum = momentum
        self.check()

    @property
    def slots(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def check(self) -> None:
        """Raise ArgumentError for a hyper-parameter that cannot be used."""
        _require_numbers(self)
        _require("SGD: learning_rate", self.learning_rate, self.learning_rate >= 0, "a number from 0 on")
        _require("SGD: momentum", self.momentum, 0 <= self.momentum < 1, "a number in [0, 1)")


Optimizer = Adam | SGD

OPTIMIZERS: dict[str, type[Adam] | type[SGD]] = {"adam": Adam, "sgd": SGD}


def get(optimizer: str | Optimizer) -> Optimizer:
    """An optimizer by name, with its defaults, or the optimizer itself."""
    if isinstance(optimizer, Adam | SGD):
        return optimizer
    if not isinstance(optimizer, str) or optimizer.lower() not in OPTIMIZERS:
        raise ArgumentError(
            f"optimizer: expected one of {', '.join(OPTIMIZERS)}, or an Adam or SGD object; got {optimizer!r}"
        )
    return OPTIMIZERS[optimizer.lower()]()


def _require_numbers(optimizer: Optimizer) -> None:
    """Hyper-parameters become Python floats: NumPy's float32 would change the arithmetic of what they are used in."""
    for parameter in fields(optimizer):
        value = getattr(optimizer, parameter.name)
        name = f"{type(optimizer).__name__}: {parameter.name}"
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        _require(name, value, real and math.isfinite(value), "a finite number")
        setattr(optimizer, parameter.name, float(value))


def _require(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ArgumentError(f"{name}: expected {expected}, got {value!r}")
