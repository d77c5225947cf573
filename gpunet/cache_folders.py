"""Where other libraries may keep what they cache, on machines whose home directory cannot be written to."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile


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


def _writable(folder: str) -> bool:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
