"""Reads a picture file, whatever camera or scanner it comes from, as one grey picture. Pillow does the decoding."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from gpunet.errors import DataError

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")  # of Pillow's many; each of them is tested
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MOST_PIXELS = (
    120_000_000  # what cameras of telephones take; at 4 bytes each half a gigabyte, twice, while they are read
)
SIDE = 800  # longer side of what is returned: enough for a digit that takes a tenth of it


def read_grey(path: str | Path) -> NDArray[np.float64]:
    """The picture as (height, width) in 0..1, black to white, upright as its EXIF data say, at most SIDE pixels long.

    Of red, green, blue and their mixture the one with the greatest contrast is taken: a red pen shows best in green.
    What is transparent gets the colour of the rest or, where there is little of a rest, one that it can be seen on.
    Raises DataError, naming the file, if it is not a picture, damaged, or larger than MOST_PIXELS.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: not a regular file; expected a PNG, JPEG or TIFF file")
        with warnings.catch_warnings():  # Pillow warns of large pictures, and of odd metadata that play no part here
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                image.draft(None, (SIDE, SIDE))  # a JPEG may be decoded at a half, a quarter or an eighth
                return _grey(ImageOps.exif_transpose(image))
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: more than {MOST_PIXELS:,} pixels; make it smaller") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not a picture that can be read; expected a PNG, JPEG or TIFF file") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; expected a PNG, JPEG or TIFF file, or a folder of them") from error
    except Exception as error:  # what a decoder raises on damaged data is not documented, and of many types
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{path}: cannot be read: {reason}") from error


def _grey(image: Image.Image) -> NDArray[np.float64]:
    """What `read_grey` returns; uses the picture up, because a copy of a large one would take much memory."""
    if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow's conversion would cut off at 255
        return np.asarray(_shrunk(Image.fromarray(np.asarray(image, np.float32) / 65535)), np.float64)
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
