"""Tables and names of classes: rows become examples, text becomes numbers, and what cannot is refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet
from gpunet import ArgumentError, DataError, class_names
from gpunet.data import Origin, fingerprint, load, read_rows

pandas = pytest.importorskip("pandas", reason="tables need pandas; pip install '.[test]'")


def flowers(rows: int = 60) -> Any:
    """Three kinds of flowers, sorted by kind, as tables often are."""
    rng = np.random.default_rng(0)
    kinds = np.repeat(["rose", "aster", "tulip"], rows // 3)
    height = rng.normal(size=rows) + np.repeat([0, 5, 10], rows // 3)
    return pandas.DataFrame({"height": height, "petals": np.arange(rows) % 7, "kind": kinds, "wild": height > 5})


def write(frame: Any, path: Path) -> Path:
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow; pip install '.[test]'")
        frame.to_parquet(path, index=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")
    return path


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv", "a.parquet"])
def test_a_table_is_read_with_the_names_of_its_classes(tmp_path: Path, name: str) -> None:
    frame = flowers()
    dataset = load(write(frame, tmp_path / name), "kind")
    assert dataset.class_names == ("aster", "rose", "tulip")
    assert dataset.table == ("kind", ("height", "petals", "wild"))
    assert [part.images.shape for part in dataset] == [(42, 3), (9, 3), (9, 3)]
    for part in dataset:
        assert part.images.dtype == np.float32
        assert np.bincount(part.labels).tolist() == [len(part.labels) // 3] * 3
    columns = [frame[name].astype("f4") for name in dataset.table.columns]
    rows = {tuple(row[:3]): row[3] for row in zip(*columns, frame["kind"], strict=True)}
    seen = [tuple(row) for part in dataset for row in part.images]
    assert set(seen) == set(rows)
    assert len(seen) == len(frame)
    for part in dataset:
        for row, label in zip(part.images, part.labels, strict=True):
            assert rows[tuple(row)] == dataset.class_names[label]


def test_which_rows_are_for_testing_depends_on_the_table_alone(tmp_path: Path) -> None:
    one, other = (load(write(flowers(), tmp_path / name), "kind") for name in ("a.csv", "b.tsv"))
    assert fingerprint(one) == fingerprint(other)
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine.images, theirs.images)


def test_whole_numbers_from_0_are_classes_as_they_are_and_others_get_names(tmp_path: Path) -> None:
    frame = flowers().assign(kind=np.arange(60) % 3)
    assert load(write(frame, tmp_path / "a.csv"), "kind").class_names is None
    assert load(write(frame.assign(kind=9 + np.arange(60) % 2), tmp_path / "b.csv"), "kind").class_names == ("9", "10")
    assert load(write(frame, tmp_path / "c.csv"), "wild").class_names == ("False", "True")


@pytest.mark.parametrize("label", [2**32 + 1, -1])
def test_a_class_that_no_network_has_is_refused_in_a_line(tmp_path: Path, label: int) -> None:
    path = write(flowers().assign(kind=np.where(np.arange(60) % 2, label, 0)), tmp_path / "a.csv")
    with pytest.raises(DataError, match=rf"a.csv: column 'kind' has the class {label}; expected 0, 1 and so on$"):
        read_rows(path, "kind", ["height"], None)


FAULTS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no-such-target": (lambda f: f.rename(columns={"kind": "sort"}), "no column 'kind' for --target; there are height"),
    "text": (lambda f: f.assign(petals="many"), "column 'petals' has text, such as 'many'; expected numbers"),
    "dates": (lambda f: f.assign(petals=pandas.Timestamp(0)), "column 'petals' has"),
    "hole": (lambda f: f.assign(petals=f["petals"].where(f.index != 4)), "column 'petals' has no value in row 5"),
    "infinite": (lambda f: f.assign(petals=np.inf), "column 'petals' has inf in row 1; expected finite"),
    "large": (lambda f: f.assign(petals=1e39), "column 'petals' has 1e\\+39 in row 1"),
    "no-class": (lambda f: f.assign(kind=f["kind"].where(f.index != 2)), "column 'kind' has no class in row 3"),
    "fractions": (lambda f: f.assign(kind=0.5), "column 'kind' has fractions, such as 0.5; expected classes"),
    "large-classes": (lambda f: f.assign(kind=2**53 + f.index % 2), "column 'kind' has 9007199254740992 in row 1"),
    "infinite-class": (lambda f: f.assign(kind=np.inf), "column 'kind' has inf in row 1; expected classes"),
    "all-differ": (lambda f: f.assign(kind=[f"id {n}" for n in f.index]), "no class has 6 rows"),
    "one-class": (lambda f: f.assign(kind="rose"), "all labels are rose; expected at least two classes"),
    "index": (lambda f: f.rename(columns={"height": ""}), "the first column has no name, as an index"),
    "no-rows": (lambda f: f[:0], "has 0 rows and 4 columns"),
    "no-inputs": (lambda f: f[["kind"]], "there is no column but 'kind'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_unfit_table_is_refused_in_a_line(tmp_path: Path, fault: str) -> None:
    change, words = FAULTS[fault]
    path = write(change(flowers()), tmp_path / "a.csv")
    with pytest.raises(DataError, match=f"^{path}: .*{words}") as caught:
        load(path, "kind")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
@pytest.mark.parametrize("content", [b"", b"\0\xff\n\xfe,1"])
def test_a_damaged_table_is_refused_in_a_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"^{tmp_path / name}: ") as caught:
        load(tmp_path / name, "kind")
    assert "\n" not in str(caught.value)


HEADERS = {
    "twice": ("a,a,kind", "column 'a' is there twice"),
    "class-twice": ("a,kind,kind", "column 'kind' is there twice"),
    "too-few": ("a,kind", "not a readable .csv file: .*Expected 2 fields in line 2, saw 3"),
    "far-too-few": ("kind", "not a readable .csv file: .*Expected 1 fields in line 2, saw 3"),
    "no-name": ("a,,kind", "column 2 of 3 has no name"),
    "pandas-index": (",a,kind", "the first column has no name, as an index"),
    "latin-1": ("größe,a,kind", "not text in UTF-8"),
}


@pytest.mark.parametrize("fault", HEADERS)
def test_a_first_line_that_does_not_name_each_column_is_refused(tmp_path: Path, fault: str) -> None:
    header, words = HEADERS[fault]
    path = tmp_path / "a.csv"
    path.write_text(header + "\n" + "".join(f"{row},{row % 2},{row % 3}\n" for row in range(60)), encoding="latin-1")
    with pytest.raises(DataError, match=f"^{path}: {words}") as caught:
        load(path, "kind")
    assert "\n" not in str(caught.value)


def test_a_target_is_for_tables_and_a_table_needs_one(tmp_path: Path, small_npz: Path) -> None:
    with pytest.raises(DataError, match=r"which column has the classes.*--target: height, petals, kind, wild"):
        load(write(flowers(), tmp_path / "a.csv"))
    with pytest.raises(DataError, match="no table, so it has no column 'kind'"):
        load(small_npz, "kind")
    with pytest.raises(DataError, match=r"no such file or folder; expected .* or a table \(.csv, .tsv, .parquet\)"):
        load(tmp_path / "none.csv", "kind")


@pytest.mark.parametrize("kind", ["U", "S"])
def test_names_in_an_npz_become_numbers(tmp_path: Path, kind: str) -> None:
    x = np.arange(48, dtype=np.float32).reshape(12, 4)
    names = np.array(["b", "ä" if kind == "U" else "a"] * 6).astype(kind)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=names, x_test=x[:3], y_test=names[:3, None])
    dataset = load(tmp_path / "a.npz")
    assert dataset.class_names == (("b", "ä") if kind == "U" else ("a", "b"))
    assert dataset.classes == 2
    assert [dataset.class_names[label] for label in dataset.test.labels] == ["b", "ä" if kind == "U" else "a", "b"]


@pytest.mark.parametrize(
    ("y_test", "words"),
    [
        (["c"] * 3, "a.npz: y_test: there is no class 'c'; the classes are a, b"),
        ([""] * 3, "a.npz: y_test: label 0 is empty; expected a name"),
        ([0, 1, 0], "a.npz: y_test: int64, but the training labels are names; expected the same"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path: Path, y_test: list[Any], words: str) -> None:
    x = np.ones((12, 4), np.float32)
    np.savez(tmp_path / "a.npz", x_train=x, y_train=["a", "b"] * 6, x_test=x[:3], y_test=y_test)
    with pytest.raises(DataError, match=words):
        load(tmp_path / "a.npz")


def test_origin_and_fingerprint_know_columns_and_names(tmp_path: Path) -> None:
    dataset = load(write(flowers(), tmp_path / "a.csv"), "kind")
    origin = Origin.of(dataset, "a.csv")
    assert (origin.target, origin.columns, origin.classes) == ("kind", ("height", "petals", "wild"), 3)
    with pytest.raises(ArgumentError, match=r"^data: expected path"):
        dataclasses.replace(origin, columns=(1, 2))
    renamed = gpunet.Dataset(*dataset, class_names=("a", "b", "c"))
    assert fingerprint(renamed) != fingerprint(dataset)


def test_names_are_checked() -> None:
    assert class_names.checked("names", ["b", "a"], 2) == ("b", "a")
    for names, words in (
        ("ab", "expected a list of names"),
        (["a", 1], "expected names, got 1"),
        (["a", "a"], "'a' stands there twice"),
        (["a", "b", "c"], "3 names for 2 classes"),
    ):
        with pytest.raises(ArgumentError, match=f"^names: {words}"):
            class_names.checked("names", names, 2)
    with pytest.raises(ArgumentError, match=r"^y: label 1 is nan; expected text"):
        class_names.distinct("y", np.array(["a", np.nan], object))
