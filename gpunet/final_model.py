"""FinalModel: what `gpunet train --save` writes, however training ends."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable
from pathlib import Path

from gpunet import files, saving
from gpunet.data import Dataset, Origin
from gpunet.errors import OutputError
from gpunet.interruption import Interruption
from gpunet.model import Sequential
from gpunet.page.invitation import invitation


class FinalModel:
    """The model that `--save` asks for, if anything; what cannot be written to the path is written elsewhere.

    failures: why, and where the model is instead.
    """

    def __init__(self, model: Sequential, path: str | None, dataset: Dataset, path_of_data: str | None) -> None:
        self._model, self._path, self._saved = model, path, False
        self._dataset, self._path_of_data = dataset, path_of_data
        self.failures: list[OutputError] = []

    def save(self) -> None:
        if self._path is None:
            return
        try:
            self._write(self._path)
            self._saved = True
        except OutputError as error:
            self.failures.append(OutputError(f"--save: {error}{self._save_instead(files.instead_of(self._path))}"))

    def invitation(self) -> str | None:
        """How to make a page of what was saved, if that is a model of images."""
        if self._dataset.table is not None:
            return None
        shape = self._dataset.train.images.shape[1:]
        return invitation(self._path, shape) if self._saved and self._path is not None else None

    def save_interrupted(self, interruption: Interruption, best: int | None = None) -> str:
        """Save what there is, and say so: the end of a line.

        best: the epoch that the model's weights are of, if not of the last one.
        """
        if self._path is None:
            return ""
        if not (self._saved or self.failures):
            if interruption.at_once or not self._model.epochs_trained:
                return f"; nothing was saved: {'stopped at once' if interruption.at_once else 'no epoch finished'}"
            self.save()
        when = "then" if best is None else f"epoch {best}, the best one,"
        return f"; the model as of {when} is in {self._path}" if self._saved else ""

    def not_saved(self) -> str:
        """The end of a line about training that failed: that there is no model."""
        return "" if self._path is None or self._saved else f" Nothing was saved to {self._path}."

    def _write(self, path: str | Path) -> None:
        origin = Origin.of(self._dataset, self._path_of_data)
        saving.write(path, dataclasses.replace(self._model.saved(), data=origin))

    def _save_instead(self, places: Iterable[Path]) -> str:
        for place in places:
            with contextlib.suppress(OutputError):
                self._write(place)
                return f"; the model is in {place} instead"
        return "; the model could not be saved elsewhere either"
