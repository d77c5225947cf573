"""Files that are whole or not there: written aside, forced to the disk, and moved into place."""

from __future__ import annotations

import contextlib
import glob
import os
import secrets
import shutil
from pathlib import Path

from gpunet.errors import OutputError

LETTERS = 8  # of what tells the names apart under which several processes write at the same time


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file, or make it; whoever reads it meanwhile, and whatever happens, finds the old or the new one.

    It keeps the old one's permissions.

    Raises OutputError, naming the file, if it cannot be written; the old one then stays.
    """
    target = Path(os.path.realpath(path))  # through a link, which stays one
    aside = target.with_name(f".{target.name}.{secrets.token_hex(LETTERS // 2)}.part")
    try:
        if target.exists() and not target.is_file():
            raise OutputError(f"{path}: cannot be written: not a file")
        try:
            with open(aside, "xb") as file:
                if target.exists():
                    shutil.copymode(target, aside)  # before there is anything in it to be read
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, target)
        except BaseException:  # Ctrl-C as well
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what processes left behind that were killed while they wrote the file; for when none is writing it."""
    target = Path(os.path.realpath(path))
    for aside in target.parent.glob(f".{glob.escape(target.name)}.{'?' * LETTERS}.part"):
        with contextlib.suppress(OSError):
            aside.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the new name outlast a power failure, where the system can (Windows cannot open a folder)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
