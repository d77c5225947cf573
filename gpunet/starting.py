"""Ctrl-C while a command starts: the imports take a fraction of a second, and would end in a traceback.

gpunet/__init__.py imports this first. It acts only in a process that was started as a command: `python -m gpunet...` or
the installed `gpunet`. No work has begun by then, so the process may simply exit.
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130


def catch_interrupts() -> None:
    """Until `done` is called, Ctrl-C ends the process with one line."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def done() -> None:
    """Ctrl-C raises KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command() -> bool:
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # what it is until Python has found the module to run
        return any(word.removeprefix("-m").partition(".")[0] == "gpunet" for word in sys.orig_argv[1:])
    return os.path.splitext(os.path.basename(program))[0] == "gpunet"


def _end(number: int, frame: object) -> None:
    os.write(2, b"gpunet: interrupted\n")
    os._exit(INTERRUPTED)
