"""The readers: the bundled MNIST is the official one; damaged and ill-fitting files are refused by name."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gpunet
from gpunet import DataError
from gpunet.data import load
from gpunet.data.idx import CHUNK_BYTES, read_idx

FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def idx_bytes(array: np.ndarray) -> bytes:
    array = np.asarray(array, np.uint8)
    return struct.pack(f">{1 + array.ndim}I", 0x800 | array.ndim, *array.shape) + array.tobytes()


def idx_folder(folder: Path, train: int = 12, test: int = 6, pack: bool = False) -> Path:
    """A folder of IDX files with 2 x 3 images of 3 classes."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        arrays = {"images-idx3": rng.integers(256, size=(count, 2, 3)), "labels-idx1": np.arange(count) % 3}
        for kind, array in arrays.items():
            raw = idx_bytes(array)
            name = f"{part}-{kind}-ubyte" + (".gz" if pack else "")
            (folder / name).write_bytes(gzip.compress(raw) if pack else raw)
    return folder


def npz_arrays(train: int = 12, test: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(256, size=(train, 2, 3), dtype=np.uint8),
        "y_train": np.arange(train) % 3,
        "x_test": rng.integers(256, size=(test, 2, 3), dtype=np.uint8),
        "y_test": np.arange(test) % 3,
    }


@pytest.mark.parametrize("name", FILES)
def test_bundled_files_are_the_official_ones(name: str) -> None:
    path = Path(gpunet.__file__).parent / "data" / "mnist" / f"{name}.gz"
    with gzip.open(path) as file:
        assert hashlib.md5(file.read()).hexdigest() == FILES[name]


def test_mnist_comes_in_the_lectures_split(mnist: gpunet.Dataset) -> None:
    assert [part.images.shape for part in mnist] == [(50000, 28, 28), (10000, 28, 28), (10000, 28, 28)]
    assert [part.labels.shape for part in mnist] == [(50000,), (10000,), (10000,)]
    assert mnist.train.images.dtype == np.uint8
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]  # as everybody knows them
    assert mnist.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    whole = read_idx(Path(gpunet.__file__).parent / "data/mnist/train-images-idx3-ubyte.gz", 3)
    np.testing.assert_array_equal(mnist.validation.images, whole[50000:])
    assert (mnist.inputs, mnist.classes) == (784, 10)


@pytest.mark.parametrize("pack", [False, True], ids=["plain", "gz"])
def test_idx_folder_is_read(tmp_path: Path, pack: bool) -> None:
    dataset = load(idx_folder(tmp_path / "set", pack=pack))
    assert [len(part.labels) for part in dataset] == [10, 2, 6]
    assert (dataset.inputs, dataset.classes) == (6, 3)


def test_idx_files_of_other_spellings_are_found(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "set")
    for path in list(folder.iterdir()):
        path.rename(folder / ("emnist-digits-" + path.name.replace("t10k", "test").replace("-idx", ".idx")))
    assert load(folder).classes == 3


def test_npz_is_read(tmp_path: Path) -> None:
    arrays = npz_arrays()
    arrays["y_train"] = arrays["y_train"][:, np.newaxis]  # as in CIFAR
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    dataset = load(tmp_path / "a.npz")
    assert dataset.train.images.dtype == np.uint8
    assert dataset.train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def refuse(path: Path, *words: str) -> None:
    """Loading raises DataError in one line that holds all the words."""
    with pytest.raises(DataError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_training_part_not_divisible_by_six_keeps_the_rest(tmp_path: Path) -> None:
    dataset = load(idx_folder(tmp_path / "set", train=17))
    assert [len(part.labels) for part in dataset] == [15, 2, 6]


def test_plain_files_take_precedence_over_compressed_ones(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "set")
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(b"not gzip")
    assert load(folder).classes == 3


def test_a_file_of_whole_chunks_and_one_byte_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(idx_bytes(np.zeros(2 * CHUNK_BYTES)) + b"x")
    with pytest.raises(DataError, match="too long"):
        read_idx(tmp_path / "a", 1)


def test_missing_path_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "nowhere", "nowhere", "no such file or folder")


def test_missing_idx_file_is_named(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "set")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    refuse(folder, "t10k-labels-idx1-ubyte", "no such file")


def test_two_data_sets_in_one_folder_are_refused(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "set")
    (folder / "other-train-images-idx3-ubyte").write_bytes(b"")
    refuse(folder, "both match")


def damage_idx(folder: Path, name: str, change) -> None:
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


