"""TensorBoard: the logs, and now and then the weights, where TensorBoard finds them. Written by tensorboardX."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gpunet.callbacks.base import Callback, Logs
from gpunet.callbacks.monitor import require_count
from gpunet.errors import ArgumentError, OutputError

NOT_WRITTEN = ("write_graph", "write_images", "profile_batch", "embeddings_freq", "embeddings_metadata")


class TensorBoard(Callback):
    """Writes epoch_loss, epoch_accuracy and so on into log_dir/train and log_dir/validation, as Keras does.

    log_dir:                 folder to show with `tensorboard --logdir`.
    histogram_freq:          every how many epochs to write histograms of the weights; 0 for never.
    write_steps_per_second:  also write epoch_steps_per_second.
    update_freq:             "epoch"; "batch" is refused, because an epoch may be one launch.
    Keras' other arguments (write_graph, write_images, profile_batch, embeddings_freq) are taken where they ask for
    nothing. Raises ArgumentError where tensorboardX is not installed.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_steps_per_second: bool = False,
        update_freq: str = "epoch",
        **others: Any,
    ) -> None:
        if update_freq != "epoch":
            raise ArgumentError(
                f"TensorBoard: update_freq: expected 'epoch', got {update_freq!r}: nothing is known of an epoch's "
                "batches, because an epoch may be one launch"
            )
        for name, value in others.items():
            if name not in NOT_WRITTEN:
                raise ArgumentError(f"TensorBoard: unknown argument {name}={value!r}")
            if value:
                raise ArgumentError(f"TensorBoard: {name}={value!r} is not supported; expected nothing or {name}=0")
        if not isinstance(log_dir, str | os.PathLike) or not os.fspath(log_dir):
            raise ArgumentError(f"TensorBoard: log_dir: expected a folder, got {log_dir!r}")
        self.log_dir = Path(log_dir)
        self.histogram_freq = require_count("TensorBoard: histogram_freq", histogram_freq)
        self.write_steps_per_second = write_steps_per_second
        self._make_writer = _summary_writer()
        self._writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        assert self.model.optimizer is not None
        logs = logs or {}
        values = {name: value for name, value in logs.items() if name not in ("seconds", "updates")}
        values["learning_rate"] = self.model.optimizer.learning_rate
        if self.write_steps_per_second:
            values["steps_per_second"] = logs["updates"] / logs["seconds"]
        for name, value in values.items():
            part = "validation" if name.startswith("val_") else "train"
            self._writer(part).add_scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            for number, weights in enumerate(self.model.get_weights()):
                name = f"dense_{number // 2}/{'bias' if number % 2 else 'weights'}"
                self._writer("train").add_histogram(f"{name}/histogram", weights, epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        while self._writers:
            self._writers.popitem()[1].close()

    def _writer(self, part: str) -> Any:
        if part not in self._writers:
            try:
                self._writers[part] = self._make_writer(str(self.log_dir / part))
            except OSError as error:
                raise OutputError(f"TensorBoard: {self.log_dir}: cannot be written: {error.strerror}") from error
        return self._writers[part]


def _summary_writer() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ArgumentError(f"TensorBoard: needs tensorboardX ({error}); pip install 'gpunet[tensorboard]'") from error
    return SummaryWriter
