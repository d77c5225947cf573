"""TensorBoard: writes the logs, and from time to time the weights, as TensorBoard's event files, with tensorboardX.

It does not use tensorboardX's SummaryWriter: that writes in a thread, which ends with a traceback if the disk is full.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from gpunet.callbacks.base import Callback, Logs
from gpunet.checks import require_count
from gpunet.errors import ArgumentError, OutputError

# The bounds of TensorFlow's histograms: from 1e-12 on, each a tenth larger than the last; the same below 0.
_BOUNDS = 1e-12 * 1.1 ** np.arange(774)
BOUNDS = [*-_BOUNDS[::-1], 0.0, *_BOUNDS]
NOT_WRITTEN = ("write_graph", "write_images", "profile_batch", "embeddings_freq", "embeddings_metadata")


class TensorBoard(Callback):
    """Writes epoch_loss, epoch_accuracy and so on into log_dir/train and log_dir/validation, as Keras does.

    log_dir:                 folder to show with `tensorboard --logdir`.
    histogram_freq:          epochs between histograms of the weights; 0 for none.
    write_steps_per_second:  also write epoch_steps_per_second.
    update_freq:             "epoch"; "batch" is refused, because an epoch may be one launch.
    Keras' other arguments (write_graph, write_images, profile_batch, embeddings_freq) are accepted if they request
    nothing. Raises ArgumentError if tensorboardX is not installed, OutputError if the folder cannot be written.
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
        self._library = _library()
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
            self._write(part, epoch, self._library.scalar(f"epoch_{name.removeprefix('val_')}", value))
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            present = self.model.network.present
            places = [place for place, is_there in enumerate(present) if is_there]
            for place, weights in zip(places, self.model.get_weights(), strict=True):
                name = f"dense_{place // 2}/{'bias' if place % 2 else 'weights'}"
                self._write("train", epoch, self._library.histogram(f"{name}/histogram", weights, BOUNDS))
        self._try(lambda: [writer.flush() for writer in self._writers.values()])

    def on_train_end(self, logs: Logs | None = None) -> None:
        while self._writers:
            self._try(self._writers.popitem()[1].close)

    def _write(self, part: str, epoch: int, summary: Any) -> None:
        if part not in self._writers:
            folder = self.log_dir / part
            self._try(lambda: folder.mkdir(parents=True, exist_ok=True))
            file = folder / f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}"
            self._writers[part] = self._try(lambda: self._library.RecordWriter(str(file)))
            self._write_event(part, file_version="brain.Event:2")
        self._write_event(part, step=epoch, summary=summary)

    def _write_event(self, part: str, **content: Any) -> None:
        event = self._library.Event(wall_time=time.time(), **content)
        self._try(lambda: self._writers[part].write(event.SerializeToString()))

    def _try(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except OSError as error:
            while self._writers:
                with contextlib.suppress(OSError):  # what they have buffered cannot be written either
                    self._writers.popitem()[1].close()
            raise OutputError(f"TensorBoard: {self.log_dir}: cannot be written: {error.strerror or error}") from error


def _library() -> Any:
    """The parts of tensorboardX that are needed, by name."""
    try:
        from tensorboardX import record_writer, summary
        from tensorboardX.proto import event_pb2
    except ImportError as error:
        raise ArgumentError(f"TensorBoard: needs tensorboardX ({error}); pip install 'gpunet[tensorboard]'") from error
    return SimpleNamespace(
        RecordWriter=record_writer.RecordWriter,
        Event=event_pb2.Event,
        histogram=summary.histogram,
        scalar=summary.scalar,
    )
