"""TerminateOnNaN: ends a training that diverges, without an error."""

from __future__ import annotations

from gpunet.callbacks.base import Callback
from gpunet.errors import TrainingDivergedError


class TerminateOnNaN(Callback):
    """Ends training, with a printed line and no error, when the loss becomes NaN or infinite.

    The model is then as it was before that epoch (in Keras its weights are NaN).
    raise_error: True raises TrainingDivergedError, as `fit` does without this callback.
    """

    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = raise_error

    def on_divergence(self, error: TrainingDivergedError) -> None:
        if not self.raise_error:
            print(f"Epoch {error.epoch}, update {error.update}: invalid loss, terminating training")
            self.model.stop_training = True
