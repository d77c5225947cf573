"""JAX: an epoch as one jitted lax.scan over updates, with optax' Adam; buffers are donated."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from jax_network import mean_loss
from peer import Job, NotHereError, Trainer, run


def versions() -> dict[str, str]:
    precision = str(jax.config.jax_default_matmul_precision)
    return {"jax": jax.__version__, "optax": optax.__version__, "matmul precision": precision}


class ScanTrainer(Trainer):
    def __init__(self, job: Job) -> None:
        platform = {"cuda": "gpu", "cpu": "cpu"}[job.device]
        try:
            device = jax.devices(platform)[0]
        except RuntimeError as error:
            raise NotHereError(f"this JAX has no device {platform}") from error
        jax.config.update("jax_default_device", device)
        jax.config.update("jax_default_matmul_precision", "highest")  # float32 throughout, as gpunet
        self.batch_size = job.batch_size
        self.images, self.labels = jax.device_put((job.floats, job.labels), device)
        weights = [jnp.asarray(array) for array in job.weights]
        adam = optax.adam(job.learning_rate, job.beta_1, job.beta_2, job.epsilon)
        self.state = weights, adam.init(weights)

        def epoch(state, batches, images, labels):
            def update(state, batch):
                weights, moments = state
                value, gradients = jax.value_and_grad(mean_loss)(weights, images[batch], labels[batch])
                steps, moments = adam.update(gradients, moments)
                return (optax.apply_updates(weights, steps), moments), value

            state, losses = jax.lax.scan(update, state, batches)
            return state, losses.mean()

        self.epoch = jax.jit(epoch, donate_argnums=0)

    def train(self, prepared: NDArray[np.int32]) -> float:
        batches = jnp.asarray(prepared.reshape(-1, self.batch_size))
        self.state, mean = self.epoch(self.state, batches, self.images, self.labels)
        jax.block_until_ready(self.state)
        return float(mean)

    def device(self) -> str:
        (device,) = self.state[0][0].devices()
        return "cuda" if device.platform == "gpu" else device.platform


if __name__ == "__main__":
    run("JAX lax.scan", versions, ScanTrainer)
