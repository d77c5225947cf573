"""A launch: its geometry, its arguments as the runtime needs them, and the checks that CUDA makes or should make."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arrays import Argument, EmulatedArray

MOST_THREADS = 1024
LARGEST_GRID = (2**31 - 1, 65535, 65535)
LARGEST_BLOCK = (1024, 1024, 64)


class Launch(ctypes.Structure):
    """As in runtime/state.h."""

    _fields_ = [
        ("grid", ctypes.c_uint32 * 3),
        ("block", ctypes.c_uint32 * 3),
        ("shared_bytes", ctypes.c_uint32),
        ("order", ctypes.c_int32),
        ("seed", ctypes.c_uint64),
        ("cooperative", ctypes.c_int32),
        ("kernel", ctypes.c_int32),
        ("timeout", ctypes.c_double),
    ]


class Signature:
    """A kernel's parameters, and arguments as 8-byte slots for them."""

    def __init__(self, kernel: str, text: str) -> None:
        """Take the parameter codes of include/kernel_table.h: "*cf4,*f4,i4,"."""
        self.kernel = kernel
        self.parameters = text.split(",")[:-1]

    def slots(self, arguments: Sequence[Argument]) -> Any:
        """The arguments as an array of 8-byte numbers; TypeError if one does not fit its parameter."""
        if len(arguments) != len(self.parameters):
            raise TypeError(f"{self.kernel}: expected {len(self.parameters)} arguments, got {len(arguments)}")
        values = (ctypes.c_uint64 * len(arguments))()
        for i, (code, argument) in enumerate(zip(self.parameters, arguments, strict=True)):
            if isinstance(argument, EmulatedArray):
                if code[0] != "*" or (code[-1] != "V" and code[-2:] != argument.dtype.str[1:]):
                    raise TypeError(self._mismatch(i, code, argument))
                values[i] = argument.address
            elif isinstance(argument, np.generic) and code == argument.dtype.str[1:]:
                values[i] = int.from_bytes(argument.tobytes(), "little")
            else:
                raise TypeError(self._mismatch(i, code, argument))
        return values

    def writes(self, position: int) -> bool:
        """Whether the kernel may write through this parameter."""
        return self.parameters[position][:1] == "*" and self.parameters[position][:2] != "*c"

    def _mismatch(self, position: int, code: str, argument: object) -> str:
        if isinstance(argument, EmulatedArray):
            came = f"an array of {argument.dtype}"
        elif isinstance(argument, np.generic):
            came = f"numpy.{argument.dtype}"
        else:
            came = f"{type(argument).__name__} (neither a device array nor a NumPy scalar)"
        kind = code.lstrip("*c")
        wanted = "any type" if kind == "V" else str(np.dtype(kind))
        expected = f"an array of {wanted}" if code[0] == "*" else f"numpy.{wanted}"
        return f"{self.kernel}: argument {position + 1}: expected {expected}, got {came}"


def three(name: str, sizes: Sequence[int]) -> tuple[int, int, int]:
    """Grid or block sizes, padded with ones."""
    if not 1 <= len(sizes) <= 3 or any(int(size) < 1 for size in sizes):
        raise ValueError(f"{name}: expected one to three positive sizes, got {tuple(sizes)}")
    x, y, z = (*map(int, sizes), 1, 1)[:3]
    return x, y, z


def check_geometry(
    kernel: str, grid: Sequence[int], block: Sequence[int], shared_bytes: int, most_shared_bytes: int
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Grid and block with three sizes each; ValueError for what CUDA would refuse to launch."""
    grid3, block3 = three(f"{kernel}: grid", grid), three(f"{kernel}: block", block)
    if any(size > largest for size, largest in zip(grid3, LARGEST_GRID, strict=True)):
        raise ValueError(f"{kernel}: grid {grid3} exceeds the largest, {LARGEST_GRID}")
    if any(size > largest for size, largest in zip(block3, LARGEST_BLOCK, strict=True)):
        raise ValueError(f"{kernel}: block {block3} exceeds the largest, {LARGEST_BLOCK}")
    threads = block3[0] * block3[1] * block3[2]
    if threads > MOST_THREADS:
        raise ValueError(f"{kernel}: block {block3} has {threads} threads, expected at most {MOST_THREADS}")
    if not 0 <= shared_bytes <= most_shared_bytes:
        raise ValueError(f"{kernel}: expected 0 to {most_shared_bytes} bytes of shared memory, got {shared_bytes}")
    return grid3, block3
