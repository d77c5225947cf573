"""Plots of a training and of a model's mistakes, as files. Drawn by matplotlib, without a display."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpunet import class_names, files, library_caches
from gpunet.errors import ArgumentError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
DOTS_PER_INCH = 150
MISTAKES = (4, 6)  # rows and columns of images
UNITS = 100  # of the first layer, whose weights are drawn
Names = Sequence[str] | None  # of the classes
MOST_NUMBERED = 20  # classes: up to here the confusion matrix shows its numbers


def check(path: str) -> None:
    """Raise ArgumentError, before any work, if --plot PATH cannot be written."""
    files.check_output("--plot", path)
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ArgumentError(f"--plot: {path}: expected a name that ends in {', '.join(SUFFIXES)}")
    new_figure("--plot: ")


def write(figure: Figure, path: str) -> None:
    """Write the figure in the format of the path's suffix. Raises OutputError; an old file then stays."""
    content = io.BytesIO()
    figure.savefig(content, format=Path(path).suffix[1:].lower(), dpi=DOTS_PER_INCH)
    files.write_bytes(path, content.getvalue())


def curves(epochs: Sequence[int], history: Mapping[str, Sequence[float]]) -> Figure:
    """Loss and accuracy after each epoch, of training and validation. epochs: their numbers, from 1.

    Raises ArgumentError if matplotlib cannot be loaded.
    """
    figure = new_figure(figsize=(10, 4), layout="constrained")
    from matplotlib.ticker import MaxNLocator

    for axes, name, unit, scale in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), ("nats", "%"), (1, 100), strict=True
    ):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in history:
                axes.plot(epochs, scale * np.array(history[key]), marker="o", markersize=3, label=label)
        axes.set(xlabel="epoch", ylabel=f"{name} ({unit})")
        if len(epochs):
            axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)  # so that a single epoch gets one tick, its own
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def report(
    confusion: NDArray[np.integer],
    mistakes: Sequence[tuple[NDArray[Any], int, int, float]],
    weights: NDArray[np.floating],
    shape: tuple[int, ...] | None,
    names: Names = None,
) -> Figure:
    """Confusion matrix, most confident mistakes, and the first layer's weights.

    confusion: (classes, classes), target by prediction.
    mistakes:  (example, target, prediction, its probability), the most confident first.
    weights:   (inputs, units) of the first layer.
    names:     of the classes, if they have some.
    shape:     of an example, None for rows of a table; what is no image is drawn as a curve over its inputs.
    Raises:    ArgumentError if matplotlib cannot be loaded.
    """
    figure = new_figure(figsize=(13, 14), layout="constrained")
    halves: Any = figure.subfigures(2, 1)
    left, right = halves[0].subfigures(1, 2)
    _draw_confusion(left.subplots(), confusion, names)
    _draw_mistakes(right, mistakes, shape, names)
    _draw_weights(halves[1].subplots(), weights, shape)
    return figure


def new_figure(option: str = "", **settings: Any) -> Figure:
    """matplotlib's Figure, loaded on first use. option: the option that needs it, for the error."""
    # Without a writable folder matplotlib uses a temporary one as well, but prints two lines about it.
    library_caches.ensure("MPLCONFIGDIR", *(_usual(kind) for kind in ("config", "cache")))
    try:
        with _backend_put_off():
            module = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ArgumentError(f"{option}matplotlib cannot be loaded ({error}); pip install 'gpunet[plot]'") from error
    figure: Figure = module.Figure(**settings)
    return figure


@contextlib.contextmanager
def _backend_put_off() -> Iterator[None]:
    """matplotlib fails to load where MPLBACKEND names a backend that it does not know.

    Jupyter sets it for every program that it starts, even for one in another environment, which lacks that backend.
    Writing files needs no backend; code that shows figures in the same process still gets the one named, if it exists.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        import matplotlib

        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend


def _usual(kind: str) -> str:
    """matplotlib's default folder for "config" or "cache"."""
    if sys.platform.startswith(("linux", "freebsd")):
        return os.path.join(os.environ.get(f"XDG_{kind.upper()}_HOME") or f"~/.{kind}", "matplotlib")
    return "~/.matplotlib"


