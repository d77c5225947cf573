"""CSVLogger: the logs as a table in a file."""

from __future__ import annotations

import csv
import io
import os

from gpunet.callbacks.base import Callback, Logs
from gpunet.errors import ArgumentError
from gpunet.files import LineFile


class CSVLogger(Callback):
    """Writes one row per epoch: its number, from 0, and the logs in alphabetical order.

    The complete row is in the file when its epoch has ended.
    append: continue an existing file instead of replacing it; the heading is written if the file is empty.
    Raises: OutputError if the file cannot be written.
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False) -> None:
        if not isinstance(filename, str | os.PathLike) or not os.fspath(filename):
            raise ArgumentError(f"CSVLogger: filename: expected a path, got {filename!r}")
        if not isinstance(separator, str) or len(separator) != 1 or separator in '"\r\n':
            raise ArgumentError(f"CSVLogger: separator: expected one letter, got {separator!r}")
        self.filename, self.separator, self.append = os.fspath(filename), separator, append
        self._file: LineFile | None = None
        self._columns: list[str] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._columns = []
        self._file = LineFile("CSVLogger", self.filename, self.append)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        assert self._file is not None
        row = {"epoch": epoch, **(logs or {})}
        text = io.StringIO(newline="")
        heading = not self._columns and self._file.empty
        self._columns = self._columns or ["epoch", *sorted(logs or {})]
        table = csv.DictWriter(text, self._columns, restval="NA", extrasaction="ignore", delimiter=self.separator)
        if heading:
            table.writeheader()
        table.writerow(row)
        self._file.write(text.getvalue())

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
