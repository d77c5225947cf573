"""Ctrl-C while a command starts: its imports take a part of a second, and would answer with a traceback.

gpunet/__init__.py imports this before all else. It does something only in a process that was started as a command:
`python -m gpunet...`, or the installed `gpunet`. Nothing has begun by then, so the process may end where it stands.
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130


def catch_interrupts() -> None:
    """Until `done`, Ctrl-C ends the process with one line."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def done() -> None:
    """Ctrl-C is KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command() -> bool:
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # which it is while Python looks for the module that it is to run
        return any(word.removeprefix("-m").partition(".")[0] == "gpunet" for word in sys.orig_argv[1:])
    return os.path.splitext(os.path.basename(program))[0] == "gpunet"


def _end(number: int, frame: object) -> None:
    os.write(2, b"gpunet: interrupted\n")
    os._exit(INTERRUPTED)
