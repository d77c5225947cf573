"""Strokes of a pen: MNIST's examples traced, and ten digits of our own. Points are (x, y) in 0..1 of a sheet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Line = list[tuple[float, float]]
FINE = 4  # dots per pixel of the grid on which lines are traced
RING = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]  # around a dot, clockwise from above


def own_digits(points: int = 12) -> list[list[Line]]:
    """The digits 0 to 9 as people write them, with this many points per arc."""

    def arc(x: float, y: float, across: float, down: float, start: float, stop: float) -> Line:
        """Of an ellipse with these radii; angles in degrees, 0 to the right and 90 downwards."""
        angles = np.radians(np.linspace(start, stop, points))
        return list(zip((x + across * np.cos(angles)).tolist(), (y + down * np.sin(angles)).tolist(), strict=True))

    return [
        [arc(0.5, 0.5, 0.18, 0.3, -90, 270)],
        [[(0.5, 0.2), (0.49, 0.8)]],
        [[*arc(0.5, 0.36, 0.17, 0.16, 190, 395), (0.32, 0.8), (0.7, 0.79)]],
        [[*arc(0.47, 0.34, 0.18, 0.14, 200, 440), *arc(0.47, 0.65, 0.2, 0.17, -80, 160)]],
        [[(0.4, 0.2), (0.3, 0.52), (0.68, 0.5)], [(0.62, 0.25), (0.57, 0.82)]],
        [[(0.64, 0.2), (0.4, 0.21), (0.37, 0.46), *arc(0.47, 0.62, 0.19, 0.18, -110, 150)]],
        [[(0.58, 0.18), (0.44, 0.32), (0.35, 0.56), *arc(0.49, 0.65, 0.14, 0.15, 180, -180)]],
        [[(0.3, 0.24), (0.68, 0.23), (0.55, 0.5), (0.45, 0.8)]],
        [[*arc(0.5, 0.35, 0.13, 0.14, -60, -270), *arc(0.5, 0.65, 0.15, 0.16, -90, 270), (0.6, 0.26)]],
        [[*arc(0.48, 0.36, 0.15, 0.15, 0, -360), (0.62, 0.5), (0.58, 0.82)]],
    ]


def traced(example: NDArray[np.uint8]) -> list[Line]:
    """The middle lines of an example's (28, 28) strokes, as large on the sheet as in the example."""
    side = FINE * len(example)
    ink = np.asarray(Image.fromarray(example).resize((side, side), Image.Resampling.BICUBIC)) > 110
    smooth = ndimage.binary_opening(ink)
    skeleton = _thinned(smooth if smooth.any() else ink)
    lines = _lines({(int(row), int(column)) for row, column in np.argwhere(skeleton)})
    return [[((column + 0.5) / side, (row + 0.5) / side) for row, column in [*line[::6], line[-1]]] for line in lines]


def _thinned(ink: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Lines one dot wide. T. Y. Zhang, C. Y. Suen: A fast parallel algorithm for thinning digital patterns (1984)."""
    ink = np.pad(ink, 1)
    while True:
        before = ink.sum()
        for gone in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            ring = np.array([np.roll(ink, (-row, -column), axis=(0, 1)) for row, column in RING])
            changes = (~ring & np.roll(ring, -1, axis=0)).sum(axis=0)
            around = ring.sum(axis=0)
            removed = ink & (around >= 2) & (around <= 6) & (changes == 1)
            for three in gone:
                removed &= ~ring[list(three)].all(axis=0)
            ink = ink & ~removed
        if ink.sum() == before:
            return ink[1:-1, 1:-1]


def _lines(dots: set[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Paths along the dots, starting at ends if possible, each as long and as straight as possible."""
    left, lines = set(dots), []

    def near(dot: tuple[int, int], among: set[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(dot[0] + row, dot[1] + column) for row, column in RING if (dot[0] + row, dot[1] + column) in among]

    while left:
        dot = min(left, key=lambda dot: (len(near(dot, left)), dot))
        line = [*near(dot, dots - left)[:1], dot]  # from the line that it branches off
        left.remove(dot)
        while ahead := near(dot, left):
            back = line[max(0, len(line) - 6)]
            way = np.subtract(dot, back)
            dot = max(ahead, key=lambda other: (float(np.dot(np.subtract(other, line[-1]), way)), other))
            line.append(dot)
            left.remove(dot)
        if len(line) > FINE or not lines:
            lines.append(line)
    return lines
