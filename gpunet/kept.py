"""Files of gpunet's own caches, each behind its checksum: what is damaged, or another user's, counts as not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from gpunet import files
from gpunet.errors import OutputError

CHECKSUM_BYTES = 64  # SHA-256 in hexadecimal, in front of the content
OWNERS_BESIDE_THE_USER = (0,)  # of files that may be run: the administrator can do anything anyway


def read(path: Path) -> bytes | None:
    """What was kept there, if it is whole and this user's: it may be code that will be run."""
    try:
        with open(path, "rb") as file:
            if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid not in (os.getuid(), *OWNERS_BESIDE_THE_USER):
                return None
            stored = file.read()
    except OSError:
        return None
    checksum, content = stored[:CHECKSUM_BYTES], stored[CHECKSUM_BYTES:]
    return content if checksum == _checksum(content) else None


def write(path: Path, content: bytes) -> None:
    """Keep it. Where that fails (a full disk), it is not kept, and that is all."""
    with contextlib.suppress(OutputError):
        files.write_bytes(path, _checksum(content) + content)


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
