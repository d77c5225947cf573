"""Data sets: the bundled MNIST, and any other in the same format (IDX files or Keras' npz). Nothing is downloaded.

Images stay as they are stored (uint8 for IDX files); an engine converts a batch when it is used.
"""

from __future__ import annotations

import stat
from pathlib import Path

from gpunet.data.dataset import Dataset, Examples, split
from gpunet.data.idx import read_idx_folder
from gpunet.data.npz import read_npz
from gpunet.data.origin import MNIST, Origin, fingerprint
from gpunet.errors import DataError

__all__ = ["MNIST", "Dataset", "Examples", "Origin", "fingerprint", "load", "load_mnist"]


def load_mnist() -> Dataset:
    """The bundled MNIST, in the lecture's split: 50,000 training, 10,000 validation and 10,000 test examples.

    Images (n, 28, 28) uint8, labels (n,) int32 in 0..9. Validation is the last 10,000 of the training file.
    """
    return load(Path(__file__).parent / "mnist")


def load(path: str | Path) -> Dataset:
    """The data set at `path`: a folder of IDX files, or an .npz with x_train, y_train, x_test, y_test.

    The last sixth of the training examples becomes the validation part, as 10,000 of 60,000 in MNIST, unless the .npz
    has x_val and y_val.
    Raises DataError, naming the file, if something is missing, damaged or inconsistent.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file or folder; expected a folder of IDX files or an .npz file") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if stat.S_ISDIR(mode):
        return split(*read_idx_folder(path))
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: not a regular file; expected a folder of IDX files or an .npz file")
    return split(*read_npz(path))
