"""Reads a picture, whatever camera, scanner or program it comes from, as one grey picture. Pillow does the decoding."""

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

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # of Pillow's many; each of them is tested
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST_PIXELS = (
    120_000_000  # what cameras of telephones take; at 4 bytes each half a gigabyte, twice, while they are read
)
SIDE = 800  # longer side of what is returned: enough for a digit that takes a tenth of it
DEPTHS = (1, 8, 10, 12, 14, 16, 24, 32)  # bits that cameras, scanners and their programs keep of a pixel

Picture = str | os.PathLike[str] | IO[bytes] | Image.Image | NDArray[Any]  # what can be read


def read_grey(picture: Picture) -> NDArray[np.float64]:
    """The picture as (height, width) in 0..1, black to white, upright as its EXIF data say, at most SIDE pixels long.

    picture: a path; a file object, open for reading bytes, which stays open; a PIL image, which stays as it is; or an
    array (height, width) or (height, width, channels) with 1 channel, 2 (grey and opacity), 3 (red, green, blue) or 4
    (and opacity).

    Levels of bytes are out of 255. Whole numbers of more bits are out of the smallest of DEPTHS that holds them all:
    12 bits in a file of 16 are out of 4095. Fractions are in 0..1, if they all are; otherwise they are taken as whole
    numbers are, and with negative ones among them they go from black at the lowest to white at the highest.

    Of red, green, blue and their mixture the one with the greatest contrast is taken: a red pen shows best in green.
    What is transparent gets the colour of the rest or, where there is little of a rest, one that it can be seen on.
    Raises DataError, naming the picture, if it is none, damaged, or larger than MOST_PIXELS; ArgumentError for what is
    no kind of picture at all.
    """
    with _explained(name_of(picture)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large pictures, and of odd metadata that play no part here
        if isinstance(picture, np.ndarray):
            return _grey(_from_array(picture))
        if isinstance(picture, Image.Image):
            return _grey(_upright(picture))
        if isinstance(picture, str | os.PathLike):
            path = Path(picture)
            if path.exists() and not path.is_file():
                raise DataError("not a regular file; expected a PNG, JPEG or TIFF file")
            picture = str(path)
        with Image.open(picture, formats=FORMATS) as image:
            _check_size(image.width * image.height)
            image.draft(None, (SIDE, SIDE))  # a JPEG may be decoded at a half, a quarter or an eighth
            return _grey(_upright(image))


def name_of(picture: Any) -> str:
    """What to call the picture in an error. Raises ArgumentError for what is no kind of picture."""
    if isinstance(picture, str | os.PathLike):
        return os.fspath(picture)
    if isinstance(picture, Image.Image):
        return getattr(picture, "filename", "") or "the image"
    if isinstance(picture, np.ndarray):
        return "the array"
    if not callable(getattr(picture, "read", None)):
        hint = "; wrap bytes in io.BytesIO" if isinstance(picture, bytes | bytearray | memoryview) else ""
        raise ArgumentError(
            f"picture: expected a path, an open file, a PIL image or a NumPy array, got {type(picture).__name__}{hint}"
        )
    if isinstance(picture, io.TextIOBase):
        raise ArgumentError(
            "picture: expected a file that is open for reading bytes, got one for text; open it as 'rb'"
        )
    name = getattr(picture, "name", "")
    return name if isinstance(name, str) and name else "the file"


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What reading a picture can raise, as a DataError that names it."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except MemoryError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: {_TOO_LARGE}") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: not a picture that can be read; expected a PNG, JPEG or TIFF file") from error
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file; expected a PNG, JPEG or TIFF file, or a folder of them") from error
    except Exception as error:  # what a decoder raises on damaged data is not documented, and of many types
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{name}: cannot be read: {reason}") from error


_TOO_LARGE = f"more than {MOST_PIXELS:,} pixels; make it smaller"


def _check_size(pixels: int) -> None:
    if pixels > MOST_PIXELS:
        raise DataError(_TOO_LARGE)


def _upright(image: Image.Image) -> Image.Image:
    """A copy that is upright."""
    _check_size(image.width * image.height)
    return ImageOps.exif_transpose(image)


def _from_array(array: NDArray[Any]) -> Image.Image:
    """A picture of the array's numbers: of floats as they are without colour, of bytes with it."""
    if isinstance(array, np.ma.MaskedArray):
        raise DataError("a masked array, whose mask would be ignored; fill it first: array.filled(0)")
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
        raise DataError("has NaN or infinite levels; expected numbers from 0, black, to 1, white")
    if low < 0:
        start, full = low, (high - low) or 1.0
    elif numbers.dtype.kind == "f" and high <= 1:
        start, full = 0.0, 1.0
    else:
        start, full = 0.0, next((float(2**bits - 1) for bits in DEPTHS if high < 2**bits), high)
    return ((numbers.astype(np.float32) - np.float32(start)) / np.float32(full)).astype(np.float32, copy=False)


def _grey(image: Image.Image) -> NDArray[np.float64]:
    """What `read_grey` returns; uses the picture up, because a copy of a large one would take much memory."""
    if image.mode.startswith("I") or image.mode == "F":  # which Pillow's conversion would cut off at 255
        return np.asarray(_shrunk(Image.fromarray(_levels(np.asarray(image)))), np.float64)
    if image.has_transparency_data:
        image = _on_background(_shrunk(image.convert("RGBA")))
    image = _shrunk(image if image.mode == "L" else image.convert("RGB"))
    return max((np.asarray(band) / 255 for band in (image.convert("L"), *image.split())), key=_contrast)


def _contrast(grey: NDArray[np.float64]) -> float:
    return float(np.subtract(*np.percentile(grey, (99.5, 0.5))))


def _on_background(image: Image.Image) -> Image.Image:
    """The RGBA picture on an opaque background."""
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
