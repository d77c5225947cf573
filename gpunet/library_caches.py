"""Folders for other libraries' caches, even where the home directory is not writable.

code_cache.py has gpunet's own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile


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


def _writable(folder: str) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
