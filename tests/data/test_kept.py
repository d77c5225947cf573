"""Caches hold code that will be run: only what this user wrote there, for this very purpose, is taken."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gpunet import kept


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    kept.write(tmp_path / "one.o", b"code")
    assert kept.read(tmp_path / "one.o") == b"code"
    assert kept.read(tmp_path / "other.o") is None


def test_another_files_content_is_not_taken(tmp_path: Path) -> None:
    kept.write(tmp_path / "one.o", b"code")
    os.replace(tmp_path / "one.o", tmp_path / "other.o")
    assert kept.read(tmp_path / "other.o") is None


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
@pytest.mark.parametrize(("mode", "content"), [(0o644, b"code"), (0o664, b"code"), (0o666, None), (0o602, None)])
def test_what_everybody_may_write_is_not_taken(tmp_path: Path, mode: int, content: bytes | None) -> None:
    kept.write(tmp_path / "one.o", b"code")
    os.chmod(tmp_path / "one.o", mode)
    assert kept.read(tmp_path / "one.o") == content
