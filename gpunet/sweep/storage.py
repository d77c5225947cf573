"""Where studies are kept: Optuna's storage in a SQLite file or in PostgreSQL, and what happens while it is unreachable.

Workers take turns, because Optuna has no operation for "begin another trial if there are fewer than n": a worker has
the study to itself while it counts and begins trials.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy.exc import DBAPIError, InterfaceError, NoSuchModuleError, OperationalError, SQLAlchemyError

from gpunet import files
from gpunet.errors import ArgumentError, OutputError, first_line

PATIENCE = 30.0  # seconds for which a database may be unreachable
PAUSE = 0.25  # seconds between two attempts
BUSY = 30.0  # seconds that SQLite waits for another process' transaction
CONNECTING = 10  # seconds
# A server is not told when a machine disappears. So it asks after 30 seconds, and gives up after 60.
SESSION = "-c timezone=utc -c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"

Result = TypeVar("Result")


class Storage:
    """An open storage.

    place:    a path, or a URL: sqlite:///FILE or postgresql://HOST/DATABASE.
    takeover: seconds without a sign of life after which a worker counts as dead.
    waiting:  called regularly during a wait.
    name:     of the place, without the password.
    optuna:   Optuna's storage.
    Raises ArgumentError if it cannot be opened. create: whether it may be created.
    """

    def __init__(self, place: str, takeover: float, waiting: Callable[[], object], create: bool = True) -> None:
        self._waiting = waiting
        self._url = _url(place)
        self._path = self._url.database if self._url.get_backend_name() == "sqlite" else None
        self.name = self._path or self._url.set(drivername="postgresql").render_as_string(hide_password=True)
        self._check_file(create)
        self._quieten()
        connecting: dict[str, Any] = {"connect_timeout": CONNECTING, "options": SESSION}
        if self._path is not None:
            connecting = {"timeout": BUSY, "factory": _Connection}
        settings = {"connect_args": connecting, "pool_pre_ping": True}
        try:
            self._locks = sqlalchemy.create_engine(self._url, poolclass=sqlalchemy.NullPool, connect_args=connecting)
            with warnings.catch_warnings(), self.turn(""):
                warnings.simplefilter("ignore")  # Optuna warns that heartbeats are experimental
                text = self._url.render_as_string(hide_password=False)
                self.optuna = RDBStorage(
                    text.replace("{", "{{").replace("}", "}}"),
                    settings,
                    heartbeat_interval=max(1, int(takeover / 4)),
                    grace_period=takeover,  # type: ignore[arg-type]  # fractions work too
                )
        except ImportError as error:
            raise ArgumentError(
                f"--storage: {self.name}: psycopg cannot be loaded ({error}); pip install 'gpunet[postgresql]'"
            ) from error
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise ArgumentError(f"--storage: {self.name}: cannot be opened: {_reason(error)}") from error
        except RuntimeError as error:  # another version's tables
            raise ArgumentError(f"--storage: {self.name}: {first_line(error)}") from error

    def patiently(self, action: Callable[[], Result]) -> Result:
        """Do it, retrying while the database is unreachable. Raises OutputError if that takes too long.

        action: may run twice, if the connection is lost after it was done and before that was confirmed.
        """
        since = None
        while True:
            try:
                return action()
            except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                if not _is_away(error):
                    raise OutputError(f"{self.name}: {_reason(error)}; what was finished is in the study") from error
                since = time.monotonic() if since is None else since
                if time.monotonic() - since > PATIENCE:
                    raise OutputError(
                        f"{self.name}: the database has been away for {PATIENCE:.0f} s ({_reason(error)}); what was "
                        "finished is in the study, and the same line goes on"
                    ) from error
            self._waiting()
            time.sleep(PAUSE)

    @contextlib.contextmanager
    def turn(self, study: str) -> Iterator[None]:
        """Have the study to oneself in this context. A turn ends with its process, however that ends."""
        key = hashlib.sha256(study.encode()).digest()
        if self._path is not None:
            with files.in_turn(f"{os.path.realpath(self._path)}-{key.hex()}", self._waiting):
                yield
            return
        number = {"key": int.from_bytes(key[:8], "big", signed=True)}
        connection = self._locks.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            seconds = files.TURN_SECONDS
            while not connection.execute(sqlalchemy.text("SELECT pg_try_advisory_lock(:key)"), number).scalar():
                self._waiting()
                time.sleep(seconds)
                seconds = min(1.5 * seconds, PAUSE)  # a turn is short, unless it retrains the best
            yield
        finally:
            with contextlib.suppress(SQLAlchemyError):  # the lock ends with the connection
                connection.close()

    def close(self) -> None:
        self.optuna.remove_session()
        self.optuna.engine.dispose()

    def _check_file(self, create: bool) -> None:
        if self._path is None:
            return
        if create:
            files.check_output("--storage", self._path, grows=True)
        elif not os.path.exists(self._path):
            raise ArgumentError(f"--storage: {self._path}: no such file; expected the storage of a sweep")

    @staticmethod
    def _quieten() -> None:
        """Silence the libraries: gpunet reports every failure in a line of its own."""
        optuna.logging.set_verbosity(optuna.logging.CRITICAL)
        logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL)


class _Connection(sqlite3.Connection):
    """SQLite without a flush to disk at every commit. This is just as safe if a process is killed; after a power
    failure, the last commits may be missing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode=WAL")
        self.execute("PRAGMA synchronous=NORMAL")


def _url(place: str) -> sqlalchemy.URL:
    if "://" not in place:
        return sqlalchemy.URL.create("sqlite", database=place)
    expected = "expected a file, or sqlite:///FILE or postgresql://HOST/DATABASE"
    try:
        url = sqlalchemy.make_url(place.replace("postgres://", "postgresql://", 1))
        backend = url.get_backend_name()
    except (SQLAlchemyError, ValueError) as error:
        raise ArgumentError(f"--storage: {expected}; got a URL that cannot be read") from error
    if backend == "sqlite":
        if not url.database or url.database == ":memory:":
            raise ArgumentError(f"--storage: {expected}; got {place}")
        return url
    if backend != "postgresql":
        raise ArgumentError(f"--storage: {expected}; got {backend}")
    return url.set(drivername="postgresql+psycopg")


def _is_away(error: BaseException) -> bool:
    """Whether the database is at fault, not what was asked of it."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    lost = isinstance(cause, DBAPIError) and cause.connection_invalidated
    return lost or isinstance(cause, OperationalError | InterfaceError)


def _reason(error: BaseException) -> str:
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ else error
    if isinstance(cause, NoSuchModuleError):
        return first_line(cause)
    return first_line(getattr(cause, "orig", None) or cause)
