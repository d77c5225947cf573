"""Reader for tables, .csv and .parquet: one column has the classes, all others are numbers.

pandas reads the files (pip install 'gpunet[tables]'). A table has no parts of its own: a sixth of the rows of each
class is for testing and a sixth for validation. Which rows these are depends on the table alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.class_names import listed, numbered
from gpunet.data.dataset import Dataset, Examples, Part, Table, split
from gpunet.errors import ArgumentError, DataError, first_line

READERS: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("read_csv", {"low_memory": False}),  # else pandas warns of columns whose type changes halfway
    ".tsv": ("read_csv", {"low_memory": False, "sep": "\t"}),
    ".parquet": ("read_parquet", {}),
}
SUFFIXES = tuple(READERS)
PART = 6  # one in six rows of each class is for testing, and another for validation
MOST_WHOLE = 2**53  # below it, every whole number is a float64
ORDER_SEED = 0  # for the order in which rows are dealt out


def is_table(path: str | Path) -> bool:
    """Whether the name is that of a table; `.csv.gz` counts."""
    return _suffix(Path(path)) in READERS


def read_table(path: Path, target: str | None, columns: Sequence[str] | None = None) -> Dataset:
    """The table's rows as examples of classes.

    target:  the column with the classes.
    columns: those with the inputs; by default all others.
    Raises DataError, naming the file, if it cannot be read, or a column cannot be used.
    """
    frame = read_frame(path)
    table = _table(path, frame, target, columns)
    labels = _labels(path, frame[table.target])
    x = numbers(path, frame, table.columns)
    train, test, validation = (
        Part(x[rows], labels[rows], f"{path}: columns", f"{path}: {target}") for rows in _dealt(path, labels)
    )
    return split(train, test, validation, table=table)


def read_rows(path: Path, target: str | None, columns: Sequence[str] | None, names: Sequence[str] | None) -> Dataset:
    """The same with all rows in each part, to evaluate on a table that was not trained on.

    names: those of the known classes, if they have names; they may differ from the table's.
    """
    frame = read_frame(path)
    table = _table(path, frame, target, columns)
    column = frame[table.target]
    _require_classes(path, column)
    if names is None:
        whole = _whole(path, column)
        if whole is None:
            raise DataError(f"{path}: column {table.target!r} has text; expected class numbers, as in the training")
        if (outside := (whole < 0) | (whole > np.iinfo(np.int32).max)).any():
            raise DataError(
                f"{path}: column {table.target!r} has the class {whole[outside][0]}; expected 0, 1 and so on"
            )
        labels = whole.astype(np.int32)
    else:
        try:
            labels = numbered(f"{path}: {table.target}", _as_text(path, column), names)
        except ArgumentError as error:
            raise DataError(str(error)) from error
    rows = Examples(numbers(path, frame, table.columns), labels)
    return Dataset(rows, rows, rows, None if names is None else tuple(names), table)


def _table(path: Path, frame: Any, target: str | None, columns: Sequence[str] | None) -> Table:
    names = list(frame.columns)
    if target is None:
        raise DataError(f"{path}: which column has the classes? Give one as --target: {listed(names)}")
    if target not in names:
        raise DataError(f"{path}: there is no column {target!r} for --target; there are {listed(names)}")
    inputs = tuple(name for name in names if name != target) if columns is None else tuple(columns)
    if not inputs:
        raise DataError(f"{path}: there is no column but {target!r}; expected columns with numbers")
    return Table(target, inputs)


def read_frame(path: Path) -> Any:
    """The table as pandas' DataFrame, with at least one row and no column twice."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise DataError(f"{path}: reading tables needs pandas ({error}); pip install 'gpunet[tables]'") from error
    reader, options = READERS[_suffix(path)]
    try:
        if reader == "read_csv":  # rows with more values than names are an error here; below, they would shift columns
            first = pandas.read_csv(path, **options, header=None, nrows=2, dtype=str, keep_default_na=False)
        frame = getattr(pandas, reader)(path, **options)
        if reader == "read_csv":
            frame.columns = first.iloc[0]  # pandas renames what is there twice
    except MemoryError:
        raise
    except ImportError as error:  # no library that reads Parquet; the text has several lines of advice
        raise DataError(f"{path}: reading Parquet needs pyarrow; pip install 'gpunet[tables]'") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or first_line(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in UTF-8 ({first_line(error)}); save it as UTF-8") from error
    except Exception as error:  # pandas and pyarrow have no common error for a damaged file
        raise DataError(f"{path}: not a readable {_suffix(path)} file: {first_line(error)}") from error
    if not len(frame) or not len(frame.columns):
        raise DataError(f"{path}: has {len(frame)} rows and {len(frame.columns)} columns; expected some")
    frame.columns = frame.columns.map(str)
    if frame.columns[0] == "":
        raise DataError(
            f"{path}: the first column has no name, as an index that pandas wrote, and a network would learn from it: "
            "write the table with index=False, or give the column a name"
        )
    if "" in frame.columns:
        position = 1 + list(frame.columns).index("")
        raise DataError(
            f"{path}: column {position} of {len(frame.columns)} has no name; expected one, or no such column"
        )
    if (twice := frame.columns[frame.columns.duplicated()]).size:
        raise DataError(f"{path}: column {twice[0]!r} is there twice; give each a name of its own")
    return frame


def numbers(path: Path, frame: Any, columns: Sequence[str]) -> NDArray[np.float32]:
    """(rows, columns) of the frame. Raises DataError, naming the column, for one that has anything but numbers."""
    if missing := [name for name in columns if name not in frame.columns]:
        raise DataError(f"{path}: there is no column {missing[0]!r}; there are {listed(list(frame.columns))}")
    array = np.empty((len(frame), len(columns)), np.float32)
    for position, name in enumerate(columns):
        column = frame[name]
        if getattr(column.dtype, "kind", "O") not in "buif":
            raise DataError(
                f"{path}: column {name!r} has {_what(column)}; expected numbers: leave the column out, or convert it "
                "(pandas.get_dummies)"
            )
        if (absent := np.asarray(column.isna())).any():
            raise DataError(
                f"{path}: column {name!r} has no value in row {1 + int(absent.argmax())}; expected numbers: fill it "
                "in, or drop the row"
            )
        with np.errstate(over="ignore"):  # numbers that are too large become infinite
            array[:, position] = column.to_numpy(dtype=np.float64)
        if not (finite := np.isfinite(array[:, position])).all():
            raise DataError(
                f"{path}: column {name!r} has {column.iloc[int(finite.argmin())]} in row {1 + int(finite.argmin())}; "
                "expected finite numbers that float32 can hold"
            )
    return array


def _labels(path: Path, column: Any) -> NDArray[Any]:
    """The classes of the rows: whole numbers if they are 0, 1, ... without a gap, else text."""
    _require_classes(path, column)
    whole = _whole(path, column)
    if whole is not None and np.array_equal(distinct := np.unique(whole), np.arange(len(distinct))):
        return whole
    return _as_text(path, column)


def _require_classes(path: Path, column: Any) -> None:
    if (absent := np.asarray(column.isna())).any():
        raise DataError(
            f"{path}: column {column.name!r} has no class in row {1 + int(absent.argmax())}; expected "
            "one: fill it in, or drop the row (as text, NA, None and null count as nothing)"
        )


def _whole(path: Path, column: Any) -> NDArray[np.int64] | None:
    """A column of numbers, which must be whole; None for other columns."""
    if getattr(column.dtype, "kind", "O") not in "iuf":
        return None
    values = column.to_numpy(dtype=np.float64)
    fractions = np.floor(values) != values
    if fractions.any():
        raise DataError(
            f"{path}: column {column.name!r} has fractions, such as {values[fractions][0]:g}; expected classes: names, "
            "or whole numbers"
        )
    large = ~(np.abs(values) < MOST_WHOLE)
    if large.any():
        raise DataError(
            f"{path}: column {column.name!r} has {column.iloc[int(large.argmax())]} in row {1 + int(large.argmax())}; "
            "expected classes: names, or smaller whole numbers"
        )
    whole: NDArray[np.int64] = values.astype(np.int64)
    return whole


def _as_text(path: Path, column: Any) -> NDArray[np.str_]:
    whole = _whole(path, column)
    return np.array([str(value) for value in (column if whole is None else whole.tolist())], np.str_)


def _dealt(path: Path, labels: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """(train, test, validation): rows in a random order that is always the same, each class split alike."""
    order = np.random.default_rng(ORDER_SEED).permutation(len(labels))
    shuffled = labels[order]
    part = np.zeros(len(order), np.int8)
    for label in np.unique(labels):
        own = np.flatnonzero(shuffled == label)
        share = len(own) // PART
        part[own[:share]], part[own[share : 2 * share]] = 1, 2
    if not part.any():
        raise DataError(
            f"{path}: no class has {PART} rows, of which one could be for testing and one for validation; expected more"
        )
    train, test, validation = (order[part == number] for number in range(3))
    return train, test, validation


def _what(column: Any) -> str:
    """What a column contains, for a message."""
    if column.map(lambda value: isinstance(value, str)).any():
        text = next(value for value in column if isinstance(value, str))
        return f"text, such as {text[:30]!r}"
    return f"the data type {column.dtype}"


def _suffix(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    return Path(name).suffix
