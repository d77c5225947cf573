"""The lecture's network in Keras, trained by `fit`; the backend is chosen by who imports this."""

from __future__ import annotations

import keras
import numpy as np
from numpy.typing import NDArray
from peer import Job, NotHereError

if keras.backend.backend() == "tensorflow":
    import tensorflow

    tensorflow.config.experimental.enable_tensor_float_32_execution(False)  # float32 throughout, as gpunet
else:
    import jax

    jax.config.update("jax_default_matmul_precision", "highest")


def versions() -> dict[str, str]:
    found = {"keras": keras.__version__}
    if keras.backend.backend() == "tensorflow":
        found["tensorflow"] = tensorflow.__version__
    else:
        found["jax"] = jax.__version__
    return found


def trainer_class(steps_per_execution: int) -> type:
    class Trainer:
        def __init__(self, job: Job) -> None:
            if job.device == "cuda" and not _has_gpu():
                raise NotHereError(f"this {keras.backend.backend()} has no GPU")
            self.job = job
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
                steps_per_execution=min(steps_per_execution, job.updates),
            )
            self.targets = np.eye(10, dtype=np.float32)[job.labels]

        def train(self, order: NDArray[np.int32]) -> float:
            x, y = self.job.images[order], self.targets[order]
            history = self.model.fit(x, y, batch_size=self.job.batch_size, epochs=1, shuffle=False, verbose=0)
            return float(history.history["loss"][0])

    return Trainer


def _has_gpu() -> bool:
    if keras.backend.backend() == "tensorflow":
        return bool(tensorflow.config.list_physical_devices("GPU"))
    return any(device.platform == "gpu" for device in jax.devices())
