"""Initial weights, by Keras' names.

`uniform` weights are drawn from -limit to limit; `normal` ones from a normal distribution that is truncated at two
standard deviations and scaled to the standard deviation that the name promises. In the variances below, inputs and
units are the layer's: Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks"
(2010), equation 16; He et al., "Delving deep into rectifiers" (2015), equation 10; LeCun et al., "Efficient backprop"
(1998).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gpunet.errors import ArgumentError, shown

# Numerator and denominator.
VARIANCES: dict[str, Callable[[int, int], tuple[int, int]]] = {
    "glorot": lambda inputs, units: (2, inputs + units),
    "he": lambda inputs, units: (2, inputs),
    "lecun": lambda inputs, units: (1, inputs),
}
FIXED = 0.05  # limit and standard deviation of what depends on no size
ALIASES = {"uniform": "random_uniform", "normal": "random_normal", "zero": "zeros", "one": "ones"}
NAMES = (
    *(f"{rule}_{shape}" for rule in VARIANCES for shape in ("uniform", "normal")),
    *("random_uniform", "random_normal", "zeros", "ones"),
)
GLOROT, ZEROS = "glorot_uniform", "zeros"  # of weights and biases, if nothing is said
CUT = 2.0  # standard deviations
CUT_DEVIATION = 0.8796256610342398  # of a standard normal distribution that is cut there


def get(owner: str, name: object) -> str:
    """The initializer's full name. Raises ArgumentError for an unknown name."""
    full = ALIASES.get(name, name) if isinstance(name, str) else name
    if not isinstance(full, str) or full not in NAMES:
        raise ArgumentError(f"{owner}: expected one of {', '.join(NAMES)}; got {shown(name)}")
    return full


def drawn(name: str, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
    """A start: weights (inputs, units), or a bias (units,), for which inputs and units are both its length."""
    start = _drawn(name, shape, random)
    return start.astype(np.float32)


def _drawn(name: str, shape: tuple[int, ...], random: np.random.Generator) -> NDArray[np.floating]:
    if name in ("zeros", "ones"):
        return np.full(shape, float(name == "ones"))
    rule, _, distribution = name.partition("_")
    if rule == "random":
        return random.uniform(-FIXED, FIXED, shape) if distribution == "uniform" else random.normal(0, FIXED, shape)
    numerator, denominator = VARIANCES[rule](shape[0], shape[-1])
    if distribution == "uniform":
        limit = np.sqrt(3 * numerator / denominator)
        return random.uniform(-limit, limit, shape)
    from scipy.special import ndtr, ndtri  # only here: it takes as long to import as all of gpunet

    between = random.uniform(ndtr(-CUT), ndtr(CUT), shape)
    normal: NDArray[np.floating] = ndtri(between) * (np.sqrt(numerator / denominator) / CUT_DEVIATION)
    return normal
