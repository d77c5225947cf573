"""Converts the strokes of a pen, as recorded by a tablet or a page, to the format of MNIST's examples.

gpunet/page/digit.js does the same in a browser, operation by operation, with the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpunet.digits.normalize import BOX, THINNEST, Strokes, bounds, centred, fitted
from gpunet.errors import ArgumentError, DataError

FINE = 8  # dots per pixel of the example, in the drawing before it is scaled
THICKEST = 3.6  # pixels of an example: wider strokes are narrowed to this; nine in ten of MNIST's are thinner


def from_strokes(strokes: Sequence[ArrayLike]) -> NDArray[np.uint8]:
    """A digit as (28, 28) uint8, light on dark, like the result of `normalize` for an image.

    strokes: each (points, 3): x to the right, y downwards, and the pen's width there, all in the same unit, whatever it
             is. A stroke of one point is a dot. Widths are limited to the range of MNIST's strokes.
    Raises:  ArgumentError for other shapes, or numbers that are not finite; DataError if there is no stroke.
    """
    lines = [np.asarray(stroke, np.float64) for stroke in strokes]
    for line in lines:
        if line.ndim != 2 or line.shape[1] != 3 or not np.isfinite(line).all() or (line[:, 2] <= 0).any():
            raise ArgumentError(
                f"strokes: expected (points, 3) finite numbers each, x, y and a width above 0; got shape {line.shape}"
            )
    lines = [line for line in lines if len(line)]
    if not lines:
        raise DataError("no digit found; expected at least one stroke")
    drawing = _drawn(_scaled(lines))
    return centred(fitted(drawing[bounds(drawing)]))


def _scaled(lines: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """The lines with widths limited to MNIST's range, scaled to the box in dots, one dot from the upper left corner.

    If `extent` is the longer side of all points, and w the pen's width, the digit is extent + w long. Scaled to the
    box, the pen is w * BOX / (extent + w) pixels wide, which is solved for w at both limits.
    """
    points = np.concatenate(lines)
    extent = float(np.ptp(points[:, :2], axis=0).max())
    if extent > 0:  # else it is a dot, of any width
        least, most = (extent * limit / (BOX - limit) for limit in (THINNEST, THICKEST))
        points[:, 2] = np.minimum(np.maximum(points[:, 2], least), most)
    low = (points[:, :2] - points[:, 2:] / 2).min(axis=0)
    high = (points[:, :2] + points[:, 2:] / 2).max(axis=0)
    scale = FINE * BOX / float((high - low).max())
    points[:, :2] = (points[:, :2] - low) * scale + 1
    points[:, 2] *= scale
    return np.split(points, np.cumsum([len(line) for line in lines])[:-1])


def _drawn(lines: Sequence[NDArray[np.float64]]) -> Strokes:
    """How much of each dot is covered: 1 inside the pen's path, 0 outside, in between within half a dot of its edge."""
    points = np.concatenate(lines)
    width, height = (int(np.ceil((points[:, axis] + points[:, 2] / 2).max())) + 1 for axis in (0, 1))
    y, x = np.mgrid[:height, :width] + 0.5
    drawing = np.zeros((height, width))
    for line in lines:
        for start, end in zip(line, line[1:] if len(line) > 1 else line, strict=False):
            (from_x, from_y, from_width), (along_x, along_y, along_width) = start, end - start
            square = along_x * along_x + along_y * along_y
            way = ((x - from_x) * along_x + (y - from_y) * along_y) / square if square > 0 else np.zeros_like(x)
            way = np.minimum(np.maximum(way, 0), 1)
            off_x, off_y = x - (from_x + way * along_x), y - (from_y + way * along_y)
            radius = (from_width + way * along_width) / 2
            cover = radius + 0.5 - np.sqrt(off_x * off_x + off_y * off_y)
            drawing = np.maximum(drawing, np.minimum(np.maximum(cover, 0), 1))
    return drawing
