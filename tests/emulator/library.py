"""Kernels run inside this process, from a shared library."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

from . import places
from .arrays import Argument
from .launches import Launch, Signature


class Library:
    """The shared library of one kernel source."""

    def __init__(self, path: Path) -> None:
        """Load the library. PyDLL: it keeps Python's lock, because the runtime serves one launch at a time."""
        self._path = path
        library = ctypes.PyDLL(str(path))
        self._launch = library.gpunet_launch
        self._message = library.gpunet_message
        self._message.restype = ctypes.c_char_p
        name_of = library.gpunet_kernel_name
        name_of.restype = ctypes.c_char_p
        self.signatures: dict[str, str] = {}
        while (name := name_of(len(self.signatures))) is not None:
            text = ctypes.create_string_buffer(4096)
            library.gpunet_kernel_signature(len(self.signatures), text)
            self.signatures[name.decode()] = text.value.decode()

    def run(self, launch: Launch, signature: Signature, arguments: Sequence[Argument]) -> tuple[int, str]:
        """Run a launch; returns the outcome (0: finished) and its message."""
        outcome: int = self._launch(ctypes.byref(launch), signature.slots(arguments))
        if outcome == 0:
            return 0, ""
        return outcome, places.resolve(self._path, self._message().decode(), arguments)
