"""Where caches are kept, gpunet's own and other libraries', also where the home directory cannot be written to."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def ensure(variable: str, *usual: str) -> None:
    """Unless the variable is set, or all of a library's usual folders can be written to, name a temporary one in it.

    variable: of the environment, in which the library looks for its folder; to be set before the library is imported.
    usual:    the folders that it takes otherwise; those that are not there are made.
    """
    if variable in os.environ or all(_writable(os.path.expanduser(folder)) for folder in usual):
        return
    folder = tempfile.mkdtemp(prefix="gpunet-")  # this process' own: what is cached is run, so nobody else may write it
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[variable] = folder


def own(name: str) -> Path | None:
    """The folder of one of gpunet's own caches, below the user's cache folder; None if it cannot be written to."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gpunet" / name
    except RuntimeError:  # there is no home
        return None
    return folder if _writable(str(folder)) else None


def _writable(folder: str) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
