"""The two formats: named arrays and a text, as .safetensors or as .npz. The suffix says which.

Nothing is unpickled. Whatever is wrong with a file is a ModelFileError of one line that names it.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from gpunet.errors import ArgumentError, ModelFileError
from gpunet.saving import atomic

Arrays = dict[str, NDArray[Any]]
TEXT = "gpunet"  # the text's name: in the metadata of .safetensors, and in an .npz among the arrays


class Raw(NamedTuple):
    """What a file holds. text: None if another program wrote only arrays."""

    text: str | None
    arrays: Arrays


def write(path: str | os.PathLike[str], raw: Raw) -> None:
    """Raises ArgumentError for a suffix of no known format, OutputError if the file cannot be written."""
    checked = as_path(path)
    _, to_bytes = FORMATS[checked.suffix]
    atomic.write_bytes(checked, to_bytes(raw))


def read(path: str | os.PathLike[str]) -> Raw:
    """Raises ArgumentError for a suffix of no known format, ModelFileError for a file that cannot be read."""
    checked = as_path(path)
    from_file, _ = FORMATS[checked.suffix]
    if not checked.is_file():
        raise ModelFileError(f"{checked}: {'not a file' if checked.exists() else 'no such file'}")
    try:
        return from_file(checked)
    except ModelFileError:
        raise
    except OSError as error:
        raise ModelFileError(f"{checked}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the libraries have no common error for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelFileError(f"{checked}: damaged, cut short or no {checked.suffix} file: {reason}") from error


def as_path(path: object) -> Path:
    """The path, with a suffix that names a format; ArgumentError otherwise."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise ArgumentError(f"expected the path of a model file, got {path!r}")
    checked = Path(path)
    if checked.suffix not in FORMATS:
        raise ArgumentError(f"{path}: expected a model file, whose name ends in {' or '.join(FORMATS)}")
    return checked


def _safetensors_to_bytes(raw: Raw) -> bytes:
    # The library takes an array's memory as it lies, so every array has to be contiguous.
    arrays = {name: np.ascontiguousarray(array) for name, array in raw.arrays.items()}
    return bytes(safetensors.numpy.save(arrays, None if raw.text is None else {TEXT: raw.text}))


def _safetensors_from_file(path: Path) -> Raw:
    with safetensors.safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        metadata = dict(file.metadata() or {})
    if unknown := metadata.keys() - {TEXT, "format"}:  # PyTorch's and others' libraries write "format"
        raise ModelFileError(f"{path}: not written by gpunet: metadata {', '.join(sorted(unknown))}")
    return Raw(metadata.get(TEXT), arrays)


def _npz_to_bytes(raw: Raw) -> bytes:
    content = io.BytesIO()
    members: dict[str, Any] = raw.arrays if raw.text is None else {TEXT: np.array(raw.text), **raw.arrays}
    np.savez(content, **members)
    return content.getvalue()


def _npz_from_file(path: Path) -> Raw:
    if not zipfile.is_zipfile(path):  # NumPy would take it for a pickle, and say so
        raise ModelFileError(f"{path}: damaged, cut short or no .npz file")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name: np.asarray(archive[name]) for name in archive.files}
    text = arrays.pop(TEXT, None)
    return Raw(None if text is None else str(text), arrays)


FORMATS: dict[str, tuple[Callable[[Path], Raw], Callable[[Raw], bytes]]] = {
    ".safetensors": (_safetensors_from_file, _safetensors_to_bytes),
    ".npz": (_npz_from_file, _npz_to_bytes),
}
