"""Users' own digits: every kind of image file, and bad photos."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import gpunet
from gpunet import ArgumentError, DataError, digits
from gpunet.digits import images as image_files
from gpunet.digits.normalize import _parts, _stroke_width

PICTURES = 25  # of each kind


def drawn(example: np.ndarray, side: int) -> np.ndarray:
    """An MNIST example (28, 28) uint8 as ink in 0..1, `side` pixels long, with edges as sharp as a pen's."""
    smooth = np.asarray(Image.fromarray(example).resize((side, side), Image.Resampling.BICUBIC)) / 255
    return np.clip(0.5 + (smooth - 0.5) * max(1, side / 56), 0, 1)


def photographed(
    example: np.ndarray,
    rng: np.random.Generator,
    side: int,
    size: tuple[int, int],
    ink: float = 0.85,
    inverted: bool = False,
    gradient: float = 0.0,
    shadow: float = 0.0,
    noise: float = 0.0,
) -> np.ndarray:
    """A grey photo (height, width) uint8 of the example somewhere on paper.

    gradient: share of the light that is lost from one side to the other, in a direction drawn at random.
    shadow:   share of the light that is lost behind the edge of a shadow across the middle.
    noise:    of the sensor, standard deviation with white as 1.
    """
    sheet = np.zeros(size)
    row, column = (int(rng.integers(0, length - side + 1)) for length in size)
    sheet[row : row + side, column : column + side] = drawn(example, side)
    light = 0.95 * (1 - ink * sheet)
    light = 1 - light if inverted else light
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    angle, edge = rng.uniform(0, 2 * np.pi, 2)
    slope = x * np.cos(angle) + y * np.sin(angle)
    light *= 1 - gradient * (slope - slope.min()) / np.ptp(slope)
    middle_y, middle_x = rng.uniform(0.3, 0.7, 2)
    light *= 1 - shadow / (1 + np.exp(-((x - middle_x) * np.cos(edge) + (y - middle_y) * np.sin(edge)) / 0.01))
    light += rng.normal(scale=noise, size=size)
    return np.uint8(255 * np.clip(light, 0, 1))


