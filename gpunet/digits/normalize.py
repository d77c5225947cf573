"""Converts a photo or scan of a digit to the format of MNIST's examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from gpunet.digits.images import ImageSource, name_of, read_grey
from gpunet.errors import ArgumentError, DataError

Grey = NDArray[np.floating[Any]]  # an image (height, width), 0 black, 1 white
Strokes = NDArray[np.floating[Any]]  # (height, width): 1 ink, 0 paper
Window = tuple[slice, slice]

SIDE, BOX = 28, 20  # pixels: sides of an example, and of the square that the digit just fits into
INKS = ("auto", "dark", "light")
COARSE = 200  # longer side, in pixels, of the reduced image in which the digit is searched for
REACHES = (1 / 24, 1 / 16, 1 / 12, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2)  # of that side: possible stroke widths
FAINTEST = 0.06  # least contrast of visible strokes; paper and sensors vary by less
FULL, FAINT = 0.5, 0.2  # shares of the ink's contrast: certainly a stroke; a stroke if it touches one
SPECK = 0.04  # share of the largest part's ink: a separate part with less is dirt
FRAME = 0.85  # a part around another one that fills more of its bounding box, holes included, is no digit
INSIDE = 1 / 3  # of its length: a part that contains one this long is a frame
FAR = 1 / 4  # of the digit's length: parts farther away do not belong to it
SMALLEST = 6  # pixels of the reduced image: anything shorter is no digit
MOST_PIECES = 12  # of ink and of paper, within a digit; noise has more
BRIGHT, BLACK = 0.9, 0.02  # strokes and background of MNIST's examples; in a JPEG they are not quite white and black
OFF = 0.7  # pixels from the middle to an example's centre of mass: half a pixel, plus the shift by a JPEG
THINNEST = 2.4  # pixels of an example: thinner strokes are widened to this; nine in ten of MNIST's are wider


def read_digit(image: ImageSource, ink: str = "auto") -> NDArray[np.uint8]:
    """The digit in an image, as `normalize` returns it.

    image: a path, an open file, a PIL image, or an array, as for `gpunet.digits.images.read_grey`.
    Raises DataError, naming the image, if it cannot be read or has no digit; ArgumentError for any other type.
    """
    grey = read_grey(image)
    try:
        return normalize(grey, ink)
    except DataError as error:
        raise DataError(f"{name_of(image)}: {error}") from None


def normalize(grey: Grey, ink: str = "auto") -> NDArray[np.uint8]:
    """A grey image (height, width) in 0..1 of one digit, converted to (28, 28) uint8, light on dark, like MNIST's.

    "The original black and white images from NIST were size normalized to fit in a 20x20 pixel box while preserving
    their aspect ratio. The resulting images contain grey levels as a result of the anti-aliasing technique used by the
    normalization algorithm. The images were centered in a 28x28 image by computing the center of mass of the pixels,
    and translating the image so as to position this point at the center of the 28x28 field." (Yann LeCun, Corinna
    Cortes, Christopher J. C. Burges: The MNIST database of handwritten digits.)

    Before that the digit is located, on paper that may be unevenly lit; strokes thinner than almost all of MNIST's are
    widened. An image that already has MNIST's format, or its negative, is used unchanged, bit by bit.

    ink:    whether the strokes are "dark" or "light" on their ground; "auto" takes the larger area for the ground.
    Raises: DataError if no digit is visible; ArgumentError for another ink.
    """
    if ink not in INKS:
        raise ArgumentError(f"ink: expected one of {', '.join(INKS)}; got {ink!r}")
    for known, example in (("light", grey), ("dark", 1 - grey)):
        if ink in ("auto", known) and _has_form_of_mnist(example):
            return np.rint(255 * example).astype(np.uint8)
    step = min(math.ceil(max(grey.shape) / COARSE), *grey.shape)  # at least one, even for an image of a single row
    coarse = _reduced(grey, step)
    if ink == "auto":
        ink = _ink(coarse)
    if ink == "dark":
        grey, coarse = 1 - grey, 1 - coarse
    rows, columns, width = _find(coarse)
    margin = 1 + max(rows.stop - rows.start, columns.stop - columns.start) // 4
    around = tuple(slice(max(0, step * (s.start - margin)), step * (s.stop + margin)) for s in (rows, columns))
    strokes, clearness = _strokes(grey[around], math.ceil(3 * step * width))
    _require_seen(clearness)
    strokes = _widened(strokes[bounds(strokes)])
    return centred(fitted(strokes))


def _has_form_of_mnist(grey: Grey) -> bool:
    """Whether this could be a result of `normalize`: light strokes on black that just fit the box, centred by mass.

    All 70,000 images of MNIST pass. So do their JPEG copies, at the second level: JPEG leaves faint traces.
    """
    if grey.shape != (SIDE, SIDE) or grey.max() < BRIGHT or np.median(grey) > BLACK:
        return False
    return any(_fits_the_box(np.where(grey > level, grey, 0)) for level in (0, FAINT))


def _fits_the_box(strokes: Strokes) -> bool:
    middle = ndimage.center_of_mass(strokes)
    return _length(bounds(strokes)) in (BOX - 1, BOX) and all(abs(centre - SIDE / 2) <= OFF for centre in middle)


def _ink(grey: Grey) -> str:
    """Whether the ink is dark or light: where there is contrast, the level that covers more of the area is paper.

    Judged in windows of all sizes, because a window larger than a digit may contain edges of shadows.
    """
    balance = 0.0
    for reach in _windows(grey):
        lightest = ndimage.grey_dilation(grey, size=(reach, reach), mode="nearest")
        darkest = ndimage.grey_erosion(grey, size=(reach, reach), mode="nearest")
        contrast = lightest - darkest
        nearer = 2 * grey - lightest - darkest  # above 0: nearer to the lightest
        balance += nearer[contrast >= contrast.max() / 2].mean() / max(contrast.max(), FAINTEST)
    return "dark" if balance > 0 else "light"


def _find(grey: Grey) -> tuple[slice, slice, float]:
    """Rows, columns and mean stroke width (in pixels) of the digit, light on dark.

    The window of the right size separates best: a smaller one hollows strokes out, a larger one takes the edges of
    shadows for ink. In a drawing without noise, the corners that a small window leaves of a straight stroke differ
    clearly as well, so windows whose result cannot be a digit are left out.
    """
    found = [_strokes(grey, window) for window in _windows(grey)]
    strokes, clearness = max(found, key=lambda pair: (_may_be_digit(pair[0]), pair[1]))
    _require_seen(clearness)
    _require_seen(_may_be_digit(strokes))
    rows, columns = bounds(strokes)
    return rows, columns, _stroke_width(strokes)


def _may_be_digit(strokes: Strokes) -> bool:
    """Whether they are long enough, and not in too many pieces."""
    if not strokes.any():
        return False
    window = bounds(strokes)
    return _length(window) >= SMALLEST and _pieces(strokes[window]) <= MOST_PIECES


def _require_seen(seen: float | bool) -> None:
    if not seen:
        raise DataError(
            "no digit found; expected one, dark on light or light on dark; crop the image to the paper around the digit"
        )


def _pieces(strokes: Strokes) -> int:
    """The number of connected pieces of ink and of the paper in and around it."""
    ink = np.pad(strokes > FULL, 1)
    pieces: int = ndimage.label(ink, np.ones((3, 3)))[1] + ndimage.label(~ink)[1]
    return pieces


def _windows(grey: Grey) -> list[int]:
    return sorted({max(3, int(max(grey.shape) * reach)) for reach in REACHES})


def _strokes(grey: Grey, window: int) -> tuple[Strokes, float]:
    """Strokes: all that is lighter than its surroundings and narrower than the window; and how clear they are, in 0..1.

    0 if there are none. The surroundings are the grey opening: the image without anything light and narrower than the
    window. It follows the lighting, even the edge of a shadow; Serra, Image Analysis and Mathematical Morphology
    (1982).
    """
    smooth = ndimage.gaussian_filter(grey, max(grey.shape) / 400)  # against noise
    contrast = smooth - ndimage.grey_opening(smooth, size=(window, window), mode="nearest")
    contrast = np.maximum(contrast - np.median(contrast), 0)
    level, clearness = _ink_level(contrast)
    if level < FAINTEST:
        return np.zeros_like(contrast), 0.0
    strokes = np.minimum(contrast / level, 1)
    return np.where(_digit_parts(strokes), strokes, 0), clearness


def _ink_level(contrast: Grey) -> tuple[float, float]:
    """The ink's contrast (median), and the share of the variance that lies between ink and paper.

    The threshold is Otsu's, which maximizes that share (A Threshold Selection Method from Gray-Level Histograms, 1979).
    """
    if contrast.max() < FAINTEST:
        return 0.0, 0.0
    counts, edges = np.histogram(contrast, 256)
    sums = np.cumsum(counts * (edges[1:] + edges[:-1]) / 2)
    below = np.cumsum(counts)[:-1]  # never 0, nor is `above`: the first and last bins are not empty
    above = contrast.size - below
    between = below * above * (sums[:-1] / below - (sums[-1] - sums[:-1]) / above) ** 2 / contrast.size**2
    best = int(between.argmax())
    return float(np.median(contrast[contrast >= edges[best + 1]])), float(between[best] / contrast.var())


def _digit_parts(strokes: Strokes) -> NDArray[np.bool_]:
    """Where the digit is: connected parts with definite ink; no dirt, no frame, nothing far away or touching the rim.

    If everything touches the rim, lines on the paper may be what connects it: they are fainter than ink.
    """
    for least in (FAINT, FULL):
        digit, inside = _parts(strokes, least)
        if inside:
            return digit
    return _parts(strokes, FAINT)[0]  # the digit itself touches the rim


def _parts(strokes: Strokes, least: float) -> tuple[NDArray[np.bool_], bool]:
    """The connected parts above this level of ink that make up the digit, and whether they avoid the rim."""
    parts, count = ndimage.label(strokes > least, np.ones((3, 3)))
    numbers = np.arange(1, count + 1)
    amounts = ndimage.sum_labels(strokes, parts, numbers)
    definite = np.isin(numbers, parts[strokes > FULL])
    amounts[~definite] = 0
    rim = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    inside = np.where(np.isin(numbers, rim), 0, amounts)
    is_inside = bool(inside.max() > amounts.max() / 10)
    if is_inside:
        amounts = inside
    boxes = ndimage.find_objects(parts)
    kept = [int(number) for number in numbers[amounts > SPECK * amounts.max()]]
    kept = [number for number in kept if not _is_frame(parts, number, boxes, kept)]
    kept = _together(boxes, sorted(kept, key=lambda number: -amounts[number - 1]))
    return np.isin(parts, kept), is_inside


def _is_frame(parts: NDArray[np.integer], number: int, boxes: Sequence[Window], others: Sequence[int]) -> bool:
    """Whether the part surrounds another one, like the edge of a sheet on a dark table."""
    box = boxes[number - 1]
    inside = [
        boxes[other - 1]
        for other in others
        if all(a.start < b.start and b.stop < a.stop for a, b in zip(box, boxes[other - 1], strict=True))
    ]
    if not inside:
        return False
    filled = ndimage.binary_fill_holes(parts[box] == number)
    return bool(filled.mean() > FRAME) or max(map(_length, inside)) > INSIDE * _length(box)


def _together(boxes: Sequence[Window], numbers: Sequence[int]) -> list[int]:
    """The first part, and all parts near it or near one already taken. Punched holes at the side are too far away."""
    taken, left = [numbers[0]], list(numbers[1:])
    rows, columns = boxes[numbers[0] - 1]
    while near := [
        number for number in left if _gap((rows, columns), boxes[number - 1]) <= FAR * _length((rows, columns))
    ]:
        taken, left = taken + near, [number for number in left if number not in near]
        rows, columns = (
            slice(min(s.start for s in sides), max(s.stop for s in sides))
            for sides in zip(*(boxes[number - 1] for number in taken), strict=True)
        )
    return taken


def _gap(one: Window, other: Window) -> int:
    """Pixels between two boxes, in the direction of the larger gap."""
    gap: int = max(max(a.start, b.start) - min(a.stop, b.stop) for a, b in zip(one, other, strict=True))
    return gap


def _length(box: Window) -> int:
    """The longer side, in pixels."""
    length: int = max(side.stop - side.start for side in box)
    return length


def bounds(strokes: Strokes) -> Window:
    """The rows and columns with ink."""
    rows, columns = (np.flatnonzero(strokes.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _stroke_width(strokes: Strokes) -> float:
    """In pixels: in a long band, the mean distance to the edge is a quarter of the width."""
    distances = ndimage.distance_transform_edt(np.pad(strokes > FULL, 1))
    return 4 * float(distances[distances > 0].mean())


def _widened(strokes: Strokes) -> Strokes:
    """The strokes, widened on both sides if they would be too thin at the digit's final size."""
    lack = (THINNEST * max(strokes.shape) / BOX - _stroke_width(strokes)) / 2
    if lack < 0.5:
        return strokes
    outside = ndimage.distance_transform_edt(np.pad(strokes <= FULL, math.ceil(lack) + 1, constant_values=True))
    wide: Strokes = np.clip(lack + 1 - outside, 0, 1)
    return wide[bounds(wide)]