def _draw_confusion(axes: Axes, confusion: NDArray[np.integer], names: Names) -> None:
    """Colours in per cent of a row's examples, so that rare classes show as well; the numbers are examples."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    classes = len(confusion)
    axes.set(xlabel="predicted class", ylabel="class", title="confusion matrix (examples)")
    if classes > MOST_NUMBERED:
        return
    axes.set(xticks=range(classes), yticks=range(classes))
    if names is not None:
        axes.set_xticklabels(names, rotation=45, ha="right", parse_math=False)
        axes.set_yticklabels(names, parse_math=False)
    for row, column in np.argwhere(confusion):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(confusion[row, column]), ha="center", va="center", color=colour, fontsize=8)


def _draw_mistakes(
    figure: Any, mistakes: Sequence[tuple[NDArray[Any], int, int, float]], shape: tuple[int, ...] | None, names: Names
) -> None:
    figure.suptitle("most confident mistakes" if mistakes else "no mistakes")
    drawn_shape = image_shape(shape)
    for axes, mistake in zip(figure.subplots(*MISTAKES).flat, [*mistakes, *[None] * math.prod(MISTAKES)], strict=False):
        axes.axis("off")
        if mistake is None:
            continue
        example, target, prediction, probability = mistake
        if drawn_shape is None:
            axes.plot(np.ravel(example), linewidth=0.7)
        else:
            axes.imshow(_scaled(example.reshape(drawn_shape)), cmap="gray")
        true, taken = class_names.of(names, target), class_names.of(names, prediction)
        title = f"{true}, taken for {taken}\n{100 * probability:.1f} %"
        axes.set_title(title, fontsize=8, parse_math=False)


def _draw_weights(axes: Axes, weights: NDArray[np.floating], shape: tuple[int, ...] | None) -> None:
    """One tile per unit; red raises the unit's output, blue lowers it."""
    units = min(UNITS, weights.shape[1])
    drawn = weights[:, :units]
    limit = float(np.percentile(np.abs(drawn), 99.5)) or 1.0
    drawn_shape = image_shape(shape)
    axes.set_title(f"first layer: weights of {units} of {weights.shape[1]} units, from {-limit:.2g} to {limit:.2g}")
    if drawn_shape is None or len(drawn_shape) == 3:  # in colour, each pixel has three signs
        axes.imshow(drawn, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
        axes.set(xlabel="unit", ylabel="input")
        return
    axes.axis("off")
    axes.imshow(_mosaic(drawn.T.reshape(units, *drawn_shape)), cmap="RdBu_r", vmin=-limit, vmax=limit)


def _mosaic(tiles: NDArray[np.floating]) -> NDArray[np.floating]:
    """Images (n, height, width) in rows, separated by lines of NaN, which are drawn white."""
    n, height, width = tiles.shape
    columns = math.ceil(math.sqrt(2 * n))  # twice as wide as high
    rows = math.ceil(n / columns)
    filled = np.full((rows * columns, height + 1, width + 1), np.nan)
    filled[:n, :height, :width] = tiles
    grid = filled.reshape(rows, columns, height + 1, width + 1).swapaxes(1, 2)
    return grid.reshape(rows * (height + 1), columns * (width + 1))


def image_shape(shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """(height, width) or (height, width, 3) in which to draw examples of a shape, or None if they are not images."""
    if shape is None:
        return None
    if len(shape) == 3 and shape[-1] == 1:
        return shape[:2]
    if len(shape) == 2 or (len(shape) == 3 and shape[-1] == 3):
        return shape
    side = math.isqrt(math.prod(shape))
    return (side, side) if len(shape) == 1 and side > 1 and side**2 == math.prod(shape) else None


def _scaled(image: NDArray[Any]) -> NDArray[np.floating]:
    """Scaled to 0..1 between its extremes, as imshow does for grey images but not for coloured ones."""
    low, high = float(image.min()), float(image.max())
    return (image - low) / ((high - low) or 1.0)
