"""The compiled engine's activations, their slopes, and the optimizers' rules: the file to extend.

A formula maps vectors to vectors. A new activation is a formula, its slope, and a row of ACTIVATIONS; a new optimizer
is a step and a row of STEPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from gpunet import optimizers
from gpunet.engines.cpu.vectors import (
    INTEGERS,
    LANES,
    VECTOR,
    Code,
    Formula,
    Step,
    Value,
    VectorFunction,
    backward_function,
    forward_function,
    function_of_rows,
    function_of_slopes,
    step_function,
)
from gpunet.optimizers import Optimizer


def _exp_parts(code: Code, x: Value) -> tuple[Value, Value, Value]:
    """(e^r - 1, p, q) with e^x = e^r p q, |r| <= ln 2 / 2, and powers of two p and q; a NaN is in the first.

    The coefficients are the Cephes library's (Moshier, expf). The power of two is split in two, so that results below
    the smallest normal number are correct too.
    """
    builder = code.builder
    x = code.smaller(code.larger(x, code.constant(-104.0)), code.constant(89.0))
    n = code.call("rint", code.mul(x, code.constant(1.44269504088896341)))
    r = code.fma(n, code.constant(-0.693359375), x)
    r = code.fma(n, code.constant(2.12194440e-4), r)
    series = code.constant(1.9875691500e-4)
    for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        series = code.fma(series, r, code.constant(coefficient))
    exponent = builder.fptosi(builder.select(builder.fcmp_ordered("ord", x, x), n, code.constant(0.0)), INTEGERS)
    half = builder.ashr(exponent, ir.Constant(INTEGERS, [1] * LANES))
    powers = []
    for part in (half, builder.sub(exponent, half)):
        bits = builder.shl(builder.add(part, ir.Constant(INTEGERS, [127] * LANES)), ir.Constant(INTEGERS, [23] * LANES))
        powers.append(builder.bitcast(bits, VECTOR))
    return code.fma(series, code.mul(r, r), r), powers[0], powers[1]


def _exp(code: Code, x: Value) -> Value:
    """e^x to about one unit in the last place; 0 below -104, infinity above 88.8."""
    rest, p, q = _exp_parts(code, x)
    return code.mul(code.mul(code.add(rest, code.constant(1.0)), p), q)


def _expm1(code: Code, x: Value) -> Value:
    """e^x - 1, without cancellation, for x <= 0."""
    rest, p, q = _exp_parts(code, x)
    power = code.mul(p, q)
    return code.fma(power, rest, code.sub(power, code.constant(1.0)))


def _log1p_of_small(code: Code, x: Value) -> Value:
    """log(1 + x) for x in [0, 1]: 2 artanh(s), s = x / (2 + x) <= 1/3, by its series."""
    s = code.div(x, code.add(x, code.constant(2.0)))
    square = code.mul(s, s)
    series = code.constant(1 / 15)
    for power in (13, 11, 9, 7, 5, 3):
        series = code.fma(series, square, code.constant(1 / power))
    return code.mul(code.constant(2.0), code.fma(code.mul(series, square), s, s))


def _sigmoid(code: Code, z: Value) -> Value:
    one = code.constant(1.0)
    return code.div(one, code.add(one, _exp(code, code.builder.fneg(z))))


def _tanh(code: Code, z: Value) -> Value:
    """-e / (e + 2) with e = e^-2|z| - 1, with the sign of z."""
    e = _expm1(code, code.mul(code.constant(-2.0), code.call("fabs", z)))
    size = code.div(code.builder.fneg(e), code.add(e, code.constant(2.0)))
    return code.call("copysign", size, z)


def _relu(code: Code, z: Value) -> Value:
    return code.larger(z, code.constant(0.0))


def _softplus(code: Code, z: Value) -> Value:
    """log(1 + e^z), from the exponential of a negative number only, so that nothing overflows."""
    power = _exp(code, code.builder.fneg(code.call("fabs", z)))
    return code.add(code.larger(z, code.constant(0.0)), _log1p_of_small(code, power))


def _softsign(code: Code, z: Value) -> Value:
    return code.div(z, code.add(code.constant(1.0), code.call("fabs", z)))


def _hard_sigmoid(code: Code, z: Value) -> Value:
    sloped = code.fma(z, code.constant(0.2), code.constant(0.5))
    return code.smaller(code.larger(sloped, code.constant(0.0)), code.constant(1.0))


# The activations' derivatives, from y


def _sigmoid_slope(code: Code, y: Value) -> Value:
    return code.mul(y, code.sub(code.constant(1.0), y))


def _tanh_slope(code: Code, y: Value) -> Value:
    return code.sub(code.constant(1.0), code.mul(y, y))


def _relu_slope(code: Code, y: Value) -> Value:
    above = code.builder.fcmp_ordered(">", y, code.constant(0.0))
    return code.builder.select(above, code.constant(1.0), code.constant(0.0))


def _softplus_slope(code: Code, y: Value) -> Value:
    return code.builder.fneg(_expm1(code, code.builder.fneg(y)))


def _softsign_slope(code: Code, y: Value) -> Value:
    root = code.sub(code.constant(1.0), code.call("fabs", y))
    return code.mul(root, root)


def _hard_sigmoid_slope(code: Code, y: Value) -> Value:
    above = code.builder.fcmp_ordered(">", y, code.constant(0.0))
    inside = code.builder.and_(above, code.builder.fcmp_ordered("<", y, code.constant(1.0)))
    return code.builder.select(inside, code.constant(0.2), code.constant(0.0))


class Activation(NamedTuple):
    """An activation's C functions: y = activation(z), and dz *= activation'(z), computed from y."""

    rows: VectorFunction
    slopes: VectorFunction


def _activation(name: str, formula: Formula, slope: Formula | None) -> Activation:
    return Activation(function_of_rows(name, formula), function_of_slopes(name, slope))


ACTIVATIONS = {
    "linear": _activation("linear", lambda code, z: z, None),
    "sigmoid": _activation("sigmoid", _sigmoid, _sigmoid_slope),
    "tanh": _activation("tanh", _tanh, _tanh_slope),
    "relu": _activation("relu", _relu, _relu_slope),
    "softplus": _activation("softplus", _softplus, _softplus_slope),
    "softsign": _activation("softsign", _softsign, _softsign_slope),
    "hard_sigmoid": _activation("hard_sigmoid", _hard_sigmoid, _hard_sigmoid_slope),
}
TIMES = function_of_slopes("times", lambda code, factor: factor)  # rows *= other rows
EXPONENTIALS = function_of_rows("exp", _exp)


# The optimizers


def _adam(code: Code, constants: Sequence[Value], g: Value, w: Value, m: Value, v: Value) -> Sequence[Value]:
    beta_1, rest_1, beta_2, rest_2, minus_alpha, epsilon = constants
    m = code.fma(beta_1, m, code.mul(rest_1, g))
    v = code.fma(beta_2, v, code.mul(rest_2, code.mul(g, g)))
    return code.fma(minus_alpha, code.div(m, code.add(code.call("sqrt", v), epsilon)), w), m, v


def _adamw(code: Code, constants: Sequence[Value], g: Value, w: Value, m: Value, v: Value) -> Sequence[Value]:
    return _adam(code, constants[:6], g, code.fma(constants[6], w, w), m, v)


def _momentum(code: Code, constants: Sequence[Value], g: Value, w: Value, velocity: Value) -> Sequence[Value]:
    minus_rate, momentum = constants
    velocity = code.fma(momentum, velocity, code.mul(minus_rate, g))
    return code.add(w, velocity), velocity


def _nesterov(code: Code, constants: Sequence[Value], g: Value, w: Value, velocity: Value) -> Sequence[Value]:
    minus_rate, momentum = constants
    step = code.mul(minus_rate, g)
    velocity = code.fma(momentum, velocity, step)
    return code.add(w, code.fma(momentum, velocity, step)), velocity


def _sgd(code: Code, constants: Sequence[Value], g: Value, w: Value) -> Sequence[Value]:
    return (code.fma(constants[0], g, w),)


class Rule(NamedTuple):
    """An optimizer's C functions. They read what the optimizer's `constants` method returns, in that order."""

    step: VectorFunction
    backward: VectorFunction
    forward: VectorFunction


def _rule(name: str, step: Step, penalized: bool) -> Rule:
    slots, numbers = len(optimizers.RULES[name].slots), _numbers(optimizers.RULES[name])
    if penalized:
        name, step, numbers = f"{name}_l2", _penalized(step, numbers), numbers + 1
    return Rule(*[make(name, step, slots, numbers) for make in (step_function, backward_function, forward_function)])


def _numbers(optimizer: Optimizer) -> int:
    """The number of constants that its step reads."""
    return int(optimizer.constants(np.ones(1, np.int64)).shape[1])


def _penalized(step: Step, numbers: int) -> Step:
    """The rule with a penalty on weights: another constant, 2 l2, times the weight is added to its gradient."""

    def with_penalty(code: Code, constants: Sequence[Value], g: Value, w: Value, *slots: Value) -> Sequence[Value]:
        return step(code, constants[:numbers], code.fma(constants[numbers], w, g), w, *slots)

    return with_penalty


STEPS: dict[str, Step] = {"adam": _adam, "adamw": _adamw, "momentum": _momentum, "nesterov": _nesterov, "sgd": _sgd}
RULES = {(name, penalized): _rule(name, step, penalized) for name, step in STEPS.items() for penalized in (False, True)}
MOST_CONSTANTS = 1 + max(map(_numbers, optimizers.RULES.values()))


def constants_of(
    optimizer: Optimizer, updates_before: int, updates: int, twice_l2: Sequence[float]
) -> NDArray[np.float32]:
    """(updates, sets, MOST_CONSTANTS): what an optimizer's step reads, for each of the updates after so many.

    The first set is for biases, and for all if there is no penalty (`twice_l2` is empty); then there is one a layer.
    """
    constants = optimizer.constants(updates_before + 1 + np.arange(updates))
    numbers = constants.shape[1]
    sets = np.zeros((updates, 1 + len(twice_l2), MOST_CONSTANTS), np.float32)
    sets[:, :, :numbers] = constants[:, np.newaxis]
    sets[:, 1:, numbers] = twice_l2
    return sets
