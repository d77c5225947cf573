"""Keras as in the lecture: Sequential, Dense, Activation, compile, fit; on TensorFlow."""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
from keras_network import KerasTrainer, versions
from peer import run

if __name__ == "__main__":
    run("Keras on TensorFlow, the lecture's code", versions, lambda job: KerasTrainer(job, steps_per_execution=1))
