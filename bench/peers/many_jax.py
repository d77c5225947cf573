"""JAX with many networks: `vmap` over a `lax.scan` over updates, with optax' Adam; each network has its own rate."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jax_network import mean_loss
from many_peer import BETA_1, BETA_2, EPSILON, Job, Trainer, run


def versions() -> dict[str, str]:
    return {"jax": jax.__version__, "optax": optax.__version__}


class VmapTrainer(Trainer):
    def __init__(self, job: Job) -> None:
        self.batch_size = job.batch_size
        self.images, self.labels = jnp.asarray(job.floats), jnp.asarray(job.labels)
        weights = [jnp.asarray(array) for array in job.weights]
        adam = optax.scale_by_adam(BETA_1, BETA_2, EPSILON)
        self.state = weights, jax.vmap(adam.init)(weights)
        self.rates = jnp.asarray(job.rates)

        def one_network(state, rate, images, labels):
            def update(state, batch):
                weights, moments = state
                value, gradients = jax.value_and_grad(mean_loss)(weights, *batch)
                steps, moments = adam.update(gradients, moments)
                weights = jax.tree.map(lambda w, step: w - rate * step, weights, steps)
                return (weights, moments), value

            state, losses = jax.lax.scan(update, state, (images, labels))
            return state, losses.mean()

        self.epoch = jax.jit(jax.vmap(one_network, in_axes=(0, 0, None, None)), donate_argnums=0)

    def train(self, updates: int) -> Sequence[float]:
        examples = updates * self.batch_size
        images = self.images[:examples].reshape(updates, self.batch_size, -1)
        labels = self.labels[:examples].reshape(updates, self.batch_size)
        self.state, losses = self.epoch(self.state, self.rates, images, labels)
        jax.block_until_ready(self.state)
        return np.asarray(losses).tolist()


if __name__ == "__main__":
    run("JAX vmap of lax.scan", versions, VmapTrainer)
