"""Digits from the strokes of a pen, in MNIST's form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

import gpunet
from gpunet import ArgumentError, DataError, digits
from gpunet.digits.normalize import BOX, THINNEST, bounds
from gpunet.digits.strokes import FINE, THICKEST, _drawn, _scaled
from support.pens import own_digits, traced

PEN = 0.075
PLACES = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]


def with_pen(lines: list[list[tuple[float, float]]], width: float = PEN) -> list[np.ndarray]:
    return [np.array([(x, y, width) for x, y in line]) for line in lines]


def test_traced_examples_are_recognized_nearly_as_well_as_the_originals(
    mnist: gpunet.Dataset, digit_model: Path
) -> None:
    model = gpunet.load(digit_model, device="cpu")
    examples, labels = mnist.test.images[:100], mnist.test.labels[:100]
    drawn = np.array([digits.from_strokes(with_pen(traced(example))) for example in examples])
    assert (model.predict(drawn).argmax(axis=1) == labels).sum() >= (
        model.predict(examples).argmax(axis=1) == labels
    ).sum() - 4


@pytest.mark.parametrize("width", [0.01, 0.04, PEN, 0.15])
def test_our_own_digits_are_recognized_with_any_pen(width: float, digit_model: Path) -> None:
    drawn = np.array([digits.from_strokes(with_pen(lines, width)) for lines in own_digits()])
    assert (gpunet.load(digit_model, device="cpu").predict(drawn).argmax(axis=1) == np.arange(10)).sum() >= 9


def test_strokes_give_the_same_image_as_a_picture_of_them() -> None:
    """The digit that `normalize` finds in a picture of the strokes is the same but for rounding to whole pixels: it may
    stand a pixel beside it, and otherwise differs by less than half of what a shift by one pixel changes.
    """
    for lines in own_digits():
        sheet = _drawn([200 * line for line in with_pen(lines)])
        found = digits.normalize(np.pad(sheet, 60)).astype(int)
        moved = [np.roll(digits.from_strokes(with_pen(lines)).astype(int), (y, x), (0, 1)) for y, x in PLACES]
        shift = np.abs(np.roll(found, 1, axis=1) - found).mean()
        assert min(np.abs(each - found).mean() for each in moved) < shift / 2


@pytest.mark.parametrize("margin", [10, 40, 41, 45, 80])
def test_a_clean_drawing_of_straight_strokes_is_seen(margin: int) -> None:
    """At any size, even where the window that leaves only a stroke's corners gives the clearest image."""
    for digit in (1, 4, 7):
        sheet = _drawn([200 * line for line in with_pen(own_digits()[digit])])
        found = digits.normalize(np.pad(sheet[bounds(sheet)], margin)).astype(int)
        made = digits.from_strokes(with_pen(own_digits()[digit])).astype(int)
        assert np.abs(found - made).mean() < np.abs(np.roll(made, 1, axis=1) - made).mean()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.tuples(*3 * [st.floats(0.05, 1)]), min_size=1, max_size=6), min_size=1, max_size=4))
def test_every_drawing_fits_the_box_with_its_centre_of_mass_in_the_middle(strokes: list[list[tuple[float]]]) -> None:
    digit = digits.from_strokes(strokes)
    assert (digit.shape, digit.dtype, digit.max()) == ((28, 28), np.uint8, 255)
    rows, columns = np.nonzero(digit)
    assert 18 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= BOX
    for centre, places in zip(ndimage.center_of_mass(digit.astype(float)), (rows, columns), strict=True):
        assert places.min() == 0 or places.max() == 27 or abs(centre - 14) <= 0.5


@pytest.mark.parametrize(("width", "expected"), [(0.001, THINNEST), (0.3, THICKEST), (0.05 * 3 / 17, 3)])
def test_a_pen_gets_the_stroke_width_of_mnist(width: float, expected: float) -> None:
    """A line as long as the box, whose width is in dots of an eighth of a pixel."""
    (line,) = _scaled([np.array([(0.2, 0.2, width), (0.2, 0.25, width)])])
    assert line[:, 2] == pytest.approx(expected * FINE)
    assert line[1, 1] - line[0, 1] + line[0, 2] == pytest.approx(BOX * FINE)


def test_a_dot_fills_the_box() -> None:
    digit = digits.from_strokes([[(0.4, 0.4, 0.1)]])
    assert digit[14, 14] > 230  # the rim is a little stronger: cubic interpolation
    assert 0.7 < (digit > 127).sum() / BOX**2 < 0.85  # a circle's share of its square is 0.785


def test_the_image_does_not_depend_on_position_size_or_order() -> None:
    lines = with_pen(own_digits()[4])
    expected = digits.from_strokes(lines).astype(int)
    for changed in (lines[::-1], [8 * line for line in lines], [np.add(line, [2, 1, 0]) for line in lines]):
        assert np.abs(digits.from_strokes(changed) - expected).max() <= 1


def test_invalid_strokes_are_one_clear_line() -> None:
    for strokes in ([], [np.zeros((0, 3))]):
        with pytest.raises(DataError, match=r"^no digit found; expected at least one stroke$"):
            digits.from_strokes(strokes)
    for strokes in ([[(0, 1)]], [[0, 1, 2]], [[(0, np.nan, 1)]], [[(0, 0, 0)]], [[(0, 0, -1)]]):
        with pytest.raises(ArgumentError, match=r"^strokes: expected \(points, 3\) finite numbers each"):
            digits.from_strokes(strokes)


def test_an_image_of_strokes_is_used_unchanged(tmp_path: Path) -> None:
    """It has MNIST's form: saved and read again it stays the same."""
    for lines in own_digits():
        Image.fromarray(digits.from_strokes(with_pen(lines))).save(tmp_path / "a.png")
        np.testing.assert_array_equal(digits.read_digit(tmp_path / "a.png"), digits.from_strokes(with_pen(lines)))
