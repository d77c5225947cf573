"""Reader for .npz files in the layout of Keras' data sets: x_train, y_train, x_test, y_test. Never unpickles."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpunet.data.dataset import Part
from gpunet.errors import DataError, first_line

KEYS = ("x_train", "y_train", "x_test", "y_test")
VALIDATION_KEYS = ("x_val", "y_val")


def read_npz(path: Path) -> tuple[Part, ...]:
    """(train, test) from an .npz file, or (train, test, validation) if it has x_val and y_val as well.

    Raises DataError, naming the file, if it is damaged, lacks an array, or holds Python objects.
    """
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with path.open("rb") as file:  # is_zipfile only says no to an unreadable file, not why
            is_zip = zipfile.is_zipfile(file)
        if not is_zip:
            raise DataError(
                f"{path}: not an .npz file, or truncated; expected one with {', '.join(KEYS)}, or a folder of IDX files"
            )
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            keys = (*KEYS, *VALIDATION_KEYS) if set(VALIDATION_KEYS) & set(archive.files) else KEYS
            if missing := [key for key in keys if key not in archive.files]:
                raise DataError(
                    f"{path}: no array {missing[0]!r}; expected {', '.join(keys)}, found "
                    f"{', '.join(map(repr, archive.files)) or 'none'}"
                )
            for key in keys:
                arrays[key] = _member(archive, key, path)
    except (DataError, MemoryError):
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # zipfile, zlib and NumPy's header parser have no common error for a damaged file
        raise DataError(f"{path}: not a readable .npz file: {first_line(error)}") from error
    return tuple(
        Part(arrays[x], arrays[y], f"{path}: {x}", f"{path}: {y}")
        for x, y in (KEYS[:2], KEYS[2:], VALIDATION_KEYS)
        if x in arrays
    )


def _member(archive: Any, key: str, path: Path) -> NDArray[Any]:
    try:
        array = archive[key]
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DataError(f"{path}: {key} holds Python objects; expected numbers, or text (dtype=str)") from error
        raise
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: {key} is not an array")
    return array
