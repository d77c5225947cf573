"""Predictions of `gpunet predict`: as a JSON object, and as a table in a file."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet import class_names, files
from gpunet.errors import ArgumentError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
PARQUET = ".parquet"
SUFFIXES = (*DELIMITERS, PARQUET)


def record(probabilities: NDArray[np.floating], names: Sequence[str] | None, **what: object) -> dict[str, Any]:
    """For JSON. what: the file, or the row of a table."""
    best = int(probabilities.argmax())
    name = {} if names is None else {"name": names[best]}
    return {**what, "class": best, **name, "probabilities": [float(p) for p in probabilities]}


class PredictionsFile:
    """The table that `--output` asks for: what was predicted, the class, its probability, and those of all classes.

    first: what the first column is called.
    """

    def __init__(self, path: str, first: str, names: Sequence[str] | None, classes: int) -> None:
        self.path, self._names = path, names
        of_classes = [f"p({class_names.of(names, number)})" for number in range(classes)]
        self._header = [first, "class", "probability", *of_classes]
        self._rows: list[list[object]] = []

    def add(self, what: object, probabilities: NDArray[np.floating]) -> None:
        best = int(probabilities.argmax())
        label = best if self._names is None else self._names[best]
        shares = [float(share) for share in probabilities]
        self._rows.append([what, label, shares[best], *shares])

    def write(self) -> None:
        """Raises OutputError; an old file then stays as it was."""
        suffix = Path(self.path).suffix.lower()
        if suffix == PARQUET:
            frame = importlib.import_module("pandas").DataFrame(self._rows, columns=self._header)
            files.write_bytes(self.path, frame.to_parquet(index=False))
            return
        text = io.StringIO()
        csv.writer(text, delimiter=DELIMITERS[suffix], lineterminator="\n").writerows([self._header, *self._rows])
        files.write_bytes(self.path, text.getvalue().encode())


def check(path: str, model: str, sources: Sequence[str]) -> None:
    """Raise ArgumentError, before any work, if `--output` cannot be written, or would overwrite what is read."""
    files.check_output("--output", path)
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ArgumentError(f"--output: {path}: expected a name that ends in {', '.join(SUFFIXES)}")
    for source in sources:
        files.check_distinct({"MODEL": model, "IMAGE or TABLE": source, "--output": path})
    if suffix == PARQUET:
        try:
            importlib.import_module("pandas")
            importlib.import_module("pyarrow")
        except ImportError as error:
            raise ArgumentError(
                f"--output: {path}: Parquet needs pandas and pyarrow; pip install 'gpunet[tables]'"
            ) from error
