"""Normalization: standardizes inputs by means and variances that the model keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpunet.arrays import as_images
from gpunet.engines.base import on_host
from gpunet.errors import ArgumentError, shown
from gpunet.keras_names import explained
from gpunet.layers import Layer, Preparation

CHUNK = 2**20  # numbers that are worked on at a time, in float64


class Normalization(Preparation):
    """Turns each input into (x - mean) / deviation, like Keras' layer of that name; the first layer of a model.

    `adapt(x)` computes means and variances from examples; they can also be given, one for each input. Bytes are used as
    x / 255, as everywhere. An input that is the same in all examples gets the deviation 1, so that a different value in
    a later example does not become huge.
    """

    mean: NDArray[np.float32] | None = None
    variance: NDArray[np.float32] | None = None

    @explained
    def __init__(self, *, mean: ArrayLike | None = None, variance: ArrayLike | None = None) -> None:
        if (mean is None) != (variance is None):
            raise ArgumentError("Normalization: expected mean and variance, or neither and a call of adapt(x)")
        if mean is not None:
            self._set(_numbers("mean", mean), _numbers("variance", variance))

    def adapt(self, x: ArrayLike) -> None:
        """Compute means and variances from examples: (examples, inputs), or images, as for `fit`."""
        images, _ = as_images("x", x, None)
        images = on_host(images)
        total = sum(part.sum(axis=0) for part in _parts(images))
        mean = total / len(images)
        squares = sum(((part - mean) ** 2).sum(axis=0) for part in _parts(images))
        never_changes = images.min(axis=0) == images.max(axis=0)  # where sums are not exact, as of bytes' x / 255
        self._set(mean, np.where(never_changes, 0, squares / len(images)))

    def apply(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Standardize examples (n, inputs). Raises ArgumentError before `adapt`."""
        if self.mean is None or self.variance is None:
            raise ArgumentError("Normalization: its means and variances are not known yet; call adapt(x) first")
        mean = self.mean.astype(np.float64)
        deviation = np.sqrt(np.where(self.variance == 0, 1, self.variance).astype(np.float64))
        parts = [((part - mean) / deviation).astype(np.float32) for part in _parts(on_host(images))]
        return np.concatenate(parts)

    @property
    def key(self) -> tuple[bytes, ...]:
        """The same for two that turn every example into the same numbers."""
        return tuple(numbers.tobytes() for numbers in (self.mean, self.variance) if numbers is not None)

    def take(self, other: Normalization) -> None:
        """Copy the means and variances of another one."""
        self.mean, self.variance, self.inputs = other.mean, other.variance, other.inputs

    def _set(self, mean: NDArray[np.floating], variance: NDArray[np.floating]) -> None:
        if mean.shape != variance.shape or not len(mean) or not (variance >= 0).all():
            raise ArgumentError(
                f"Normalization: expected a mean and a variance, 0 or above, for each input; got {len(mean)} means "
                f"and {len(variance)} variances, from {shown(float(variance.min()) if len(variance) else None)} on"
            )
        with np.errstate(over="ignore"):
            stored = variance.astype(np.float32)
        lost = ~np.isfinite(stored) | ((stored == 0) & (variance > 0))
        if lost.any():
            raise ArgumentError(
                f"Normalization: input {int(lost.argmax())} has the variance {variance[lost][0]:g}, which float32 "
                "cannot hold; give it in another unit"
            )
        self.mean, self.variance, self.inputs = mean.astype(np.float32), stored, len(mean)


def of(layers: Iterable[Layer]) -> Normalization | None:
    """The model's normalization, if it has one."""
    return next((layer for layer in layers if isinstance(layer, Normalization)), None)


def _parts(images: NDArray[Any]) -> Iterator[NDArray[np.float64]]:
    rows = max(1, CHUNK // images.shape[1])
    for first in range(0, len(images), rows):
        part = images[first : first + rows].astype(np.float64)
        yield part / 255 if images.dtype == np.uint8 else part


def _numbers(name: str, values: Any) -> NDArray[np.floating]:
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ArgumentError(f"Normalization: {name}: expected finite numbers, one for each input; got {shown(values)}")
    return array.reshape(-1).astype(np.float64)
