"""Reader for .npz files in the layout of Keras' data sets: x_train, y_train, x_test, y_test. Never unpickles."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.data.dataset import Part
from gpunet.errors import DataError

KEYS = ("x_train", "y_train", "x_test", "y_test")


def read_npz(path: Path) -> tuple[Part, Part]:
    """(train, test) from an .npz file.

    Raises DataError, naming the file, if it is damaged, lacks an array, or holds Python objects.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        if not zipfile.is_zipfile(path):
            raise DataError(
                f"{path}: not an .npz file, or cut short; expected one with {', '.join(KEYS)}, or a folder of IDX files"
            )
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if missing := [key for key in KEYS if key not in archive.files]:
                raise DataError(
                    f"{path}: no array {missing[0]!r}; expected {', '.join(KEYS)}, found "
                    f"{', '.join(map(repr, archive.files)) or 'none'}"
                )
            for key in KEYS:
                arrays[key] = _member(archive, key, path)
    except (DataError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile, zlib and NumPy's header parser have no common error for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a readable .npz file: {reason}") from error
    train, test = (
        Part(arrays[x], arrays[y], f"{path}: {x}", f"{path}: {y}")
        for x, y in (("x_train", "y_train"), ("x_test", "y_test"))
    )
    return train, test


def _member(archive: Any, key: str, path: Path) -> NDArray[Any]:
    try:
        array = archive[key]
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{path}: {key} holds Python objects; expected numbers") from error
        raise
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: {key} is no array")
    return array
