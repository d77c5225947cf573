"""The files that gpunet writes: whole files, files that grow by lines, and the checks before any work begins.

A whole file is written aside, flushed to disk, and moved into place. The temporary file has a short hidden name of its
own, `.gpunet-KEY-RANDOM.part`, with a key per target, so that the next process that writes the target recognizes what a
killed process left.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from gpunet.errors import ArgumentError, OutputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LETTERS = 8  # random letters that keep the temporary files of concurrent processes apart
TURN_SECONDS = 0.01  # between two looks at whether a turn is over
FAR = 2**30  # the byte that is locked on Windows: beyond the content, because a locked byte cannot be read


def write_bytes(path: str | os.PathLike[str], content: bytes, flush: bool = True) -> None:
    """Create or replace the file atomically: a reader sees the old content or the new, whatever happens.

    flush: False does not wait for the disk, so after a power failure the file may be anything.
    The permissions stay. Raises OutputError, naming the file, if it cannot or must not be written; the old file then
    stays.
    """
    try:
        target = Path(os.path.realpath(path))  # follows a link, which stays a link
        if reason := _protection(target):
            raise OutputError(f"{path}: cannot be written: {reason}")
        remove_leftovers(target)
        file = _open_aside(target)
        aside = Path(file.name)
        try:
            if target.exists():
                shutil.copymode(target, aside)  # before it has any content to read
            file.write(content)
            file.flush()
            if flush:
                os.fsync(file.fileno())
            if sys.platform == "win32":
                file.close()  # an open file cannot be moved there; elsewhere it stays locked until it is in place
            os.replace(aside, target)
            file.close()
        except BaseException:  # Ctrl-C as well
            with contextlib.suppress(OSError):
                file.close()
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise
        if flush:
            _sync_folder(target.parent)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot be written: {_reason(error)}") from error


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove temporary files that killed processes left of this file; never those of a running process.

    A running process holds a lock on its file. Where there are no locks, leftovers stay.
    """
    target = Path(os.path.realpath(path))
    for aside in target.parent.glob(f"{_hidden_name(target)}-{'?' * LETTERS}.part"):
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                aside.unlink()  # which is refused there while a process has it open
            else:
                with open(aside, "r+b") as file:
                    if _lock(file):
                        aside.unlink()


class LineFile:
    """A text file written in whole lines; they are in the file when `write` returns.

    owner:  how errors name it, before the path.
    append: continue an existing file instead of replacing it. Either way lines go to the file's end, wherever that is
            by then: two programs that write the same file do not overwrite each other.
    Raises: OutputError if the file cannot or must not be written.
    """

    def __init__(self, owner: str, path: str, append: bool = False) -> None:
        self._name, self._path = f"{owner}: {path}", path
        extra = 0 if append else os.O_TRUNC
        try:
            if reason := _protection(Path(path), grows=True):
                raise OutputError(f"{self._name}: cannot be written: {reason}")
            self._is_new = not os.path.exists(path)
            self._file = open(path, "ab", buffering=0, opener=lambda name, flags: os.open(name, flags | extra, 0o666))  # noqa: SIM115
        except (OSError, ValueError) as error:
            raise OutputError(f"{self._name}: cannot be written: {_reason(error)}") from error

    @property
    def empty(self) -> bool:
        return os.fstat(self._file.fileno()).st_size == 0

    def write(self, text: str) -> None:
        """Append whole lines. Raises OutputError, with none of them in the file."""
        content, done = text.encode(), 0
        try:
            while done < len(content):  # an almost full disk takes a part, and reports only the count
                done += self._file.write(content[done:])
        except OSError as error:
            raise OutputError(f"{self._name}: cannot be written: {_reason(error)}") from error
        finally:
            if 0 < done < len(content):
                self._take_back(done)

    def close(self) -> None:
        """Close the file; a new one that no line came into is removed."""
        with contextlib.suppress(OSError):  # such as: somebody else removed it
            if self._is_new and self.empty and os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path)):
                if sys.platform == "win32":
                    self._file.close()
                os.unlink(self._path)
        self._file.close()

    def _take_back(self, written: int) -> None:
        with contextlib.suppress(OSError):  # not possible in a pipe
            self._file.truncate(os.fstat(self._file.fileno()).st_size - written)


@contextlib.contextmanager
def owned(option: str, path: str) -> Iterator[None]:
    """Own the file meanwhile, whether it exists or not, by a lock on a hidden file next to it.

    A lock ends with its process, however that ends. Where there are no locks, or no file can be created, nothing is
    locked. Raises ArgumentError, naming the option, if another process owns the file.
    """
    try:
        file = _open_lock(path)
    except _TakenError:
        raise ArgumentError(
            f"{option}: {path}: another training is saving to it; wait until it ends, or choose another name"
        ) from None
    try:
        yield
    finally:
        _close_lock(file)


