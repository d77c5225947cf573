"""Which NVRTC is used where several are installed."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import standin
from gpunet.engines.cuda import nvrtc

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the folders below are those of Linux")


@pytest.fixture
def two_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip's packages of CUDA 12 and, as PyTorch brings them, of CUDA 13."""
    for folder, library in (("cuda_nvrtc", "libnvrtc.so.12"), ("cu13", "libnvrtc.so.13")):
        (tmp_path / folder / "lib").mkdir(parents=True)
        (tmp_path / folder / "lib" / library).touch()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if name == "nvidia" else None)
    return tmp_path


def test_each_cuda_finds_its_own_library(two_versions: Path) -> None:
    assert nvrtc.wheel_library(12) == two_versions / "cuda_nvrtc" / "lib" / "libnvrtc.so.12"
    assert nvrtc.wheel_library(13) == two_versions / "cu13" / "lib" / "libnvrtc.so.13"
    assert nvrtc.wheel_library(11) is None


def test_the_library_of_cupys_cuda_is_loaded_before_cupy_looks_for_one(
    two_versions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr(ctypes, "CDLL", loaded.append)
    standin.install(monkeypatch, two_versions)
    nvrtc._preload.cache_clear()
    try:
        assert nvrtc.load().getVersion() == (12, 9)
    finally:
        nvrtc._preload.cache_clear()
    assert loaded == [str(two_versions / "cuda_nvrtc" / "lib" / "libnvrtc.so.12")]
