"""`gpunet predict MODEL TABLE`: the classes of a table's rows."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from gpunet import class_names, commandline, predictions, saving
from gpunet.data import table
from gpunet.errors import ArgumentError, DataError
from gpunet.model import restore
from gpunet.predictions import PredictionsFile
from gpunet.saving import Saved


def predict(options: argparse.Namespace, path: str) -> int:
    """Print or write a prediction for each row; the exit status.

    The columns are those of the training, whatever others there are; a model that does not know them takes all.
    """
    saved = saving.read(options.model)
    model = restore(saved, options.device, options.engine)
    frame = table.read_frame(Path(path))
    x = table.numbers(Path(path), frame, _columns(options.model, saved, path, list(frame.columns)))
    names, probabilities = model.class_names, model.predict(x)
    if options.output is not None:
        file = PredictionsFile(options.output, "row", names, model.network.classes)
        for row, shares in enumerate(probabilities, start=1):
            file.add(row, shares)
        file.write()
        if not options.json:
            print(f"{commandline.one_line(path)}: {len(x):,} rows; their classes are in {options.output}", flush=True)
            return commandline.DONE
    for row, shares in enumerate(probabilities, start=1):
        if options.json:
            print(json.dumps(predictions.record(shares, names, row=row)))
        else:
            best = int(shares.argmax())
            print(commandline.one_line(f"row {row}: {class_names.of(names, best)}, {100 * shares[best]:.1f} %"))
    return commandline.DONE


def only(paths: list[str]) -> str:
    """The one table among the paths; ArgumentError if there is more than it."""
    if len(paths) > 1:
        raise ArgumentError(f"TABLE: expected one table, or images; got {len(paths)} paths")
    return paths[0]


def _columns(model: str, saved: Saved, path: str, names: list[str]) -> list[str]:
    if saved.data is not None and saved.data.columns is not None:
        return list(saved.data.columns)
    if len(names) != saved.network.inputs:
        raise DataError(
            f"{path}: {len(names)} columns, but {model} has {saved.network.inputs} inputs and does not say which "
            "columns they are; expected a table of these alone"
        )
    return names
