"""A stand-in for CuPy's arrays where there is no GPU: the host cannot read it, and what is copied to it is counted.

It has the methods and takes the NumPy functions that gpunet uses, through the protocol by which CuPy takes them; a
method that is not here, or an attempt to read it as a NumPy array, is an error, as it would be or be slow on a GPU.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np


class GpuArray(np.lib.mixins.NDArrayOperatorsMixin):
    """on_device: the elements, for the emulated device alone. downloaded: sizes of all that was copied to the host."""

    downloaded: ClassVar[list[int]] = []
    device: ClassVar[Any] = SimpleNamespace(id=0)

    def __init__(self, elements: Any) -> None:
        self.on_device = np.asarray(elements)

    shape = property(lambda self: self.on_device.shape)
    dtype = property(lambda self: self.on_device.dtype)
    ndim = property(lambda self: self.on_device.ndim)
    size = property(lambda self: self.on_device.size)
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

    def __array_ufunc__(self, function: np.ufunc, method: str, *inputs: Any, **arguments: Any) -> GpuArray:
        if method != "__call__":
            return NotImplemented
        return GpuArray(function(*(getattr(x, "on_device", x) for x in inputs), **arguments))

    def _scalar(self) -> Any:
        self.downloaded.append(self.size)
        return self.on_device.item()

    def __bool__(self) -> bool:
        return bool(self._scalar())

    def __int__(self) -> int:
        return int(self._scalar())

    def __float__(self) -> float:
        return float(self._scalar())


def _method(name: str) -> Any:
    return lambda self, *a, **k: GpuArray(getattr(self.on_device, name)(*a, **k))


for _name in ("reshape", "astype", "all", "any", "argmax", "sum", "min", "max"):
    setattr(GpuArray, _name, _method(_name))
