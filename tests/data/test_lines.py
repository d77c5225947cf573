"""Files that grow by whole lines."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from gpunet.errors import OutputError
from gpunet.saving.lines import LineFile


def test_a_line_that_finds_no_room_is_not_there_at_all(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = LineFile("--metrics", str(path))
    file.write("first line\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15, hard))  # the next write takes 4 bytes, without an error
    try:
        with pytest.raises(OutputError, match=r"^--metrics: .*log: cannot be written: File too large$"):
            file.write("second line\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "first line\n"
    file.write("third line\n")
    assert path.read_text() == "first line\nthird line\n"


def test_two_writers_do_not_overwrite_each_other(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("old\n")
    one, other = LineFile("a", str(path)), LineFile("b", str(path))
    for number in range(3):
        one.write(f"one {number}\n")
        other.write(f"other {number}\n")
    assert path.read_text() == "".join(f"one {n}\nother {n}\n" for n in range(3))


def test_append_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert LineFile("a", str(path)).empty
    path.write_text("old\n")
    file = LineFile("a", str(path), append=True)
    assert not file.empty
    file.write("new\n")
    assert path.read_text() == "old\nnew\n"
