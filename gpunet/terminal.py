"""Images and bars for a terminal: in colour where it has colours, in plain ASCII where it shows nothing else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import zip_longest
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

SHADES, ASCII_SHADES = " ░▒▓█", " .:-=+*#%@"  # from dark to light
BAR = 12  # characters of a full bar; next to an image in shades it fits into 80 columns
RESET = "\x1b[0m"


def drawing(image: NDArray[np.uint8], stream: TextIO) -> list[str]:
    """The lines that show an image (height, width) of even height.

    In colour, one character shows two pixels, one above the other, in 24 greys; otherwise two characters show a pixel.
    """
    if has_colours(stream):
        greys = 232 + (image.astype(int) * 23 + 127) // 255  # indices into the 256 colours of terminals
        return [
            "".join(f"\x1b[38;5;{above};48;5;{below}m▀" for above, below in zip(*pair, strict=True)) + RESET
            for pair in zip(greys[::2], greys[1::2], strict=True)
        ]
    shades = SHADES if can_show(stream, SHADES) else ASCII_SHADES
    levels = (image.astype(int) * (len(shades) - 1) + 127) // 255
    return ["".join(2 * shades[level] for level in row) for row in levels]


def bars(names: Sequence[object], shares: Sequence[float], stream: TextIO) -> list[str]:
    """One line per share in 0..1: its name, a bar, and the share in per cent."""
    full = "█" if can_show(stream, "█") else "#"
    width = max(len(str(name)) for name in names)
    return [
        f"{name!s:>{width}} {full * round(BAR * share):<{BAR}} {100 * share:5.1f} %"
        for name, share in zip(names, shares, strict=True)
    ]


def side_by_side(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """Two columns. The left one has lines of equal length, and at least as many as the right one."""
    return [f"{one}  {other}".rstrip(" ") for one, other in zip_longest(left, right, fillvalue="")]


def has_colours(stream: TextIO) -> bool:
    """Whether to use colour: on a terminal that can, unless the user has switched it off (no-color.org)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return wanted and stream.isatty() and can_show(stream, "▀█")


def can_show(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