def fitted(strokes: Strokes) -> Strokes:
    """The digit scaled to BOX pixels in its longer direction, antialiased."""
    height, width = (max(1, round(BOX * length / max(strokes.shape))) for length in strokes.shape)
    image = Image.fromarray(strokes.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    fitted = np.maximum(np.asarray(image), 0)
    digit: Strokes = fitted / fitted.max()
    return digit


def centred(digit: Strokes) -> NDArray[np.uint8]:
    """The digit in the whole field, its centre of mass as near the middle as whole pixels and the field allow."""
    field: NDArray[np.uint8] = np.zeros((SIDE, SIDE), np.uint8)
    levels = np.rint(255 * digit)  # whole numbers, whose sums are exact in any order
    starts = (
        min(max(0, round(SIDE / 2 - centre)), SIDE - length)
        for centre, length in zip(ndimage.center_of_mass(levels.astype(np.float64)), levels.shape, strict=True)
    )
    place = tuple(slice(start, start + length) for start, length in zip(starts, levels.shape, strict=True))
    field[place] = levels
    return field


def _reduced(grey: Grey, step: int) -> Grey:
    """Means over squares of `step` pixels; the remainder at the right and at the bottom is cut off."""
    height, width = (length // step for length in grey.shape)
    squares = grey[: height * step, : width * step].reshape(height, step, width, step)
    means: Grey = squares.mean(axis=(1, 3))
    return means
