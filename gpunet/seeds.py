"""What a model's seed determines: initial weights; in every epoch the examples' order, and what dropout drops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpunet import first_weights
from gpunet.engines.dropout import Key
from gpunet.first_weights import ZEROS
from gpunet.layers import Network

START, SHUFFLE, DROP = 0, 1, 2  # the keys keep the streams of random numbers apart
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


def epoch_key(seed: int, epoch: int) -> Key:
    """The key of an epoch's random numbers for Dropout; epoch: as in `epoch_order`."""
    first, second = np.random.SeedSequence(seed, spawn_key=(DROP, epoch)).generate_state(2)
    return int(first), int(second)


def _random(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
