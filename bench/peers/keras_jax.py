"""Keras on JAX, compiled, with `steps_per_execution`, as Keras' guides advise for speed."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "jax"
from keras_network import trainer_class, versions
from peer import run

STEPS_PER_EXECUTION = 50

if __name__ == "__main__":
    run("Keras on JAX, steps_per_execution 50", versions, trainer_class(STEPS_PER_EXECUTION))
