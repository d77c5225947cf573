"""What a model's seed determines: the initial weights, and the order of the examples in every epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpunet import first_weights
from gpunet.first_weights import ZEROS
from gpunet.layers import Network

START, SHUFFLE = 0, 1  # the keys keep the streams of random numbers apart
BIAS = 0


def drawn_seed() -> int:
    """A seed for a model that was given none."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def start(network: Network, seed: int, names: Sequence[tuple[str, str]]) -> list[NDArray[np.floating]]:
    """Weights (inputs, units) and biases (units,), layer after layer; float32.

    names: for each layer, how its weights and its biases begin (gpunet/first_weights.py).
    """
    weights: list[NDArray[np.floating]] = []
    for layer, ((inputs, units), (weights_name, bias_name)) in enumerate(zip(network.sizes, names, strict=True)):
        weights.append(first_weights.drawn(weights_name, (inputs, units), _random(seed, START, layer)))
        start = bias_name if network.biases[layer] else ZEROS
        weights.append(first_weights.drawn(start, (units,), _random(seed, START, layer, BIAS)))
    return weights


def epoch_order(seed: int, epoch: int, examples: int) -> NDArray[np.int32]:
    """The shuffled indices of the examples; epoch: how many the model was trained before."""
    return _random(seed, SHUFFLE, epoch).permutation(examples).astype(np.int32)


def _random(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
