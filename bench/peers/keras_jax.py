"""Keras on JAX, compiled, with `steps_per_execution`, as Keras' guides recommend for speed."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "jax"
from keras_network import KerasTrainer, versions
from peer import run

STEPS_PER_EXECUTION = 50

if __name__ == "__main__":
    name = f"Keras on JAX, steps_per_execution {STEPS_PER_EXECUTION}"
    run(name, versions, lambda job: KerasTrainer(job, STEPS_PER_EXECUTION))
