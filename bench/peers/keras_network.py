"""The lecture's network in Keras, trained by `fit`; the importing script chooses the backend."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray

from peer import Job, NotHereError, Trainer

if keras.backend.backend() == "tensorflow":
    import tensorflow

    tensorflow.config.experimental.enable_tensor_float_32_execution(False)  # float32 throughout, as gpunet
else:
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")

Batches = tuple[NDArray[np.float32], NDArray[np.float32]]


def versions() -> dict[str, str]:
    found = {"keras": keras.__version__}
    if keras.backend.backend() == "tensorflow":
        tf32 = tensorflow.config.experimental.tensor_float_32_execution_enabled()
        return {**found, "tensorflow": tensorflow.__version__, "matmul precision": "TF32" if tf32 else "float32"}
    return {**found, "jax": jax.__version__, "matmul precision": str(jax.config.jax_default_matmul_precision)}


class KerasTrainer(Trainer):
    def __init__(self, job: Job, steps_per_execution: int) -> None:
        if job.device == "cuda" and not _has_gpu():
            raise NotHereError(f"this {keras.backend.backend()} has no GPU")
        keras.utils.clear_session()  # another batch size's network
        self.batch_size = job.batch_size
        model = self.model = keras.Sequential()
        model.add(keras.Input((28 * 28,)))
        model.add(keras.layers.Dense(500))
        model.add(keras.layers.Activation("sigmoid"))
        model.add(keras.layers.Dense(500))
        model.add(keras.layers.Activation("sigmoid"))
        model.add(keras.layers.Dense(10))
        model.add(keras.layers.Activation("softmax"))
        model.set_weights(job.weights)
        model.compile(
            loss="categorical_crossentropy",
            optimizer=keras.optimizers.Adam(job.learning_rate, job.beta_1, job.beta_2, job.epsilon),
            metrics=["accuracy"],
            steps_per_execution=min(steps_per_execution, job.epoch_updates),
        )
        self.images, self.targets = job.floats, np.eye(10, dtype=np.float32)[job.labels]

    def prepare(self, order: NDArray[np.int32]) -> Batches:
        """The arrays in the order of training: `fit` can shuffle, but not in a given order."""
        return self.images[order], self.targets[order]

    def train(self, prepared: Batches) -> float:
        history = self.model.fit(*prepared, batch_size=self.batch_size, epochs=1, shuffle=False, verbose=0)
        return float(history.history["loss"][0])

    def device(self) -> str:
        value = self.model.trainable_variables[0].value
        if keras.backend.backend() == "tensorflow":
            return "cuda" if "GPU" in value.device else "cpu"
        (device,) = value.devices()
        return "cuda" if device.platform == "gpu" else "cpu"


def _has_gpu() -> bool:
    if keras.backend.backend() == "tensorflow":
        return bool(tensorflow.config.list_physical_devices("GPU"))
    return any(device.platform == "gpu" for device in jax.devices())