def on_squared_paper(example: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photo of squared paper on a dark table, which is visible at the left."""
    light = photographed(example, rng, 200, (480, 640), ink=0.8, gradient=0.3, noise=0.02) / 255
    for first in (0, 1):
        light[first::40] *= 0.8
        light[:, first::40] *= 0.8
    light[:, :30] *= 0.3
    return np.uint8(255 * light)


def on_a_dark_table(example: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photo of a sheet with all of its edges visible."""
    table = np.full((600, 760), 50, np.uint8)
    table[40:560, 50:710] = photographed(example, rng, 320, (520, 660), noise=0.02)
    return table


def punched(example: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photo of a sheet with two holes at the left."""
    light = np.full((480, 640), 230, np.uint8)
    light[:, 160:] = photographed(example, rng, 280, (480, 480), noise=0.02)
    y, x = np.mgrid[:480, :640]
    for row in (120, 360):
        light[(y - row) ** 2 + (x - 30) ** 2 < 12**2] = 40
    return light


KINDS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "as it is": lambda x, rng: x,
    "inverted": lambda x, rng: 255 - x,
    "cropped": lambda x, rng: x[4:24, 4:24],
    "50 pixels": lambda x, rng: photographed(x, rng, 50, (60, 70)),
    "300 pixels": lambda x, rng: photographed(x, rng, 300, (320, 400)),
    "1,000 pixels": lambda x, rng: photographed(x, rng, 1000, (1100, 1400)),
    "small on a sheet": lambda x, rng: photographed(x, rng, 80, (600, 800), noise=0.02),
    "gradient and noise": lambda x, rng: photographed(x, rng, 300, (500, 600), gradient=0.6, noise=0.03),
    "gradient and shadow": lambda x, rng: photographed(x, rng, 300, (500, 600), gradient=0.4, shadow=0.4, noise=0.02),
    "small and shadow": lambda x, rng: photographed(x, rng, 120, (600, 800), gradient=0.4, shadow=0.4, noise=0.03),
    "chalk": lambda x, rng: photographed(x, rng, 300, (500, 600), inverted=True, gradient=0.4, noise=0.03),
    "squared paper": on_squared_paper,
    "dark table": on_a_dark_table,
    "punched": punched,
    "pencil": lambda x, rng: photographed(x, rng, 300, (500, 600), ink=0.3, gradient=0.3, noise=0.03),
}


@pytest.mark.parametrize("kind", KINDS)
def test_photographed_digits_are_recognized_nearly_as_well_as_the_originals(
    kind: str, mnist: gpunet.Dataset, digit_model: Path, tmp_path: Path
) -> None:
    """Of 25 examples that the network recognizes, it may miss 2 in their image files."""
    rng = np.random.default_rng(3)
    model = gpunet.load(digit_model, device="cpu")
    chosen = rng.choice(len(mnist.test.labels), 2 * PICTURES, replace=False)
    told = model.predict(mnist.test.images[chosen]).argmax(axis=1) == mnist.test.labels[chosen]
    chosen = chosen[told][:PICTURES]
    read = []
    for example in mnist.test.images[chosen]:
        Image.fromarray(KINDS[kind](example, rng)).save(tmp_path / "a.jpg", quality=85)
        read.append(digits.read_digit(tmp_path / "a.jpg"))
    right = model.predict(np.array(read)).argmax(axis=1) == mnist.test.labels[chosen]
    assert len(right) == PICTURES
    assert right.sum() >= PICTURES - 2


def test_a_part_without_definite_ink_is_no_part_of_a_digit() -> None:
    """However large it is; otherwise it would be taken for the digit, next to a stroke."""
    strokes = np.zeros((60, 60))
    strokes[10:20, 10:30], strokes[25:40, 30:33] = 0.45, 1.0
    digit, inside = _parts(strokes, 0.2)
    np.testing.assert_array_equal(digit, strokes == 1)
    assert inside


@pytest.mark.parametrize("font", ["DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono-Oblique.ttf"])
def test_printed_digits_are_recognized(font: str, digit_model: Path, tmp_path: Path) -> None:
    """MNIST has no printed digits; 8 of 10 are enough."""
    matplotlib = pytest.importorskip("matplotlib", reason="its fonts are drawn with; pip install '.[test]'")
    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / font
    read = []
    for digit in "0123456789":
        image = Image.new("L", (300, 300), 240)
        ImageDraw.Draw(image).text((90, 30), digit, font=ImageFont.truetype(file, 200), fill=30)
        image.save(tmp_path / "a.png")
        read.append(digits.read_digit(tmp_path / "a.png"))
    predictions = gpunet.load(digit_model, device="cpu").predict(np.array(read)).argmax(axis=1)
    assert (predictions == np.arange(10)).sum() >= 8


def test_mnist_examples_on_a_larger_background_hardly_change(mnist: gpunet.Dataset) -> None:
    """On average they change by less than half of what a shift by one pixel changes."""
    examples = mnist.test.images[:50].astype(int)
    read = np.array([digits.normalize(np.pad(example, 6) / 255) for example in examples], int)
    assert np.abs(read - examples).mean() < np.abs(np.roll(examples, 1, axis=2) - examples).mean() / 2


def test_images_in_the_form_of_mnist_are_used_unchanged(mnist: gpunet.Dataset) -> None:
    for example in mnist.test.images[::10]:
        np.testing.assert_array_equal(digits.read_digit(example), example)
    for example in mnist.test.images[:50]:
        np.testing.assert_array_equal(digits.read_digit(255 - example), example)
        np.testing.assert_array_equal(digits.read_digit(255 - example, "dark"), example)
        made = digits.normalize(drawn(example, 100))
        np.testing.assert_array_equal(digits.read_digit(made), made)


def test_a_jpeg_of_an_example_is_used_unchanged(mnist: gpunet.Dataset) -> None:
    for example in mnist.test.images[:100]:
        content = io.BytesIO()
        Image.fromarray(example).save(content, "JPEG", quality=75)
        np.testing.assert_array_equal(digits.read_digit(content), np.asarray(Image.open(content)))


@pytest.mark.parametrize("ink", ["auto", "light"])
def test_being_28_pixels_wide_is_not_enough_for_the_form_of_mnist(mnist: gpunet.Dataset, ink: str) -> None:
    """Nor does a digit at the rim, a small one, a faint one, or one on a ground that is not black have that form."""
    example = mnist.test.images[0].astype(float)
    small = np.pad(np.asarray(Image.fromarray(mnist.test.images[0]).resize((14, 14))), 7).astype(float)
    for changed in (np.roll(example, 4, axis=0), small, example / 2, 60 + example * 0.75):
        np.testing.assert_raises(
            AssertionError, np.testing.assert_array_equal, digits.read_digit(np.uint8(changed), ink), np.uint8(changed)
        )


@settings(max_examples=40, deadline=None)
@given(index=st.integers(0, 9999), side=st.integers(29, 300), inverted=st.booleans())
def test_a_digit_fits_the_box_with_its_centre_of_mass_in_the_middle(
    mnist: gpunet.Dataset, index: int, side: int, inverted: bool
) -> None:
    grey = drawn(mnist.test.images[index], side)
    digit = digits.normalize(1 - grey if inverted else grey)
    assert (digit.shape, digit.dtype, digit.max()) == ((28, 28), np.uint8, 255)
    rows, columns = np.nonzero(digit)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert 19 <= max(height, width) <= 20
    for centre, places in zip(ndimage.center_of_mass(digit), (rows, columns), strict=True):
        at_the_rim = places.min() == 0 or places.max() == 27
        assert at_the_rim or abs(centre - 14) <= 0.51


def test_thin_strokes_are_thickened() -> None:
    image = Image.new("L", (600, 600), 255)
    ImageDraw.Draw(image).line([(200, 100), (400, 100), (250, 500)], fill=0, width=4)
    digit = digits.normalize(np.asarray(image) / 255)
    assert _stroke_width(digit / 255) >= 1.8


def test_the_ink_can_be_specified() -> None:
    grey = np.zeros((100, 100))
    grey[20:80, 40:60] = 1
    np.testing.assert_array_equal(digits.normalize(grey), digits.normalize(grey, "light"))
    np.testing.assert_array_equal(digits.normalize(1 - grey), digits.normalize(1 - grey, "dark"))
    with pytest.raises(ArgumentError, match="ink: expected one of auto, dark, light; got 'blue'"):
        digits.normalize(grey, "blue")


@settings(max_examples=200, deadline=None)
@given(st.tuples(st.integers(1, 60), st.integers(1, 60)).flatmap(lambda shape: arrays(np.uint8, shape)))
def test_every_image_gives_a_digit_or_an_error(pixels: np.ndarray) -> None:
    try:
        digit = digits.normalize(pixels / 255)
    except DataError:
        return
    assert (digit.shape, digit.max()) == ((28, 28), 255)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_blank_paper_has_no_digit(level: float) -> None:
    rng = np.random.default_rng(0)
    for picture in (np.full((300, 400), level), level + rng.normal(scale=0.01, size=(300, 400))):
        with pytest.raises(DataError, match="no digit found"):
            digits.normalize(np.clip(picture, 0, 1))


NOISE = {
    "even": lambda rng, size: rng.random(size),
    "black and white": lambda rng, size: rng.random(size) > 0.5,
    "normal": lambda rng, size: np.clip(rng.normal(0.5, 0.1, size), 0, 1),
    "a pixel": lambda rng, size: np.arange(np.prod(size)).reshape(size) != np.prod(size) // 3,
}


@pytest.mark.parametrize("size", [(60, 60), (300, 400), (640, 480)])
@pytest.mark.parametrize("kind", NOISE)
def test_noise_is_not_a_digit(kind: str, size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"no digit found; .*; crop the image to the paper around the digit"):
        digits.normalize(NOISE[kind](np.random.default_rng(0), size).astype(float))


def seven(size: tuple[int, int] = (60, 90)) -> Image.Image:
    """A 7 in grey, dark on light, left of the middle: unlike itself under any rotation or mirroring."""
    image = Image.new("L", size, 230)
    ImageDraw.Draw(image).line([(10, 10), (40, 12), (20, 50)], fill=20, width=6)
    return image


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.gif", "a.tif", "a.tiff", "a.PNG"])
def test_every_format_is_read(name: str, tmp_path: Path) -> None:
    seven().save(tmp_path / name)
    assert Path(name).suffix.lower() in image_files.SUFFIXES
    grey = image_files.read_grey(tmp_path / name)
    assert np.abs(grey - np.asarray(seven()) / 255).max() < 0.2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_mode_of_png_is_read(mode: str, tmp_path: Path) -> None:
    image = seven() if mode != "I;16" else Image.fromarray(np.asarray(seven()).astype(np.uint16) * 257)
    (image if mode == "I;16" else image.convert(mode)).save(tmp_path / "a.png")
    expected = np.asarray(seven().convert("1") if mode == "1" else seven(), float) / (1 if mode == "1" else 255)
    np.testing.assert_allclose(image_files.read_grey(tmp_path / "a.png"), expected, atol=0.01)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_all_bits_of_a_16_bit_png_are_used(bits: int, tmp_path: Path) -> None:
    """Whether the camera's 12 bits are the lowest of the 16 or were scaled to all of them."""
    levels = np.rint(np.asarray(seven()) / 255 * (2**bits - 1)).astype(np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    np.testing.assert_allclose(image_files.read_grey(tmp_path / "a.png"), np.asarray(seven()) / 255, atol=0.001)
    assert digits.read_digit(tmp_path / "a.png").max() == 255


@pytest.mark.parametrize("full", [1, 255, 4095, 65535])
def test_a_tiff_of_floats_is_read(full: float, tmp_path: Path) -> None:
    Image.fromarray(np.asarray(seven(), np.float32) / 255 * full).save(tmp_path / "a.tif")
    np.testing.assert_allclose(image_files.read_grey(tmp_path / "a.tif"), np.asarray(seven()) / 255, atol=0.001)
    assert digits.read_digit(tmp_path / "a.tif").max() == 255


def test_floats_below_0_are_scaled_from_lowest_to_highest() -> None:
    grey = np.asarray(seven()) / 255
    np.testing.assert_allclose(
        image_files.read_grey(2 * grey - 1), (grey - grey.min()) / (grey.max() - grey.min()), atol=1e-6
    )


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_levels_that_are_not_finite_are_refused(wrong: float, tmp_path: Path) -> None:
    levels = np.asarray(seven(), np.float32) / 255
    levels[3, 4] = wrong
    Image.fromarray(levels).save(tmp_path / "a.tif")
    for picture, name in ((tmp_path / "a.tif", tmp_path / "a.tif"), (levels, "the array")):
        with pytest.raises(DataError, match=f"^{name}: has NaN or infinite levels"):
            digits.read_digit(picture)


PICTURE_KINDS: dict[str, Callable[[Path], image_files.ImageSource]] = {
    "text": str,
    "path": lambda path: path,
    "open file": lambda path: path.open("rb"),
    "bytes in memory": lambda path: io.BytesIO(path.read_bytes()),
    "PIL image of a file": Image.open,
    "PIL image in memory": lambda path: seven(),
    "PIL image of floats": lambda path: Image.fromarray(np.asarray(seven(), np.float32) / 255),
    "array of bytes": lambda path: np.asarray(seven()),
    "array not contiguous": lambda path: np.asarray(seven().transpose(Image.Transpose.TRANSPOSE)).T,
    "array with a channel": lambda path: np.asarray(seven())[..., None],
    "array in colour": lambda path: np.asarray(seven().convert("RGB")),
    "array with opacity": lambda path: np.asarray(seven().convert("RGBA")),
    "array of floats": lambda path: np.asarray(seven()) / 255,
    "array of floats in colour": lambda path: np.asarray(seven().convert("RGB")) / 255,
    "array of 16 bits": lambda path: np.asarray(seven()).astype(np.uint16) * 257,
    "array of whole numbers": lambda path: np.asarray(seven()).astype(np.int64),
}


@pytest.mark.parametrize("kind", PICTURE_KINDS)
def test_every_kind_of_image_gives_the_same_digit(kind: str, tmp_path: Path) -> None:
    seven().save(tmp_path / "a.png")
    picture = PICTURE_KINDS[kind](tmp_path / "a.png")
    read = digits.read_digit(picture).astype(int)
    assert np.abs(read - digits.read_digit(tmp_path / "a.png")).max() <= 1
    if hasattr(picture, "close"):
        picture.close()


def test_the_input_is_not_changed(tmp_path: Path) -> None:
    seven((1200, 900)).save(tmp_path / "a.jpg")
    image, array = seven((1200, 900)).convert("RGBA"), np.asarray(seven()) / 255
    kept = image.copy(), array.copy()
    for picture in (image, array):
        digits.read_digit(picture)
    assert image.size == (1200, 900)
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(array, kept[1])
    with Image.open(tmp_path / "a.jpg") as undecoded:
        digits.read_digit(undecoded)
        assert undecoded.size == (1200, 900)
    with (tmp_path / "a.jpg").open("rb") as file:
        digits.read_digit(file)
        assert not file.closed


def test_objects_that_are_not_images_are_one_clear_line(tmp_path: Path) -> None:
    seven().save(tmp_path / "a.png")
    expected = "image: expected a path, an open file, a PIL image or a NumPy array, got"
    with (tmp_path / "a.png").open() as text:
        for picture, message in (
            (None, f"{expected} NoneType"),
            ([[0, 1]], f"{expected} list"),
            (b"PNG", f"{expected} bytes; wrap bytes in io.BytesIO"),
            (text, "image: expected a file open for reading bytes, got a text file; open it with 'rb'"),
        ):
            with pytest.raises(ArgumentError) as raised:
                digits.read_digit(picture)
            assert str(raised.value) == message
    closed = io.BytesIO()
    closed.close()
    for picture, message in (
        (np.zeros(784, np.uint8), "the array: expected (height, width) or (height, width, channels)"),
        (np.zeros((0, 3)), "the array: expected (height, width)"),
        (np.zeros((9, 9, 5)), "the array: expected (height, width)"),
        (np.full((9, 9), "a"), "the array: expected numbers, got data type <U1"),
        (np.ma.array(np.ones((9, 9)), mask=False), "the array: a masked array, whose mask would be ignored"),
        (np.zeros((60, 60)), "the array: no digit found"),
        (np.broadcast_to(np.uint8(0), (20_000, 20_000)), "the array: more than 120,000,000 pixels"),
        (Image.new("L", (60, 60)), "the image: no digit found"),
        (io.BytesIO(b"hello"), "the file: not a readable image"),
        (closed, "the file: cannot be read: "),
    ):
        with pytest.raises(DataError) as raised:
            digits.read_digit(picture)
        assert str(raised.value).startswith(message)
        assert "\n" not in str(raised.value)


def test_cmyk_is_read(tmp_path: Path) -> None:
    seven().convert("CMYK").save(tmp_path / "a.jpg")
    assert np.abs(image_files.read_grey(tmp_path / "a.jpg") - np.asarray(seven()) / 255).max() < 0.2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_the_camera_does_not_matter(orientation: int, tmp_path: Path) -> None:
    upright = seven()
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(back[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_allclose(image_files.read_grey(tmp_path / "a.png"), np.asarray(upright) / 255)


@pytest.mark.parametrize("ink", ["black", "white"])
def test_strokes_on_a_transparent_background_are_seen(ink: str, tmp_path: Path) -> None:
    image = Image.new("RGBA", (60, 60), (0, 0, 0, 0) if ink == "black" else (255, 255, 255, 0))
    ImageDraw.Draw(image).line([(10, 10), (40, 12), (20, 50)], fill=ink, width=6)
    image.save(tmp_path / "a.png")
    assert digits.read_digit(tmp_path / "a.png").max() == 255


def test_transparent_corners_are_not_ink(tmp_path: Path) -> None:
    image = seven().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 8, 8))
    image.save(tmp_path / "a.png")
    seven().save(tmp_path / "b.png")
    difference = digits.read_digit(tmp_path / "a.png").astype(int) - digits.read_digit(tmp_path / "b.png")
    assert np.abs(difference).max() < 30


def test_a_red_pen_is_visible(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 60), (200, 60, 60))
    ImageDraw.Draw(image).line([(10, 10), (40, 12), (20, 50)], fill=(60, 130, 60), width=6)
    assert np.ptp(np.asarray(image.convert("L"))) < 10  # as bright as its paper
    image.save(tmp_path / "a.png")
    assert digits.read_digit(tmp_path / "a.png").max() == 255


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it has so many pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(12_000, 12_000), (100_000, 100_000)])  # Pillow itself refuses the second
def test_a_decompression_bomb_is_refused(size: tuple[int, int], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(bomb(*size))
    with pytest.raises(DataError, match=r"a\.png: more than 120,000,000 pixels; scale it down"):
        image_files.read_grey(tmp_path / "a.png")


def test_files_that_are_not_images_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    content = io.BytesIO()
    seven().save(content, "PNG")
    (tmp_path / "cut.png").write_bytes(content.getvalue()[:-40])
    seven().save(tmp_path / "a.eps")
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in {
        "text.png": "not a readable image; expected a PNG, JPEG or TIFF file",
        "empty.png": "not a readable image",
        "cut.png": "cannot be read: ",
        "a.eps": "not a readable image",
        "pipe.png": "not a regular file",
        "none.png": "no such file",
    }.items():
        with pytest.raises(DataError) as raised:
            image_files.read_grey(tmp_path / name)
        assert str(raised.value).startswith(f"{tmp_path / name}: {reason}")
        assert "\n" not in str(raised.value)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), form=st.sampled_from(image_files.FORMATS))
def test_a_damaged_file_is_read_or_refused(
    data: st.DataObject, form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = io.BytesIO()
    seven().save(content, form)
    damaged = bytearray(content.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))
    try:
        grey = image_files.read_grey(path)
    except DataError:
        return
    assert grey.ndim == 2
    assert 0 <= grey.min() <= grey.max() <= 1
