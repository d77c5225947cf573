"""Callback: the base class of all hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpunet.errors import ArgumentError, TrainingDivergedError, shown

if TYPE_CHECKING:
    from gpunet.model import Sequential

Logs = dict[str, float]

PER_BATCH = tuple(
    f"on_{phase}batch_{moment}" for phase in ("", "train_", "test_", "predict_") for moment in ("begin", "end")
)


class Callback:
    """Override what you need; the names and arguments are Keras'. Epochs count from 0.

    logs at the end of an epoch: loss, accuracy, seconds, updates, and with validation data val_loss, val_accuracy.
    What a callback adds to them is visible to the callbacks after it in the list, and kept in History.
    params: "epochs" planned, "steps" (updates per epoch), and "do_validation": whether there is validation data.
    Set `self.model.stop_training = True` to end training after the epoch.
    """

    model: Sequential
    params: dict[str, int]

    def set_model(self, model: Sequential) -> None:
        self.model = model

    def set_params(self, params: dict[str, int]) -> None:
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None: ...

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None: ...

    def on_progress(self, updates: int) -> None:
        """Called whenever the engine checks its progress. updates: how many of this epoch have been started."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None: ...

    def on_divergence(self, error: TrainingDivergedError) -> None:
        """The loss became NaN or infinite; the model is as before the epoch.

        `fit` raises the error, unless `self.model.stop_training = True` is set here.
        """

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called however training ends, if on_train_begin was called and succeeded."""


def check_callback(callback: object) -> Callback:
    """The callback; ArgumentError if it is not one, or expects calls for every batch."""
    if not isinstance(callback, Callback):
        raise ArgumentError(f"callbacks: expected gpunet.Callback objects, got {shown(callback)}")
    for name in PER_BATCH:
        if hasattr(callback, name):
            raise ArgumentError(
                f"callbacks: {type(callback).__name__}.{name} would never be called, because an epoch may be one "
                "launch; use on_epoch_begin or on_epoch_end"
            )
    return callback
