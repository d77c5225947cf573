"""The two formats: named arrays and a text, as .safetensors or .npz. The suffix decides.

Nothing is unpickled. Every fault of a file is a ModelFileError, one line that names the file.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from gpunet import files
from gpunet.errors import ArgumentError, ModelFileError

Arrays = dict[str, NDArray[Any]]
TEXT = "gpunet"  # the text's name: in the metadata of .safetensors, and among the arrays of an .npz
MOST_TEXT = 2**24  # bytes of the text in an .npz; gpunet's have a few thousand
MOST_HEADER = 2 * MOST_TEXT  # bytes of the header of .safetensors: the text, as a string in JSON, and the arrays' names
LARGEST = 8  # bytes of the largest number in an array
HEADER = 2**12  # bytes before an array in an .npz; NumPy writes 128
TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BOOL": "|b1",
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
}  # NumPy's types by their names in .safetensors
Sizes = Callable[[str | None], Mapping[str, int]]  # from the text: its arrays' numbers of elements


class Raw(NamedTuple):
    """What a file holds. text: None if another program wrote only arrays."""

    text: str | None
    arrays: Arrays


def write(path: str | os.PathLike[str], raw: Raw) -> None:
    """Raises ArgumentError for an unknown suffix, OutputError if the file cannot be written."""
    checked = as_path(path)
    _, to_bytes = FORMATS[checked.suffix]
    files.write_bytes(checked, to_bytes(raw))


def read(path: str | os.PathLike[str], sizes: Sizes) -> Raw:
    """A file's content. sizes: prevents a small file from unpacking to a huge one; may raise ModelFileError.

    Raises ArgumentError for an unknown suffix, ModelFileError for a file that cannot be read.
    """
    checked = as_path(path)
    from_file, _ = FORMATS[checked.suffix]
    if not checked.is_file():
        raise ModelFileError(f"{checked}: {'not a file' if checked.exists() else 'no such file'}")
    try:
        with checked.open("rb"):  # the libraries report an unreadable file differently
            pass
        return from_file(checked, sizes)
    except (ModelFileError, MemoryError):
        raise
    except OSError as error:
        raise ModelFileError(f"{checked}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # the libraries have no common error for a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelFileError(f"{checked}: damaged, truncated or not a {checked.suffix} file: {reason}") from error


def as_path(path: object) -> Path:
    """The path; ArgumentError unless its suffix names a format."""
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise ArgumentError(f"expected the path of a model file, got {path!r}")
    checked = Path(path)
    if checked.suffix not in FORMATS:
        raise ArgumentError(f"{path}: expected a name that ends in {' or '.join(FORMATS)}")
    return checked


def _safetensors_to_bytes(raw: Raw) -> bytes:
    # The library writes an array's memory as it is, so every array has to be contiguous.
    arrays = {name: np.ascontiguousarray(array) for name, array in raw.arrays.items()}
    return bytes(safetensors.numpy.save(arrays, None if raw.text is None else {TEXT: raw.text}))


def _safetensors_from_file(path: Path, sizes: Sizes) -> Raw:
    """First the header, checked against the file's size and the model's arrays; then only those arrays.

    Layout: eight bytes with the length of the header; the header (JSON: each array's type, shape, start and end; and
    the metadata); the arrays without gaps. Source: the format's description in safetensors' README.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MOST_HEADER):
            raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
        header = dict(json.loads(file.read(length).decode()))
        metadata = dict(header.pop("__metadata__", None) or {})
        if unlike := [name for name, entry in header.items() if entry["dtype"] == "BF16"]:
            raise ModelFileError(
                f"{path}: {unlike[0]} has PyTorch's type bfloat16, which NumPy lacks; save model.float().state_dict()"
            )
        if unknown := metadata.keys() - {TEXT, "format"}:  # PyTorch and other libraries write "format"
            raise ModelFileError(f"{path}: not written by gpunet: metadata {', '.join(sorted(unknown))}")
        parts = sorted((*entry["data_offsets"], name) for name, entry in header.items())
        bounds = [0, *(end for _, end, _ in parts)]
        if [begin for begin, _, _ in parts] != bounds[:-1] or bounds[-1] != size - 8 - length:
            raise ValueError("the arrays do not fill the file")
        text = metadata.get(TEXT)
        elements, arrays = sizes(text), {}
        for begin, end, name in parts:
            _require_known(path, name, elements)
            dtype, shape = np.dtype(TYPES[header[name]["dtype"]]), header[name]["shape"]
            if math.prod(shape) * dtype.itemsize != end - begin:
                raise ValueError(f"{name} does not have the size that its header says")
            if end - begin > elements[name] * LARGEST:
                raise ModelFileError(
                    f"{path}: {name} has {end - begin:,} bytes; expected at most {elements[name] * LARGEST:,}"
                )
            arrays[name] = np.frombuffer(file.read(end - begin), dtype).reshape(shape)
    return Raw(text, arrays)


def _npz_to_bytes(raw: Raw) -> bytes:
    content = io.BytesIO()
    members: dict[str, Any] = raw.arrays if raw.text is None else {TEXT: np.array(raw.text), **raw.arrays}
    np.savez(content, **members)
    return content.getvalue()


def _npz_from_file(path: Path, sizes: Sizes) -> Raw:
    """First the text, then only arrays that belong to it, none larger than it can be."""
    if not zipfile.is_zipfile(path):
        raise ModelFileError(f"{path}: damaged, truncated or not an .npz file")
    arrays: Arrays = {}
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        text = None
        if TEXT in members:
            text = str(_npz_array(path, archive, members.pop(TEXT), MOST_TEXT))
        elements = sizes(text)
        for name, info in members.items():
            _require_known(path, name, elements)
            arrays[name] = _npz_array(path, archive, info, elements[name] * LARGEST)
    return Raw(text, arrays)


def _npz_array(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> NDArray[Any]:
    """An array of at most this many bytes. Raises ModelFileError for a larger one before it is unpacked."""
    if info.file_size > most + HEADER:
        raise ModelFileError(
            f"{path}: {info.filename} unpacks to {info.file_size:,} bytes; expected at most {most + HEADER:,}"
        )
    with archive.open(info) as file:
        content = file.read(info.file_size)  # given a size, it unpacks no more than that
    stream = io.BytesIO(content)
    header = np.lib.format.read_array_header_1_0 if np.lib.format.read_magic(stream) == (1, 0) else None
    if header is None:
        raise ValueError(f"{info.filename} is not in NumPy's format 1.0")
    shape, _, dtype = header(stream)
    size = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and size != len(content) - stream.tell():  # before NumPy allocates it
        raise ValueError(f"{info.filename} does not have the size that its header says")
    stream.seek(0)
    array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _require_known(path: Path, name: str, elements: Mapping[str, int]) -> None:
    if name not in elements:
        raise ModelFileError(f"{path}: unexpected array {name!r}, which does not belong to the model")


FORMATS: dict[str, tuple[Callable[[Path, Sizes], Raw], Callable[[Raw], bytes]]] = {
    ".safetensors": (_safetensors_from_file, _safetensors_to_bytes),
    ".npz": (_npz_from_file, _npz_to_bytes),
}
