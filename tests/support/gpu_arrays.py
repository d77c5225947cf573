"""A stand-in for CuPy's arrays without a GPU: the host cannot read it, and copies to the host are counted.

It does what CuPy does without a kernel: slices, reshape, and get of contiguous memory. For anything else, such as
arithmetic, a sum or another type, CuPy would first compile a kernel for a second or more; here it is an error, and so
is an attempt to read it as a NumPy array.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np


class GpuArray:
    """on_device: the elements, for the emulated device alone. downloaded: sizes of all that was copied to the host."""

    downloaded: ClassVar[list[int]] = []
    device: ClassVar[Any] = SimpleNamespace(id=0)

    def __init__(self, elements: Any) -> None:
        self.on_device = np.asarray(elements)

    shape = property(lambda self: self.on_device.shape)
    dtype = property(lambda self: self.on_device.dtype)
    ndim = property(lambda self: self.on_device.ndim)
    size = property(lambda self: self.on_device.size)
    flags = property(lambda self: self.on_device.flags)
    __cuda_array_interface__ = property(lambda self: {"version": 3})

    def get(self) -> np.ndarray:
        self.downloaded.append(self.size)
        return self.on_device.copy()

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("Implicit conversion to a NumPy array is not allowed; use get()")

    def __len__(self) -> int:
        return len(self.on_device)

    def __getitem__(self, key: Any) -> GpuArray:
        return GpuArray(self.on_device[key])

    def reshape(self, *shape: Any) -> GpuArray:
        assert self.flags.c_contiguous, "CuPy would compile a kernel that copies"
        return GpuArray(self.on_device.reshape(*shape))

    def __array_ufunc__(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("CuPy would compile a kernel")
