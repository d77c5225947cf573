"""Translates addresses in the runtime's messages to what a reader knows: source lines, elements of arguments."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .arrays import Argument, EmulatedArray

_CODE = re.compile(r"\{([0-9a-f]+)\}")
_DATA = re.compile(r"\[0x([0-9a-f]+)\]")


def resolve(binary: Path, message: str, arguments: Sequence[Argument]) -> str:
    """The message with `{code address}` as `file:line` and `[data address]` as `(argument 2, element 7)`."""
    message = _CODE.sub(lambda match: _line(binary, match[1]), message)
    return _DATA.sub(lambda match: _element(int(match[1], 16), arguments), message)


def _line(binary: Path, address: str) -> str:
    """The innermost place in a .cu or .cuh file; what is inlined into a kernel has several."""
    command = ["addr2line", "-i", "-e", str(binary), address]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return f"code address {address}"
    for line in output.splitlines():
        place = line.split(" ")[0].rsplit("/", 1)[-1]
        if place.partition(":")[0].endswith((".cu", ".cuh")):
            return place
    return "a library function"


def _element(address: int, arguments: Sequence[Argument]) -> str:
    for number, array in enumerate(arguments, start=1):
        if isinstance(array, EmulatedArray) and 0 <= address - array.address < array.nbytes:
            return f"(argument {number}, element {(address - array.address) // array.dtype.itemsize})"
    return f"({address:#x})"
