"""Caches hold code that will be run: only what this user wrote there, for this very purpose, is taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpunet import code_cache, files


def test_a_cached_file_is_read_back(tmp_path: Path) -> None:
    code_cache.write(tmp_path / "one.o", b"code")
    assert code_cache.read(tmp_path / "one.o") == b"code"
    assert code_cache.read(tmp_path / "other.o") is None


def test_the_content_of_another_file_is_not_used(tmp_path: Path) -> None:
    code_cache.write(tmp_path / "one.o", b"code")
    os.replace(tmp_path / "one.o", tmp_path / "other.o")
    assert code_cache.read(tmp_path / "other.o") is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
@pytest.mark.parametrize(("mode", "content"), [(0o644, b"code"), (0o664, b"code"), (0o666, None), (0o602, None)])
def test_a_file_that_others_may_write_is_not_used(tmp_path: Path, mode: int, content: bytes | None) -> None:
    code_cache.write(tmp_path / "one.o", b"code")
    os.chmod(tmp_path / "one.o", mode)
    assert code_cache.read(tmp_path / "one.o") == content


POSIX = pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")


def test_a_folder_is_made_for_the_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = code_cache.folder("some", str(tmp_path / "not" / "yet"))
    assert given == tmp_path / "not" / "yet" / "gpunet" / "some"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    usual = code_cache.folder("some")
    assert usual == tmp_path / "caches" / "gpunet" / "some"
    if hasattr(os, "getuid"):
        assert {path.stat().st_mode & 0o777 for path in (given, given.parent, usual, usual.parent)} == {0o700}


@POSIX
@pytest.mark.parametrize("level", ["gpunet", "gpunet/some"])
@pytest.mark.parametrize(("mode", "taken"), [(0o755, True), (0o777, False), (0o1777, False), (0o703, False)])
def test_a_folder_that_everybody_may_write_is_none(tmp_path: Path, level: str, mode: int, taken: bool) -> None:
    code_cache.folder("some", str(tmp_path))
    os.chmod(tmp_path / level, mode)
    assert (code_cache.folder("some", str(tmp_path)) is not None) == taken


@POSIX
def test_another_users_folder_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_cache.folder("some", str(tmp_path))
    monkeypatch.setattr(code_cache, "OWNERS_BESIDE_THE_USER", ())
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    assert code_cache.folder("some", str(tmp_path)) is None


def test_what_is_in_the_way_of_a_folder_makes_it_none(tmp_path: Path) -> None:
    (tmp_path / "gpunet").write_text("")
    assert code_cache.folder("some", str(tmp_path)) is None


@POSIX
def test_a_link_is_not_followed_but_replaced(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "one.o"
    elsewhere.parent.mkdir()
    code_cache.write(elsewhere, b"code")
    before = elsewhere.read_bytes()
    (tmp_path / "one.o").symlink_to(elsewhere)
    assert code_cache.read(tmp_path / "one.o") is None
    code_cache.write(tmp_path / "one.o", b"other")
    assert (code_cache.read(tmp_path / "one.o"), elsewhere.read_bytes()) == (b"other", before)


@POSIX
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "one.o")
    assert code_cache.read(tmp_path / "one.o") is None


def test_a_cache_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []
    monkeypatch.setattr(os, "fsync", waits.append)
    code_cache.write(tmp_path / "one.o", b"code")
    assert (code_cache.read(tmp_path / "one.o"), waits) == (b"code", [])
    files.write_bytes(tmp_path / "a model", b"weights")
    assert waits
