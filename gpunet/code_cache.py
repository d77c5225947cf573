"""gpunet's own caches: their folders, and their files, each behind its checksum, as they hold code that will be run.

A folder into which somebody else could put something counts as none, and a file that is damaged, or another file under
this name, or could be another user's work, counts as not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
from pathlib import Path

from gpunet import files
from gpunet.errors import OutputError

CHECKSUM_BYTES = 64  # SHA-256 in hexadecimal, of the name and the content, in front of the content
OWNERS_BESIDE_THE_USER = (0,)  # of what may be run: the administrator can do anything anyway


def folder(name: str, parent: str | None = None) -> Path | None:
    """The folder gpunet/name in `parent`, or in the user's cache folder; created if it is missing.

    None if it cannot be written, does not belong to this user, or is one that everybody may write.
    """
    try:
        own = (Path(parent) if parent else _users_caches()) / "gpunet"
        own.parent.mkdir(parents=True, exist_ok=True)
        for part in (own, own / name):
            part.mkdir(mode=0o700, exist_ok=True)
            if not (_is_owned(part.lstat()) and _is_the_users(part.stat())):  # a link, and where it leads
                return None
    except (OSError, RuntimeError):  # RuntimeError: there is no home directory
        return None
    return own / name if os.access(own / name, os.W_OK | os.X_OK) else None


def read(path: Path) -> bytes | None:
    """What was kept there, if it is whole and nobody but this user can have written it."""
    try:
        with open(path, "rb", opener=_open_no_link) as file:
            if not _is_the_users(os.fstat(file.fileno())):
                return None
            stored = file.read()
    except OSError:
        return None
    checksum, content = stored[:CHECKSUM_BYTES], stored[CHECKSUM_BYTES:]
    return content if checksum == _checksum(path, content) else None


def write(path: Path, content: bytes) -> None:
    """Keep it. Where that fails (a full disk), it is not kept, and that is all.

    It is not flushed to the disk: what a power failure leaves of it fails the checksum, and is made again.
    """
    with contextlib.suppress(OutputError, OSError):
        if path.is_symlink():
            path.unlink()  # `read` does not follow it
        files.write_bytes(path, _checksum(path, content) + content, flush=False)


def _users_caches() -> Path:
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home())
    return Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")


def _open_no_link(path: str, flags: int) -> int:
    """Open without following a link, and without waiting for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _is_the_users(status: os.stat_result) -> bool:
    return _is_owned(status) and not (hasattr(os, "getuid") and status.st_mode & stat.S_IWOTH)


def _is_owned(status: os.stat_result) -> bool:
    return not hasattr(os, "getuid") or status.st_uid in (os.getuid(), *OWNERS_BESIDE_THE_USER)


def _checksum(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\0" + content).hexdigest().encode()
