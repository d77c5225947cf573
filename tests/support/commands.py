"""Commands that a test watches while they run: in a terminal, or until they are interrupted."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from conftest import command_environment


class Ended(NamedTuple):
    """What an interrupted command printed after the signal, and how many seconds it took to end."""

    status: int
    output: str
    errors: str
    seconds: float


def interrupted(
    words: Sequence[object], number: int, after: str, folder: Path | None = None, pause: float = 0.0
) -> Ended:
    """Run `python -u -m WORDS` until a line of its output begins with `after`, and send it a signal.

    pause: seconds between that line and the signal.
    """
    with subprocess.Popen(
        [sys.executable, "-u", "-m", *map(str, words)],
        cwd=folder,
        env=command_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job would ignore it
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(after):
                    break
            time.sleep(pause)
            process.send_signal(number)
            sent = time.perf_counter()
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return Ended(process.returncode, output, errors, time.perf_counter() - sent)


def on_a_terminal(words: Sequence[object], folder: Path | None = None, **environment: str) -> tuple[int, str]:
    """Run `python -m WORDS` on a terminal of 100 columns; its exit status, and all that it wrote there."""
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    variables = {**command_environment(), "TERM": "xterm", **environment}
    variables.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, words)], cwd=folder, env=variables, stdout=secondary, stderr=secondary
    )
    os.close(secondary)
    output = b""
    while True:
        try:
            output += os.read(primary, 65536)
        except OSError:  # the terminal's other end is closed
            break
    os.close(primary)
    return process.wait(), output.decode()
