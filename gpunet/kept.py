"""Files of gpunet's own caches, each behind its checksum, as they hold code that will be run.

What is damaged, or another file under this name, or could be another user's work, counts as not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from gpunet import files
from gpunet.errors import OutputError

CHECKSUM_BYTES = 64  # SHA-256 in hexadecimal, of the name and the content, in front of the content
OWNERS_BESIDE_THE_USER = (0,)  # of files that may be run: the administrator can do anything anyway


def read(path: Path) -> bytes | None:
    """What was kept there, if it is whole and nobody but this user can have written it."""
    try:
        with open(path, "rb") as file:
            if not _is_the_users(os.fstat(file.fileno())):
                return None
            stored = file.read()
    except OSError:
        return None
    checksum, content = stored[:CHECKSUM_BYTES], stored[CHECKSUM_BYTES:]
    return content if checksum == _checksum(path, content) else None


def write(path: Path, content: bytes) -> None:
    """Keep it. Where that fails (a full disk), it is not kept, and that is all."""
    with contextlib.suppress(OutputError):
        files.write_bytes(path, _checksum(path, content) + content)


def _is_the_users(status: os.stat_result) -> bool:
    if not hasattr(os, "getuid"):
        return True
    return status.st_uid in (os.getuid(), *OWNERS_BESIDE_THE_USER) and not status.st_mode & stat.S_IWOTH


def _checksum(path: Path, content: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + b"\0" + content).hexdigest().encode()
