"""The network in JAX, for the scripts that train it."""

from __future__ import annotations

import jax
import optax


def mean_loss(weights: list[jax.Array], images: jax.Array, labels: jax.Array) -> jax.Array:
    hidden = images
    for matrix, bias in zip(weights[:-2:2], weights[1:-2:2], strict=True):
        hidden = jax.nn.sigmoid(hidden @ matrix + bias)
    logits = hidden @ weights[-2] + weights[-1]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
