"""Arrays of the emulated device."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import AddressError

ALIGNMENT = 256  # of the first element, as CUDA's allocations have
GUARD = 256  # bytes before and after the elements: all bits set, and looked at when the array is downloaded


class EmulatedArray:
    """Contiguous memory of the device. The host cannot read it: `device.download(array)` copies it back."""

    def __init__(self, elements: npt.NDArray[Any], base: npt.NDArray[np.uint8]) -> None:
        """Wrap `elements`, which lie in the allocation `base` (guards included)."""
        self.elements = elements
        self.base = base
        self.address: int = elements.__array_interface__["data"][0]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.elements.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.elements.dtype

    @property
    def ndim(self) -> int:
        return self.elements.ndim

    @property
    def size(self) -> int:
        return self.elements.size

    @property
    def nbytes(self) -> int:
        return self.elements.nbytes

    def __len__(self) -> int:
        return len(self.elements)

    def __getitem__(self, rows: slice) -> EmulatedArray:
        """View of consecutive rows."""
        if not isinstance(rows, slice) or rows.step not in (None, 1):
            raise TypeError(f"a device array is indexed by a slice of its first axis, got {rows!r}")
        return EmulatedArray(self.elements[rows], self.base)

    def view(self, dtype: npt.DTypeLike) -> EmulatedArray:
        """The same memory as elements of another type; the device's loads must be aligned to it."""
        kind = np.dtype(dtype)
        if self.address % kind.itemsize:
            raise ValueError(f"view: address {self.address} is not aligned to {kind}")
        return EmulatedArray(self.elements.view(kind), self.base)

    def __array__(self, *_: Any, **__: Any) -> npt.NDArray[Any]:
        raise TypeError("the host cannot read a device array; use device.download(array)")

    def __repr__(self) -> str:
        return f"EmulatedArray(shape={self.shape}, dtype={self.dtype})"

    def check_guards(self) -> None:
        """Raise AddressError if a kernel wrote just before or just after the allocation."""
        for side, guard in (("before", self.base[:GUARD]), ("after", self.base[-GUARD:])):
            if guard.min() != 0xFF:
                raise AddressError(
                    f"a kernel wrote {side} the array that {self!r} belongs to; "
                    'EmulatedDevice(sanitizer="address") names the line'
                )


Argument = EmulatedArray | np.generic  # of a kernel


def allocate(shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> EmulatedArray:
    """An array whose every byte is 0xFF: NaN as float, -1 as int."""
    kind = np.dtype(dtype)
    sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    nbytes = kind.itemsize * int(np.prod(sizes, dtype=np.int64))
    memory = np.empty(nbytes + 2 * GUARD + ALIGNMENT, np.uint8)
    start = -(memory.__array_interface__["data"][0] + GUARD) % ALIGNMENT
    base = memory[start : start + nbytes + 2 * GUARD]
    base[:] = 0xFF
    return EmulatedArray(base[GUARD : GUARD + nbytes].view(kind).reshape(sizes), base)
