"""The optimizers: the name of each rule, what it stores for every weight, and the constants that it reads in an update.

The arithmetic of a rule is in three places, a few lines in each, under the rule's name: gpunet/engines/reference.py,
gpunet/engines/cpu/formulas.py and kernels/optimizer.cuh.

Hyper-parameters may be changed between epochs (`model.optimizer.learning_rate = 1e-4`); engines read them for every
epoch. `lr` is the name that `learning_rate` had in Keras in 2016.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpunet.checks import require_number
from gpunet.errors import ArgumentError, shown
from gpunet.keras_names import attributes_of, explained


@dataclass(init=False)
class Optimizer(abc.ABC):
    """The interface of an optimizer.

    rule:  the name of its arithmetic, by which engines and kernels choose their code.
    slots: the names of what it stores for every weight, in the paper's terms.
    rests: whether a weight does not move while its gradient and its slots are 0. The compiled engine skips such
           weights: most of MNIST's pixels are 0.
    """

    learning_rate: float

    rests = True

    @property
    @abc.abstractmethod
    def rule(self) -> str: ...

    @property
    @abc.abstractmethod
    def slots(self) -> tuple[str, ...]: ...

    @abc.abstractmethod
    def _constants(self, t: NDArray[np.float64]) -> list[float | NDArray[np.float64]]:
        """The rule's constants; each is one number for all updates, or an array with one for each of `t`."""

    def constants(self, updates: NDArray[np.integer]) -> NDArray[np.float32]:
        """(updates, n): the n constants that the rule reads in each update, in the order that its engines expect.

        Computed in double precision: in float32, 1 - 0.999 is off by 1e-5. What float32 cannot hold becomes infinite,
        which shows in the loss.
        updates: counted from 1 over the whole training.
        """
        columns = self._constants(updates.astype(np.float64))
        with np.errstate(over="ignore"):
            return np.stack([np.broadcast_to(column, updates.shape) for column in columns], axis=1).astype(np.float32)

    def check(self) -> None:
        """Raise ArgumentError for a hyper-parameter that cannot be used."""
        _require_numbers(self)
        self._require("learning_rate", self.learning_rate >= 0, "a number from 0 on")

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

    def _require(self, parameter: str, holds: bool, expected: str) -> None:
        if not holds:
            value = getattr(self, parameter)
            raise ArgumentError(f"{type(self).__name__}: {parameter}: expected {expected}, got {shown(value)}")