IDX_DAMAGES = {
    "empty": (lambda raw: b"", ["truncated", "0 bytes"]),
    "short-header": (lambda raw: raw[:10], ["truncated", "10 bytes"]),
    "truncated": (lambda raw: raw[:-1], ["truncated", "72 bytes", "found 71"]),
    "too-long": (lambda raw: raw + b"x", ["too long", "72 bytes"]),
    "wrong-magic": (lambda raw: b"\x00\x00\x0d\x03" + raw[4:], ["wrong magic number 0x00000d03"]),
    "huge-header": (lambda raw: raw[:4] + b"\xff" * 12 + raw[16:], ["truncated"]),
    "gzip-inside-plain-name": (gzip.compress, ["a gzip file", ".gz"]),
    "no-images": (lambda raw: struct.pack(">4I", 0x803, 0, 2, 3), ["holds no data", "shape (0, 2, 3)"]),
    "no-images-of-huge-size": (lambda raw: struct.pack(">4I", 0x803, 0, 2**32 - 1, 2**32 - 1), ["holds no data"]),
}


@pytest.mark.parametrize("damage", IDX_DAMAGES)
def test_damaged_idx_file_is_refused(tmp_path: Path, damage: str) -> None:
    change, words = IDX_DAMAGES[damage]
    folder = idx_folder(tmp_path / "set")
    damage_idx(folder, "train-images-idx3-ubyte", change)
    refuse(folder, "train-images-idx3-ubyte", *words)


GZIP_DAMAGES = {
    "not-gzip": lambda packed: b"plain text",
    "cut": lambda packed: packed[:-9],
    "flipped": lambda packed: packed[:30] + bytes([packed[30] ^ 0xFF]) + packed[31:],
    "wrong-checksum": lambda packed: packed[:-8] + b"\0\0\0\0" + packed[-4:],
}


@pytest.mark.parametrize("damage", GZIP_DAMAGES)
def test_damaged_gzip_file_is_refused(tmp_path: Path, damage: str) -> None:
    folder = idx_folder(tmp_path / "set", pack=True)
    damage_idx(folder, "t10k-images-idx3-ubyte.gz", GZIP_DAMAGES[damage])
    refuse(folder, "t10k-images-idx3-ubyte.gz")


def test_numbers_of_images_and_labels_must_agree(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "set")
    (folder / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(11)))
    refuse(folder, "train-labels-idx1-ubyte", "11 labels", "12 images")


def test_test_label_beyond_the_training_classes_is_refused(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "set")
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([0, 1, 2, 3, 0, 1])))
    refuse(folder, "t10k-labels-idx1-ubyte", "label 3 is out of range", "0 to 2")


NPZ_FAULTS = {
    "missing-array": (lambda a: a.pop("y_test"), ["no array 'y_test'"]),
    "object-array": (lambda a: a.update(y_train=np.array([None] * 12, object)), ["holds Python objects"]),
    "negative-label": (lambda a: a["y_train"].__setitem__(0, -1), ["y_train", "label -1 is out of range"]),
    "huge-label": (lambda a: a["y_train"].__setitem__(0, 10**6), ["y_train", "label 1000000 is out of range"]),
    "too-large-label": (lambda a: a["y_train"].__setitem__(0, 2**40), ["y_train", "out of range"]),
    "float-labels": (lambda a: a.update(y_train=np.full(12, 0.5)), ["y_train", "whole numbers"]),
    "one-hot-labels": (lambda a: a.update(y_train=np.eye(12, dtype=int)), ["y_train", "argmax(1)"]),
    "nan-images": (lambda a: a.update(x_train=np.full((12, 2, 3), np.nan)), ["x_train", "NaN"]),
    "text-images": (lambda a: a.update(x_train=np.full((12, 2, 3), "a")), ["x_train", "numbers"]),
    "other-size": (lambda a: a.update(x_test=np.zeros((6, 3, 3), np.uint8)), ["x_test", "(3, 3)", "(2, 3)"]),
    "flat-images": (lambda a: a.update(x_train=np.zeros(12)), ["x_train", "shape (12,)"]),
    "numbers-differ": (lambda a: a.update(y_test=np.zeros(5, int)), ["y_test", "5 labels", "6 images"]),
    "bytes-and-floats": (lambda a: a.update(x_test=a["x_test"] / 255), ["x_test: float64", "are uint8"]),
    "largest-label": (lambda a: a["y_train"].__setitem__(0, 2**31 - 1), ["y_train", "out of range"]),
    "half-validation": (lambda a: a.update(x_val=a["x_test"]), ["no array 'y_val'"]),
    "validation-label": (lambda a: a.update(x_val=a["x_test"], y_val=np.full(6, 99)), ["y_val: label 99 is out of"]),
    "one-class": (lambda a: a.update(y_train=np.zeros(12, int)), ["y_train", "at least two classes"]),
    "too-few": (lambda a: a.update(x_train=a["x_train"][:4], y_train=a["y_train"][:4]), ["4 training examples"]),
}


