"""Data sets: the bundled MNIST, others in its format (IDX files), Keras' (.npz), and tables. Nothing is downloaded.

Images stay as they are stored (uint8 for IDX files); an engine converts a batch when it is used.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from gpunet.data.dataset import Dataset, Examples, Table, split
from gpunet.data.idx import read_idx_folder
from gpunet.data.npz import read_npz
from gpunet.data.origin import MNIST, Origin, fingerprint
from gpunet.data.table import SUFFIXES, is_table, read_rows, read_table
from gpunet.errors import DataError

EXPECTED = f"a folder of IDX files, an .npz file or a table ({', '.join(SUFFIXES)})"

__all__ = [
    "MNIST",
    "Dataset",
    "Examples",
    "Origin",
    "Table",
    "fingerprint",
    "is_table",
    "load",
    "load_mnist",
    "read_rows",
]


def load_mnist() -> Dataset:
    """The bundled MNIST, in the lecture's split: 50,000 training, 10,000 validation and 10,000 test examples.

    Images (n, 28, 28) uint8, labels (n,) int32 in 0..9. Validation is the last 10,000 of the training file.
    """
    return load(Path(__file__).parent / "mnist")


def load(path: str | Path, target: str | None = None, columns: Sequence[str] | None = None) -> Dataset:
    """The data set at `path`: a folder of IDX files, an .npz with x_train, y_train, x_test, y_test, or a table.

    The last sixth of the training examples becomes the validation part, as 10,000 of 60,000 in MNIST, unless the .npz
    has x_val and y_val. Of a table's rows, a sixth of each class is for validation and a sixth for testing, in a random
    order that is always the same.
    target: of a table (.csv, .tsv, .parquet), the column with the classes; columns: those with the inputs, by default
            all others.
    Raises DataError, naming the file, if something is missing, damaged or inconsistent.
    """
    path = Path(path)
    if target is not None and not is_table(path):
        raise DataError(f"{path}: no table, so it has no column {target!r}; leave the target out, or give a table")
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file or folder; expected {EXPECTED}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(mode) and not is_table(path):
        return split(*read_idx_folder(path))
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: not a regular file; expected {EXPECTED}")
    if is_table(path):
        return read_table(path, target, columns)
    train, test, *validation = read_npz(path)
    return split(train, test, *validation)