@dataclass(init=False)
class Adam(Optimizer):
    """Adam: Algorithm 1 of Kingma & Ba, "Adam: A Method for Stochastic Optimization" (2015).

    For update t = 1, 2, ... with gradient g:  m = beta_1 m + (1 - beta_1) g,  v = beta_2 v + (1 - beta_2) g^2,
    w -= learning_rate * m_hat / (sqrt(v_hat) + epsilon),  m_hat = m / (1 - beta_1^t),  v_hat = v / (1 - beta_2^t).
    """

    beta_1: float
    beta_2: float
    epsilon: float

    rule = "adam"
    slots = ("m", "v")

    @explained
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
        super().check()
        self._require("beta_1", 0 <= self.beta_1 < 1, "a number in [0, 1)")
        self._require("beta_2", 0 <= self.beta_2 < 1, "a number in [0, 1)")
        smallest = float(np.finfo(np.float32).tiny) / math.sqrt(1 - self.beta_2)  # see `step_sizes`
        expected = f"a number above 0 that float32 can hold in every update, from {smallest:.2g} on (1e-8 is usual)"
        self._require("epsilon", smallest <= self.epsilon <= float(np.finfo(np.float32).max), expected)

    def step_sizes(self, t: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(alpha_t, epsilon_t) for w -= alpha_t * m / (sqrt(v) + epsilon_t): the bias corrections, folded in exactly.

        The paper gives this form at the end of its section 2; scaling epsilon along keeps it equal to Algorithm 1.
        """
        correction = np.sqrt(1.0 - self.beta_2**t)
        return self.learning_rate * correction / (1.0 - self.beta_1**t), self.epsilon * correction

    def _constants(self, t: NDArray[np.float64]) -> list[float | NDArray[np.float64]]:
        """beta_1, 1 - beta_1, beta_2, 1 - beta_2, -alpha_t, epsilon_t"""
        alpha, epsilon = self.step_sizes(t)
        return [self.beta_1, 1 - self.beta_1, self.beta_2, 1 - self.beta_2, -alpha, epsilon]


@dataclass(init=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: Loshchilov & Hutter, "Decoupled Weight Decay Regularization" (2019).

    Before Adam's step, w -= learning_rate * weight_decay * w. As in Keras and PyTorch, the decay is scaled by the
    learning rate, and biases decay too.
    """

    weight_decay: float

    rule = "adamw"

    @explained
    def __init__(
        self,
        learning_rate: float | None = None,
        weight_decay: float = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        lr: float | None = None,
    ) -> None:
        self.weight_decay = weight_decay
        super().__init__(learning_rate, beta_1, beta_2, epsilon, lr=lr)

    def check(self) -> None:
        super().check()
        self._require("weight_decay", self.weight_decay >= 0, "a number from 0 on")

    @property
    def rests(self) -> bool:  # type: ignore[override]
        return self.weight_decay == 0

    def _constants(self, t: NDArray[np.float64]) -> list[float | NDArray[np.float64]]:
        """Adam's, then -learning_rate weight_decay"""
        return [*super()._constants(t), -self.learning_rate * self.weight_decay]


@dataclass(init=False)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if it is above 0.

    velocity = momentum * velocity - learning_rate * g,  w += velocity (Keras' form); with nesterov
    w += momentum * velocity - learning_rate * g. Source: Sutskever et al., "On the importance of initialization and
    momentum in deep learning" (2013), in the form that Keras and scikit-learn give it.
    """

    momentum: float
    nesterov: bool

    @explained
    def __init__(
        self,
        learning_rate: float | None = None,
        momentum: float = 0.0,
        nesterov: bool = False,
        *,
        lr: float | None = None,
    ) -> None:
        self._set_learning_rate(learning_rate, lr, default=0.01)
        self.momentum, self.nesterov = momentum, nesterov
        self.check()

    @property
    def rule(self) -> str:
        if not self.momentum:
            return "sgd"
        return "nesterov" if self.nesterov else "momentum"

    @property
    def slots(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def check(self) -> None:
        super().check()
        self._require("momentum", 0 <= self.momentum < 1, "a number in [0, 1)")

    def _constants(self, t: NDArray[np.float64]) -> list[float | NDArray[np.float64]]:
        """-learning_rate, then momentum unless it is 0"""
        return [-self.learning_rate, self.momentum] if self.momentum else [-self.learning_rate]


def _require_numbers(optimizer: Optimizer) -> None:
    """Convert hyper-parameters to Python numbers: NumPy's float32 would change the arithmetic that they are used in."""
    for parameter in fields(optimizer):
        value = getattr(optimizer, parameter.name)
        name = f"{type(optimizer).__name__}: {parameter.name}"
        if parameter.type == "bool":
            if not isinstance(value, bool | np.bool_):
                raise ArgumentError(f"{name}: expected True or False, got {shown(value)}")
            setattr(optimizer, parameter.name, bool(value))
            continue
        setattr(optimizer, parameter.name, require_number(name, value))


OPTIMIZERS: dict[str, type[Optimizer]] = {"adam": Adam, "adamw": AdamW, "sgd": SGD}

# One optimizer for each rule.
RULES: dict[str, Optimizer] = {
    optimizer.rule: optimizer
    for optimizer in (Adam(), AdamW(), SGD(), SGD(momentum=0.9), SGD(momentum=0.9, nesterov=True))
}


def get(optimizer: str | Optimizer) -> Optimizer:
    """An optimizer by name, with its defaults, or the optimizer itself.

    Raises ArgumentError for any other class, even a subclass of one of these: engines know rules, not methods.
    """
    if type(optimizer) in OPTIMIZERS.values():
        return optimizer  # type: ignore[return-value]
    if not isinstance(optimizer, str) or optimizer.lower() not in OPTIMIZERS:
        classes = ", ".join(cls.__name__ for cls in OPTIMIZERS.values())
        raise ArgumentError(
            f"optimizer: expected one of {', '.join(OPTIMIZERS)}, or an object of the class {classes} itself; "
            f"got {shown(optimizer)}"
        )
    return OPTIMIZERS[optimizer.lower()]()


def name_of(optimizer: Optimizer) -> str:
    """The name that `get` takes."""
    return next(name for name, cls in OPTIMIZERS.items() if cls is type(optimizer))


if not TYPE_CHECKING:  # for which it would be any name
    __getattr__ = attributes_of(__name__)
