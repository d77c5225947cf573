"""LinearDecay: the schedule `linear` of `gpunet train`."""

from __future__ import annotations

from gpunet.callbacks.base import Callback, Logs


class LinearDecay(Callback):
    """The learning rate falls by an equal amount after each epoch, and would be 0 in the epoch after the last."""

    def on_train_begin(self, logs: Logs | None = None) -> None:
        assert self.model.optimizer is not None
        self._start = self.model.optimizer.learning_rate

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        assert self.model.optimizer is not None
        self.model.optimizer.learning_rate = self._start * (1 - epoch / self.params["epochs"])
