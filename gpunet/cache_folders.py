"""Cache folders, gpunet's own and other libraries', even where the home directory is not writable."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def ensure(variable: str, *usual: str) -> None:
    """Point a library's environment variable to a temporary folder, unless it is set or the usual folders are writable.

    variable: where the library looks for its folder; must be set before the library is imported.
    usual:    the folders that it uses otherwise; missing ones are created.
    """
    if variable in os.environ or all(_writable(os.path.expanduser(folder)) for folder in usual):
        return
    folder = tempfile.mkdtemp(prefix="gpunet-")  # private: cached code is executed, so nobody else may write it
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[variable] = folder


def own(name: str) -> Path | None:
    """The folder of one of gpunet's caches, inside the user's cache folder; None if it is not writable."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpunet" / name
    except RuntimeError:  # no home directory
        return None
    return folder if _writable(str(folder)) else None


def _writable(folder: str) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
