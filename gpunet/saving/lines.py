"""Files that grow line by line, and whose every line is whole."""

from __future__ import annotations

import contextlib
import os

from gpunet.errors import OutputError


class LineFile:
    """A text file that is written a line, or some whole lines, at a time; each is in the file when `write` returns.

    owner:  what to call it in errors, in front of the path.
    append: go on with an existing file instead of replacing it. Either way lines go to the file's end, wherever that is
            by then: two programs that write the same file do not overwrite each other.
    Raises: OutputError if the file cannot be written.
    """

    def __init__(self, owner: str, path: str, append: bool = False) -> None:
        self._name = f"{owner}: {path}"
        extra = 0 if append else os.O_TRUNC
        try:
            self._file = open(path, "ab", buffering=0, opener=lambda name, flags: os.open(name, flags | extra, 0o666))  # noqa: SIM115
        except (OSError, ValueError) as error:
            raise OutputError(self._reason(error)) from error

    @property
    def empty(self) -> bool:
        return os.fstat(self._file.fileno()).st_size == 0

    def write(self, text: str) -> None:
        """Append whole lines. Raises OutputError; nothing of them is then in the file."""
        content, done = text.encode(), 0
        try:
            while done < len(content):  # a disk that is almost full takes a part, and tells of it by the count alone
                done += self._file.write(content[done:])
        except OSError as error:
            raise OutputError(self._reason(error)) from error
        finally:
            if 0 < done < len(content):
                self._take_back(done)

    def close(self) -> None:
        self._file.close()

    def _take_back(self, written: int) -> None:
        with contextlib.suppress(OSError):  # not possible in a pipe
            self._file.truncate(os.fstat(self._file.fileno()).st_size - written)

    def _reason(self, error: OSError | ValueError) -> str:
        return f"{self._name}: cannot be written: {getattr(error, 'strerror', None) or error}"
