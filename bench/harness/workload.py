"""The work of every engine and peer: the lecture's network on MNIST, with the same weights and order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import gpunet
from gpunet import Adam, Dense, Sequential
from gpunet.layers import LECTURE

EXAMPLES = 50_000
SEED = 0
NETWORK = LECTURE
LECTURE_SECONDS = {1: 166.0, 10: 17.0}  # an epoch on a GTX 980, by batch size, as the lecture states it


@dataclass(frozen=True)
class Workload:
    """images (50,000, 784) uint8, labels (50,000,) int32, order (50,000,) int32, weights in Keras' order.

    order and initial weights are those of the seed SEED.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int32]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int32]
    order: NDArray[np.int32]
    weights: list[NDArray[np.floating]]

    def save(self, path: Path) -> None:
        """Save the work for the peers, which run in their own processes."""
        names = ("images", "labels", "order")
        weights = {f"weights_{number}": array for number, array in enumerate(self.weights)}
        np.savez(path, **{name: getattr(self, name) for name in names}, **weights)


def lecture_model(seed: int = SEED) -> Sequential:
    layers = [Dense(500, "sigmoid", input_dim=784), Dense(500, "sigmoid"), Dense(10, "softmax")]
    return Sequential(layers, seed=seed)


def lecture_weights(seed: int = SEED) -> list[NDArray[np.floating]]:
    return lecture_model(seed).get_weights()


def batches(seed: int, updates: int, batch_size: int) -> NDArray[np.int32]:
    """The order of this many whole batches; each epoch has its own permutation."""
    epochs = -(-updates * batch_size // EXAMPLES)
    orders = [np.random.default_rng([seed, epoch]).permutation(EXAMPLES) for epoch in range(epochs)]
    return np.concatenate(orders)[: updates * batch_size].astype(np.int32)


def epoch_updates(batch_size: int) -> int:
    return -(-EXAMPLES // batch_size)


def load() -> Workload:
    dataset = gpunet.load_mnist()
    return Workload(
        dataset.train.images.reshape(EXAMPLES, 784),
        dataset.train.labels,
        dataset.test.images.reshape(-1, 784),
        dataset.test.labels,
        batches(SEED, EXAMPLES, 1),
        lecture_weights(),
    )


def optimizer() -> Adam:
    return Adam(learning_rate=0.001, epsilon=1e-8)
