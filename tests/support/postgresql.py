"""A test's own PostgreSQL server, on loopback and in a temporary folder, or the reason why there is none."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

USER = "gpunet"  # of the database
ORDINARY = "nobody"  # runs the server if the tests run as root, which PostgreSQL refuses
SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=16MB",
    "max_connections=30",
    "listen_addresses=127.0.0.1",
)


def problem() -> str | None:
    """Why no server can be started here, if none can."""
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        return f"psycopg cannot be loaded ({error}); pip install '.[test]'"
    return None if _binaries() else "PostgreSQL is not installed; apt-get install postgresql"


class Server:
    """A running server. url: of its database."""

    def __init__(self, folder: Path) -> None:
        self._folder, binaries = folder, _binaries()
        assert binaries is not None
        self._binaries = binaries
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", f"--username={USER}")
        self.start()

    def start(self) -> None:
        settings = [*SETTINGS, f"port={self.port}", "unix_socket_directories="]
        words = " ".join(f"-c {setting}" for setting in settings)
        self._run("pg_ctl", "start", "--wait", "--silent", f"--log={self._folder / 'log'}", "-o", words)

    def stop(self) -> None:
        """Stop at once, as if the machine had failed."""
        self._run("pg_ctl", "stop", "--mode=immediate", "--wait", "--silent")

    def _run(self, program: str, *words: str) -> None:
        root = hasattr(os, "getuid") and os.getuid() == 0
        who = {"user": ORDINARY, "group": pwd.getpwnam(ORDINARY).pw_gid, "extra_groups": []} if root else {}
        data = self._folder / "data"
        subprocess.run(
            [self._binaries / program, f"--pgdata={data}", *words],
            **who,  # type: ignore[call-overload]
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server, which is stopped and removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="gpunet-postgresql-"))
    try:
        if hasattr(os, "getuid") and os.getuid() == 0:
            shutil.chown(folder, ORDINARY)
        server = Server(folder)
        try:
            yield server
        finally:
            with contextlib.suppress(subprocess.CalledProcessError):  # a test has already stopped it
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _binaries() -> Path | None:
    """The folder of the server's programs: on the path, or where Debian has them."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)
