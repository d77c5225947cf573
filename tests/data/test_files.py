"""Files that are complete or absent, files that grow by whole lines, and what is checked before any work."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import command_environment
from gpunet import files
from gpunet.errors import ArgumentError, OutputError
from gpunet.files import LineFile


def test_a_line_that_does_not_fit_on_the_disk_is_not_written_at_all(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("old", [None, "", "old\n"])
@pytest.mark.parametrize("append", [False, True])
def test_a_new_file_without_lines_is_removed(tmp_path: Path, old: str | None, append: bool) -> None:
    path = tmp_path / "log"
    if old is not None:
        path.write_text(old)
    file = LineFile("--metrics", str(path), append)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            file.write("a line\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    file.close()
    assert path.exists() == (old is not None)


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


LONG = "a" * 255  # letters, the most that a name can have on usual file systems


def test_the_longest_name_can_be_written(tmp_path: Path) -> None:
    files.check_output("--save", str(tmp_path / LONG))
    files.write_bytes(tmp_path / LONG, b"1")
    with files.owned("--checkpoint", str(tmp_path / LONG)):
        assert len(os.listdir(tmp_path)) == 2
    assert os.listdir(tmp_path) == [LONG]


def refuse(*_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "--save: expected a path, got ''"),
        (f"{LONG}b", "File name too long"),
        ("none/m.npz", "no such folder"),
        ("folder", "not a file; choose another name"),
        ("protected", "the file is write-protected; choose another name"),
        ("nul\0", "null"),
    ],
)
@pytest.mark.parametrize("grows", [False, True])
def test_an_unwritable_path_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str, grows: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("protected").write_text("old")
    Path("protected").chmod(0o444)
    before = sorted(os.listdir())
    with pytest.raises(ArgumentError, match=r"^--save: .*") as caught:
        files.check_output("--save", name, grows=grows)
    assert message in str(caught.value)
    assert str(caught.value).count("--save: ") == 1
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir()) == before


def test_a_locked_folder_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(files, "_open_aside", refuse)  # the superuser may write everywhere
        with pytest.raises(
            ArgumentError, match=r"^--save: .*m: the folder .* cannot be written to: Permission denied$"
        ):
            files.check_output("--save", str(tmp_path / "m"))
    monkeypatch.setattr(Path, "stat", refuse)  # and may look into everything
    with pytest.raises(ArgumentError, match=r"^--save: .*m: cannot be written: Permission denied$"):
        files.check_output("--save", str(tmp_path / "m"))


def test_a_disk_that_is_too_small_is_refused_before_any_work(tmp_path: Path) -> None:
    free = files.shutil.disk_usage(tmp_path).free
    files.check_output("--save", str(tmp_path / "m"), size=free // 2)
    with pytest.raises(ArgumentError, match=r"^--save: .*m: needs [\d,]+ bytes, but the disk has [\d,]+ free; "):
        files.check_output("--save", str(tmp_path / "m"), size=2 * free + 2**30)


def test_a_write_protected_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "old"
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(OutputError, match=r"old: cannot be written: the file is write-protected$"):
        files.write_bytes(path, b"new")
    for append in (False, True):
        with pytest.raises(OutputError, match=r"^--metrics: .*old: cannot be written: the file is write-protected$"):
            LineFile("--metrics", str(path), append)
    assert path.read_text() == "old"


def test_leftovers_of_a_killed_process_are_removed_and_files_of_a_running_one_are_not(tmp_path: Path) -> None:
    path = tmp_path / "m"
    files._open_aside(path).close()  # as after a kill: nothing holds its lock
    other = files._open_aside(tmp_path / "other")
    with files._open_aside(path) as living:
        files.write_bytes(path, b"1")
        assert sorted(os.listdir(tmp_path)) == sorted(
            [os.path.basename(living.name), os.path.basename(other.name), "m"]
        )
    other.close()
    files.remove_leftovers(path)
    assert sorted(os.listdir(tmp_path)) == sorted([os.path.basename(other.name), "m"])


def test_a_file_mistaken_for_a_leftover_is_created_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may intervene between the creation of a file and its lock."""
    lock, removed = files._lock, []

    def remove_first(file: object) -> bool | None:
        if not removed:
            removed.append(file.name)
            os.unlink(file.name)
        return lock(file)

    monkeypatch.setattr(files, "_lock", remove_first)
    files.write_bytes(tmp_path / "m", b"1")
    assert len(removed) == 1
    assert (tmp_path / "m").read_bytes() == b"1"


OWNER = """
import sys
from gpunet import files
with files.owned("--checkpoint", sys.argv[1]):
    print("owned", flush=True)
    sys.stdin.read()
"""


def test_a_file_has_one_owner_until_that_process_ends(tmp_path: Path) -> None:
    path = str(tmp_path / "a.npz")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=command_environment(),
        text=True,
    ) as owner:
        assert owner.stdout.readline() == "owned\n"
        with (
            pytest.raises(ArgumentError, match=r"^--resume: .*a\.npz: another training is saving to it; wait until"),
            files.owned("--resume", path),
        ):
            pass
        with files.owned("--checkpoint", str(tmp_path / "b.npz")):
            pass
        owner.kill()
    assert len(os.listdir(tmp_path)) == 1  # its hidden file is still there, and no obstacle
    with files.owned("--resume", path):
        pass
    assert os.listdir(tmp_path) == []


def test_without_locks_everything_still_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    path = str(tmp_path / "a.npz")
    with files.owned("--checkpoint", path), files.owned("--checkpoint", path):
        files._open_aside(Path(path)).close()
        files.write_bytes(path, b"1")
    with files.owned("--checkpoint", str(tmp_path / "none" / "a.npz")):  # nor where the hidden file cannot be made
        pass
    assert len(os.listdir(tmp_path)) == 2  # nobody knows whether what was left is being written
