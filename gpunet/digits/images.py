"""Reads an image from any camera, scanner or program as a grey image. Pillow decodes it."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gpunet.errors import ArgumentError, DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # of Pillow's many formats, those that are tested
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST_PIXELS = 120_000_000  # as phone cameras produce; at 4 bytes each, reading takes twice half a gigabyte
SIDE = 800  # longer side of the result: enough for a digit that fills a tenth of it
DEPTHS = (1, 8, 10, 12, 14, 16, 24, 32)  # bits per level that cameras, scanners and their programs use

ImageSource = str | os.PathLike[str] | IO[bytes] | Image.Image | NDArray[Any]


def read_grey(image: ImageSource) -> NDArray[np.float64]:
    """The image as (height, width) in 0..1, black to white, upright by its EXIF data, at most SIDE pixels long.

    image: a path; a file object, open for reading bytes, which stays open; a PIL image, which stays unchanged; or an
    array (height, width) or (height, width, channels) with 1 channel, 2 (grey and opacity), 3 (red, green, blue) or 4
    (red, green, blue and opacity).

    White is 255 for bytes. For whole numbers of more bits, it is the largest number of the smallest depth in DEPTHS
    that holds them all: 4095 for 12 bits in a 16-bit file. Fractions that all lie in 0..1 are used unchanged; others
    are treated like whole numbers. If some are negative, the lowest is black and the highest white.

    Of red, green, blue and luminance, the one with the most contrast is used: a red pen shows best in green.
    Transparent pixels get the colour of the rest or, if most are transparent, a colour that the rest stands out from.
    Raises DataError, naming the image, if it is not an image, damaged, or larger than MOST_PIXELS; ArgumentError for
    any other type.
    """
    with _explained(name_of(image)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images, and of odd metadata that do not matter here
        if isinstance(image, np.ndarray):
            return _grey(_from_array(image))
        if isinstance(image, Image.Image):
            return _grey(_upright(image))
        if isinstance(image, str | os.PathLike):
            path = Path(image)
            if path.exists() and not path.is_file():
                raise DataError("not a regular file; expected a PNG, JPEG or TIFF file")
            image = str(path)
        with Image.open(image, formats=FORMATS) as opened:
            _check_size(opened.width * opened.height)
            opened.draft(None, (SIDE, SIDE))  # a JPEG may be decoded at a half, a quarter or an eighth
            return _grey(_upright(opened))


def name_of(image: Any) -> str:
    """The image's name in errors. Raises ArgumentError for what cannot be an image."""
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    if isinstance(image, Image.Image):
        return getattr(image, "filename", "") or "the image"
    if isinstance(image, np.ndarray):
        return "the array"
    if not callable(getattr(image, "read", None)):
        hint = "; wrap bytes in io.BytesIO" if isinstance(image, bytes | bytearray | memoryview) else ""
        raise ArgumentError(
            f"image: expected a path, an open file, a PIL image or a NumPy array, got {type(image).__name__}{hint}"
        )
    if isinstance(image, io.TextIOBase):
        raise ArgumentError("image: expected a file open for reading bytes, got a text file; open it with 'rb'")
    name = getattr(image, "name", "")
    return name if isinstance(name, str) and name else "the file"


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn whatever reading an image raises into a DataError that names it."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: {_TOO_LARGE}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not a readable image; expected a PNG, JPEG or TIFF file") from error
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file; expected a PNG, JPEG or TIFF file, or a folder of them") from error
    except Exception as error:  # decoders raise many undocumented types for damaged data
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{name}: cannot be read: {reason}") from error


_TOO_LARGE = f"more than {MOST_PIXELS:,} pixels; scale it down"


def _check_size(pixels: int) -> None:
    if pixels > MOST_PIXELS:
        raise DataError(_TOO_LARGE)


def _upright(image: Image.Image) -> Image.Image:
    """An upright copy."""
    _check_size(image.width * image.height)
    return ImageOps.exif_transpose(image)


def _from_array(array: NDArray[Any]) -> Image.Image:
    """The array as an image: of floats without colour, of bytes with colour."""
    if isinstance(array, np.ma.MaskedArray):
        raise DataError("a masked array, whose mask would be ignored; pass array.filled(0)")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or array.size == 0 or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)):
        raise DataError(
            f"expected (height, width) or (height, width, channels) with 1 to 4 channels, got {array.shape}"
        )
    if array.dtype.kind not in "buif":
        raise DataError(f"expected numbers, got data type {array.dtype}")
    _check_size(array.shape[0] * array.shape[1])
    if array.dtype != np.uint8:
        array = _levels(array)
        if array.ndim == 3:
            array = np.rint(255 * array).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array))


def _levels(numbers: NDArray[Any]) -> NDArray[np.float32]:
    """Whole numbers of any depth, or fractions, as float32 in 0..1; see `read_grey`."""
    low, high = float(numbers.min()), float(numbers.max())
    if not np.isfinite([low, high]).all():
        raise DataError("has NaN or infinite levels; expected numbers from 0 (black) to 1 (white)")
    if low < 0:
        start, full = low, (high - low) or 1.0
    elif numbers.dtype.kind == "f" and high <= 1:
        start, full = 0.0, 1.0
    else:
        start, full = 0.0, next((float(2**bits - 1) for bits in DEPTHS if high < 2**bits), high)
    return ((numbers.astype(np.float32) - np.float32(start)) / np.float32(full)).astype(np.float32, copy=False)


def _grey(image: Image.Image) -> NDArray[np.float64]:
    """The result of `read_grey`. Overwrites the image, because a copy of a large one would need much memory."""
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's conversion would clip these at 255
        return np.asarray(_shrunk(Image.fromarray(_levels(np.asarray(image)))), np.float64)
    if image.has_transparency_data:
        image = _on_background(_shrunk(image.convert("RGBA")))
    image = _shrunk(image if image.mode == "L" else image.convert("RGB"))
    return max((np.asarray(band) / 255 for band in (image.convert("L"), *image.split())), key=_contrast)


def _contrast(grey: NDArray[np.float64]) -> float:
    return float(np.subtract(*np.percentile(grey, (99.5, 0.5))))


def _on_background(image: Image.Image) -> Image.Image:
    """The RGBA image on an opaque background."""
    pixels = np.asarray(image, np.float64)
    shown = pixels[..., 3] > 127
    if shown.mean() > 0.5 or not shown.any():  # a sheet with transparent corners
        colour = np.median(pixels[..., :3][shown], axis=0) if shown.any() else np.zeros(3)
    else:  # strokes on nothing
        colour = np.full(3, 255 if pixels[..., :3][shown].mean() < 128 else 0)
    background = Image.new("RGBA", image.size, tuple(int(level) for level in (*colour, 255)))
    return Image.alpha_composite(background, image).convert("RGB")


def _shrunk(image: Image.Image) -> Image.Image:
    image.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return image