@contextlib.contextmanager
def in_turn(path: str, waiting: Callable[[], object]) -> Iterator[None]:
    """As `owned`, but while another process owns the file, wait and call `waiting` now and then."""
    while True:
        try:
            file = _open_lock(path)
            break
        except _TakenError:
            waiting()
            time.sleep(TURN_SECONDS)
    try:
        yield
    finally:
        _close_lock(file)


def check_output(option: str, path: str, *, size: int = 0, grows: bool = False) -> None:
    """Raise ArgumentError unless a file can be created or replaced at `path`. Call it before any work.

    size:  bytes that it will have at least.
    grows: it will be written line by line in place, and may be a device or a pipe.
    """
    if path == "":
        raise ArgumentError(f"{option}: expected a path, got ''")
    try:
        target = Path(os.path.realpath(path))
        if not target.parent.is_dir():
            raise ArgumentError(f"{option}: {path}: no such folder: {target.parent}; create it, or choose another path")
        if reason := _protection(target, grows):
            raise ArgumentError(f"{option}: {path}: {reason}; choose another name")
        if grows and target.exists():
            return
    except ArgumentError:
        raise
    except (OSError, ValueError) as error:  # a name that is too long, a folder without permission
        raise ArgumentError(f"{option}: {path}: cannot be written: {_reason(error)}") from error
    try:
        with _open_aside(target) as file:
            pass
        os.unlink(file.name)
    except OSError as error:
        raise ArgumentError(
            f"{option}: {path}: the folder {target.parent} cannot be written to: {_reason(error)}"
        ) from error
    with contextlib.suppress(OSError):
        disk = shutil.disk_usage(target.parent)
        if disk.free < size and disk.total:
            raise ArgumentError(
                f"{option}: {path}: needs {size:,} bytes, but the disk has {disk.free:,} free; choose another disk"
            )


def check_distinct(paths: Mapping[str, str | None]) -> None:
    """Raise ArgumentError if two options, by name, were given the same file: one would overwrite the other's."""
    given = [(option, path) for option, path in paths.items() if path]
    for (one, first), (other, second) in itertools.combinations(given, 2):
        if same_file(first, second):
            raise ArgumentError(f"{other}: {second} is also the file of {one}; choose another file")


def same_file(one: str, other: str) -> bool:
    """Whether two paths are of one file, there already or not."""
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


def instead_of(path: str | os.PathLike[str]) -> list[Path]:
    """Where to put what cannot be written to the path in the end: beside it, or among the temporary files."""
    name = f"gpunet-{secrets.token_hex(LETTERS // 2)}{Path(path).suffix}"
    places = [Path(path).with_name(name)]
    with contextlib.suppress(OSError):  # where there is no temporary folder either
        places.append(Path(tempfile.gettempdir()) / name)
    return places


def _protection(target: Path, grows: bool = False) -> str | None:
    """Why the file must not be replaced (or, with `grows`, appended to); None if it may, or does not exist."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode) or not (grows or stat.S_ISREG(mode)):
        return "not a file"
    # The second check is for the superuser, whom the system lets write everything.
    if not os.access(target, os.W_OK) or (stat.S_ISREG(mode) and not mode & 0o222):
        return "the file is write-protected"
    return None


def _hidden_name(target: Path) -> str:
    """The start of the hidden names of a file: equally long for long and short names."""
    return f".gpunet-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:LETTERS]}"


def _open_aside(target: Path) -> IO[bytes]:
    """A new file next to the target, locked where that is possible."""
    while True:
        aside = target.with_name(f"{_hidden_name(target)}-{secrets.token_hex(LETTERS // 2)}.part")
        file = open(aside, "xb")  # noqa: SIM115 - the caller's
        if _lock(file) is not False and aside.exists():
            return file
        file.close()  # another process removed it as a leftover, before it was locked


class _TakenError(Exception):
    """Another process owns the file."""


def _open_lock(path: str) -> IO[bytes] | None:
    """The file's lock, taken; None where there are no locks. Raises _TakenError."""
    target = Path(os.path.realpath(path))
    while True:
        try:
            file = open(target.with_name(f"{_hidden_name(target)}.lock"), "ab")  # noqa: SIM115 - the caller's
        except (OSError, ValueError):  # check_output reports why it cannot be created
            return None
        if _lock(file) is False:
            file.close()
            raise _TakenError
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(file.name)):
                return file
        file.close()  # its last owner has just removed it


def _close_lock(file: IO[bytes] | None) -> None:
    if file is None:
        return
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            file.close()
        os.unlink(file.name)  # while still locked: otherwise it could be another process' by now
    file.close()


def _lock(file: IO[bytes]) -> bool | None:
    """Lock an open file for this process: whether that succeeded, or None where there are no locks."""
    try:
        if sys.platform == "win32":
            file.seek(FAR)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a power failure, where the system can (Windows cannot open a folder)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
