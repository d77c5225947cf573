"""Emulated devices that count calls, or have little memory."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from emulator import EmulatedDevice
from gpunet.errors import DeviceError

HOST_WORK = ("upload", "adopt", "write", "copy", "download", "empty", "zeros", "compile", "capture", "synchronize")


class CountingDevice(EmulatedDevice):
    """counts: calls by name since they were last cleared; "launch" counts kernels and graphs that the host starts."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.counts: Counter[str] = Counter()
        for name in HOST_WORK:
            setattr(self, name, self._counted(name, getattr(self, name)))

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.counts[name] += 1
            result = method(*arguments, **options)
            if name in ("compile", "capture"):  # a module or a graph, which the host starts
                return _Launched(result, self)
            return result

        return call


class _Launched:
    def __init__(self, module_or_graph: Any, device: CountingDevice) -> None:
        self._module_or_graph, self._device = module_or_graph, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module_or_graph, name)

    def launch(self, *arguments: Any, **options: Any) -> None:
        if self._device.captured is None:
            self._device.counts["launch"] += 1
        self._module_or_graph.launch(*arguments, **options)


class SmallDevice(EmulatedDevice):
    """Has a given number of bytes of memory. peak: the most in use at a time since it was last set to 0."""

    def __init__(self, memory: int, **options: Any) -> None:
        super().__init__(**options)
        self.memory, self.used, self.peak = memory, 0, 0

    def upload(self, array: Any) -> Any:
        return self._taken(array.nbytes, lambda: super(SmallDevice, self).upload(array))

    def empty(self, shape: Any, dtype: Any) -> Any:
        return self._taken(_bytes(shape, dtype), lambda: super(SmallDevice, self).empty(shape, dtype))

    def zeros(self, shape: Any, dtype: Any) -> Any:
        return self._taken(_bytes(shape, dtype), lambda: super(SmallDevice, self).zeros(shape, dtype))

    def _taken(self, size: int, make: Callable[[], Any]) -> Any:
        if self.used + size > self.memory:
            raise DeviceError(
                f"not enough GPU memory: {size} bytes more are needed, {self.memory - self.used} are free"
            )
        array = make()
        self.used += size
        self.peak = max(self.peak, self.used)
        weakref.finalize(array.base, self._given_back, size)  # views keep the base alive
        return array

    def _given_back(self, size: int) -> None:
        self.used -= size


def _bytes(shape: Any, dtype: Any) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize
