"""The plot of a sweep: validation accuracy over each varied option, and over two of them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from gpunet import plots
from gpunet.commandline import LOGARITHMICALLY
from gpunet.sweep.outcome import Outcome, ranked
from gpunet.sweep.space import NAMED, Choice, Space, Values, shown_value, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

MOST_PANELS = 3  # in a row
SHADE = {"boxstyle": "round", "facecolor": "black", "alpha": 0.4, "linewidth": 0}  # behind numbers on any colour


def figure(space: Space, outcomes: Sequence[Outcome]) -> Figure:
    """A panel for each option that varies and, if two do, a heat map as well. Shows the trials that are complete.

    Raises ArgumentError if matplotlib cannot be loaded.
    """
    rows, varied = ranked(outcomes), space.varied
    panels = max(1, len(varied) + (len(varied) == 2))
    columns = min(panels, MOST_PANELS)
    lines = -(-panels // columns)
    drawn = plots.new_figure(figsize=(5 * columns, 4 * lines), layout="constrained")
    axes = list(drawn.subplots(lines, columns, squeeze=False).flat)
    for name, panel in zip(varied or ["trial"], axes, strict=False):
        _draw_points(panel, space, name, rows)
    if len(varied) == 2:
        both = [row for row in rows if all(name in row.configuration for name in varied)]
        _draw_map(drawn, axes[2], space, both)
    for panel in axes[panels:]:
        panel.axis("off")
    return drawn


def _draw_points(axes: Axes, space: Space, name: str, rows: Sequence[Outcome]) -> None:
    """A point for each trial; its error bar is the standard deviation over the seeds."""
    shown = [row for row in rows if name in row.configuration] if name in space.choices else list(rows)
    places = [float(row.number) for row in shown]
    if name in space.choices:
        places = _places(space.choices[name], shown, name)
        _scale(axes, space.choices[name], name, "x")
    deviations = [100 * (row.deviation or 0) for row in shown]
    axes.errorbar(
        places, [100 * row.accuracy for row in shown], deviations, fmt="o", markersize=4, capsize=2, alpha=0.7
    )
    axes.set(xlabel=title(name), ylabel="validation accuracy (%)")
    axes.grid(alpha=0.3)


def _draw_map(figure: Figure, axes: Axes, space: Space, rows: Sequence[Outcome]) -> None:
    """A cell for every combination; for searched trials, coloured points."""
    across, down = space.varied
    first, second = space.choices[across], space.choices[down]
    accuracies = [100 * row.accuracy for row in rows]
    image: ScalarMappable
    if isinstance(first, Values) and isinstance(second, Values):
        cells = np.full((len(second.values), len(first.values)), np.nan)
        for row, accuracy in zip(rows, accuracies, strict=True):
            line = second.values.index(row.configuration[down])
            cells[line, first.values.index(row.configuration[across])] = accuracy
        image = axes.imshow(cells, cmap="viridis", aspect="auto", origin="lower")
        for (line, column), accuracy in np.ndenumerate(cells):
            if np.isfinite(accuracy):
                axes.text(
                    column, line, f"{accuracy:.2f}", ha="center", va="center", fontsize=8, color="white", bbox=SHADE
                )
        axes.set_xticks(range(len(first.values)), [shown_value(value) for value in first.values])
        axes.set_yticks(range(len(second.values)), [shown_value(value) for value in second.values])
    else:
        _scale(axes, first, across, "x")
        _scale(axes, second, down, "y")
        image = axes.scatter(_places(first, rows, across), _places(second, rows, down), c=accuracies, cmap="viridis")
    axes.set(xlabel=title(across), ylabel=title(down))
    if rows:
        figure.colorbar(image, ax=axes, label="validation accuracy (%)")


def _places(choice: Choice, rows: Sequence[Outcome], name: str) -> list[float]:
    """Positions on the axis: a number is its own position; words are spaced evenly."""
    values = [row.configuration[name] for row in rows]
    if _is_of_numbers(choice):
        return [float(value) for value in values]
    return [float(choice.checked.index(value)) for value in values]


def _scale(axes: Axes, choice: Choice, name: str, axis: str) -> None:
    if NAMED[name].spread == LOGARITHMICALLY and all(float(value) > 0 for value in choice.checked):
        (axes.set_xscale if axis == "x" else axes.set_yscale)("log")
    if isinstance(choice, Values):
        places = choice.values if _is_of_numbers(choice) else range(len(choice.values))
        ticks = axes.set_xticks if axis == "x" else axes.set_yticks
        ticks([float(place) for place in places], [shown_value(value) for value in choice.values])
        ticks([], minor=True)


def _is_of_numbers(choice: Choice) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in choice.checked)