@pytest.mark.parametrize("fault", NPZ_FAULTS)
def test_unfit_npz_is_refused(tmp_path: Path, fault: str) -> None:
    change, words = NPZ_FAULTS[fault]
    arrays = npz_arrays()
    change(arrays)
    np.savez(tmp_path / "a.npz", **arrays)
    refuse(tmp_path / "a.npz", "a.npz", *words)


def test_validation_arrays_and_integral_floats_are_accepted(tmp_path: Path) -> None:
    arrays = npz_arrays()
    plain = arrays | {"x_val": arrays["x_test"][:2], "y_val": arrays["y_test"][:2], "y_train": arrays["y_train"] * 1.0}
    np.savez(tmp_path / "a.npz", **plain)
    dataset = gpunet.data.load(tmp_path / "a.npz")
    assert [len(part.labels) for part in dataset] == [12, 2, 6]
    np.testing.assert_array_equal(dataset.validation.images, arrays["x_test"][:2])
    np.testing.assert_array_equal(dataset.train.labels, arrays["y_train"])


def test_classes_that_only_the_validation_part_has(tmp_path: Path) -> None:
    arrays = npz_arrays()
    np.savez(tmp_path / "a.npz", **{**arrays, "y_train": np.arange(12) // 4, "y_test": np.zeros(6, int)})
    assert gpunet.data.load(tmp_path / "a.npz").untrained_classes == []
    np.savez(tmp_path / "a.npz", **{**arrays, "y_train": np.arange(12) // 10, "y_test": np.zeros(6, int)})
    assert gpunet.data.load(tmp_path / "a.npz").untrained_classes == [1]


class Bomb:
    """Unpickling it leaves a mark."""

    def __reduce__(self):
        return (Path.touch, (Path("unpickled"),))


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", **{**npz_arrays(), "y_test": np.array([Bomb()] * 6, object)})
    refuse(Path("a.npz"), "Python objects")
    Path("b.npz").write_bytes(pickle.dumps(Bomb()))
    refuse(Path("b.npz"), "b.npz")
    assert not Path("unpickled").exists()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and no more")
    refuse(tmp_path / "a.npz", "a.npz", "not an .npz file, or truncated")
    np.save(tmp_path / "b.npy", np.zeros(3))
    refuse(tmp_path / "b.npy", "not an .npz file")
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        for key in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(key, "text")
    refuse(tmp_path / "c.npz", "x_train is not an array")


def test_unusable_paths_are_refused(tmp_path: Path) -> None:
    refuse(tmp_path / ("x" * 300), "File name too long")
    os.mkfifo(tmp_path / "fifo.npz")
    refuse(tmp_path / "fifo.npz", "not a regular file")
    folder = idx_folder(tmp_path / "set")
    (folder / "train-images-idx3-ubyte").unlink()
    os.mkfifo(folder / "train-images-idx3-ubyte")
    refuse(folder, "train-images-idx3-ubyte", "not a regular file")


def valid_npz() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **npz_arrays())
    return file.getvalue()


VALID_NPZ = valid_npz()

mutations = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "insert"]), st.integers(0, 10**4), st.binary(min_size=1, max_size=8)),
    min_size=1,
    max_size=6,
)


def mutated(raw: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, position, piece in changes:
        position %= len(raw) + 1
        if kind == "set":
            raw = raw[:position] + piece + raw[position + len(piece) :]
        elif kind == "cut":
            raw = raw[:position]
        else:
            raw = raw[:position] + piece + raw[position:]
    return raw


def load_or_refuse(path: Path) -> None:
    """Either a data set that fits together, or DataError in one line; nothing else."""
    try:
        dataset = load(path)
    except DataError as error:
        message = str(error)
    else:
        for part in dataset:
            assert len(part.images) == len(part.labels) > 0
            assert 0 <= part.labels.min() <= part.labels.max() < dataset.classes
            assert np.isfinite(part.images).all()
        return
    assert str(path) in message
    assert "\n" not in message


FUZZ = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.slow
@FUZZ
@given(changes=mutations, pack=st.booleans(), inside=st.booleans(), name=st.sampled_from(sorted(FILES)))
def test_fuzzed_idx_is_read_or_refused(tmp_path: Path, changes, pack: bool, inside: bool, name: str) -> None:
    folder = idx_folder(tmp_path / f"set-{pack}", pack=pack)
    path = folder / (name + (".gz" if pack else ""))
    raw = path.read_bytes()
    if pack and inside:  # damage below an intact compression
        path.write_bytes(gzip.compress(mutated(gzip.decompress(raw), changes)))
    else:
        path.write_bytes(mutated(raw, changes))
    load_or_refuse(folder)


@FUZZ
@given(changes=mutations)
def test_fuzzed_npz_is_read_or_refused(tmp_path: Path, changes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(mutated(VALID_NPZ, changes))
    load_or_refuse(path)


@FUZZ
@given(raw=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(raw)
    load_or_refuse(tmp_path / "a.npz")
