"""Reader for IDX, the format of MNIST and its relatives, plain or gzip.

A file is a big-endian magic number (two zero bytes, the data type, the number of dimensions), the size of each
dimension as a 32-bit number, and the data, row-major. Source: the format's description on MNIST's home page.
"""

from __future__ import annotations

import fnmatch
import gzip
import io
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpunet.data.dataset import Part
from gpunet.errors import DataError

UNSIGNED_BYTE = 0x08
IMAGES_DIMENSIONS, LABELS_DIMENSIONS = 3, 1
CHUNK_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"


def read_idx_folder(folder: Path) -> tuple[Part, Part]:
    """(train, test) from the four files of a folder, named like MNIST's; a prefix such as `emnist-` is allowed.

    Raises DataError, naming the file, if one is missing or damaged.
    """
    parts = []
    for names in (("train",), ("t10k", "test")):
        images_path = _find(folder, names, f"images*idx{IMAGES_DIMENSIONS}-ubyte")
        labels_path = _find(folder, names, f"labels*idx{LABELS_DIMENSIONS}-ubyte")
        images = read_idx(images_path, IMAGES_DIMENSIONS)
        labels = read_idx(labels_path, LABELS_DIMENSIONS)
        parts.append(Part(images, labels, str(images_path), str(labels_path)))
    return parts[0], parts[1]


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes with this number of dimensions.

    Raises DataError, naming the file, if it is missing, truncated, too long, corrupt, or another kind of file.
    """
    if not path.is_file():
        raise DataError(f"{path}: not a regular file; expected an IDX file")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _parse(file, path, dimensions)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _parse(file: gzip.GzipFile | io.BufferedReader, path: Path, dimensions: int) -> NDArray[np.uint8]:
    expected_magic = UNSIGNED_BYTE << 8 | dimensions
    header_bytes = 4 + 4 * dimensions
    header = file.read(header_bytes)
    if header[:2] == GZIP_MAGIC:
        raise DataError(f"{path}: a gzip file; rename it to end in .gz")
    if len(header) >= 4 and (magic := struct.unpack_from(">I", header)[0]) != expected_magic:
        raise DataError(
            f"{path}: wrong magic number 0x{magic:08x}; expected 0x{expected_magic:08x} "
            f"(IDX, unsigned bytes, {dimensions} dimension{'s' if dimensions > 1 else ''})"
        )
    if len(header) < header_bytes:
        raise DataError(f"{path}: truncated: {len(header)} bytes, but the header alone has {header_bytes}")
    shape = struct.unpack_from(f">{dimensions}I", header, 4)
    if 0 in shape:
        raise DataError(f"{path}: holds no data: shape {shape}")
    expected_bytes = math.prod(shape)
    data = bytearray()
    # In chunks, because a damaged header can promise more than fits in memory; one byte more than promised, to detect a
    # file that is too long.
    while len(data) <= expected_bytes:
        chunk = file.read(min(CHUNK_BYTES, expected_bytes + 1 - len(data)))
        if not chunk:
            break
        data += chunk
    if len(data) != expected_bytes:
        problem = "truncated" if len(data) < expected_bytes else "too long"
        found = str(len(data)) if len(data) < expected_bytes else "more"
        raise DataError(f"{path}: {problem}: the header promises {expected_bytes} bytes of data, found {found}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _find(folder: Path, names: tuple[str, ...], kind: str) -> Path:
    """The one file of the folder whose name has one of `names` and the kind, plain before gzip."""
    try:
        files = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}") from error
    for suffix in ("", ".gz"):
        patterns = [f"*{name}-{kind}{suffix}" for name in names]
        found = [folder / file for file in files if any(fnmatch.fnmatch(file, pattern) for pattern in patterns)]
        if len(found) > 1:
            raise DataError(
                f"{folder}: {found[0].name} and {found[1].name} both match; expected one data set per folder"
            )
        if found:
            return found[0]
    wanted = f"{names[0]}-{kind.replace('*', '-')}"
    raise DataError(f"{folder / wanted}: no such file, plain or .gz; expected a folder of IDX files")
