"""What a model's seed decides: the first weights, and the order of the examples in every epoch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpunet.layers import Network

START, SHUFFLE = 0, 1  # the keys keep the two streams of random numbers apart


def drawn_seed() -> int:
    """A seed for a model that was given none."""
    return int(np.random.SeedSequence().generate_state(1)[0])


def first_weights(network: Network, seed: int) -> list[NDArray[np.floating]]:
    """Weights (inputs, units) Glorot uniform and biases (units,) zero, layer after layer; float32.

    Source: Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks (2010),
    equation 16: uniform in +-sqrt(6 / (inputs + units)).
    """
    weights: list[NDArray[np.floating]] = []
    for layer, (inputs, units) in enumerate(network.sizes):
        limit = np.sqrt(6 / (inputs + units))
        start = _random(seed, START, layer).uniform(-limit, limit, (inputs, units))
        weights += [start.astype(np.float32), np.zeros(units, np.float32)]
    return weights


def epoch_order(seed: int, epoch: int, examples: int) -> NDArray[np.int32]:
    """The shuffled indices of the examples; epoch: how many the model was trained before."""
    return _random(seed, SHUFFLE, epoch).permutation(examples).astype(np.int32)


def _random(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
