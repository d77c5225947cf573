"""Caches hold code that will be run: only what this user wrote there, for this very purpose, is taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpunet import kept


def test_a_cached_file_is_read_back(tmp_path: Path) -> None:
    kept.write(tmp_path / "one.o", b"code")
    assert kept.read(tmp_path / "one.o") == b"code"
    assert kept.read(tmp_path / "other.o") is None


def test_the_content_of_another_file_is_not_used(tmp_path: Path) -> None:
    kept.write(tmp_path / "one.o", b"code")
    os.replace(tmp_path / "one.o", tmp_path / "other.o")
    assert kept.read(tmp_path / "other.o") is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
@pytest.mark.parametrize(("mode", "content"), [(0o644, b"code"), (0o664, b"code"), (0o666, None), (0o602, None)])
def test_a_file_that_others_may_write_is_not_used(tmp_path: Path, mode: int, content: bytes | None) -> None:
    kept.write(tmp_path / "one.o", b"code")
    os.chmod(tmp_path / "one.o", mode)
    assert kept.read(tmp_path / "one.o") == content
