"""MetricsFile: what `gpunet train --metrics` writes."""

from __future__ import annotations

import json
from typing import TextIO

from gpunet.callbacks.base import Callback, Logs
from gpunet.errors import ArgumentError, OutputError
from gpunet.files import LineFile

STANDARD_OUTPUT = "-"  # as the path


class MetricsFile(Callback):
    """Writes one JSON object per epoch, each on a line, as soon as it is known, and the test result after them.

    path:    of the file, or STANDARD_OUTPUT for the stream.
    append:  continue the file of a training that is resumed; an epoch that was trained twice is then in it twice.
    result:  what `close` writes as the last line, if anything.
    failure: why the file could not be written any further, if so; training continues without it.
    """

    def __init__(self, path: str, stream: TextIO, append: bool = False) -> None:
        try:
            self._file = None if path == STANDARD_OUTPUT else LineFile("--metrics", path, append)
        except OutputError as error:
            raise ArgumentError(str(error)) from error
        self._stream = stream
        self.result: dict[str, float] | None = None
        self.failure: OutputError | None = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        us = 1e6 * logs["seconds"] / logs["updates"]
        self._write({"epoch": epoch + 1, **logs, "us_per_update": us})

    def close(self) -> None:
        if self.result is not None:
            self._write(self.result)
        if self._file is not None:
            self._file.close()

    def _write(self, record: dict[str, float]) -> None:
        line = json.dumps(record, allow_nan=False) + "\n"
        if self._file is None:
            print(line, end="", file=self._stream, flush=True)
        elif self.failure is None:
            try:
                self._file.write(line)
            except OutputError as error:
                self.failure = error
