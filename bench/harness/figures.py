"""The figures of a result: time against batch size, accuracy against batch size. Needs matplotlib."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from harness.workload import LECTURE_SECONDS


def draw(result: dict[str, Any], stem: Path) -> list[Path]:
    """Write the figures that the result has data for, as <stem>-speed.png and <stem>-accuracy.png."""
    import matplotlib

    matplotlib.use("Agg")  # no display needed
    files = []
    if result.get("speed"):
        files.append(_speed(result, Path(f"{stem}-speed.png")))
    if result.get("batch_accuracy"):
        files.append(_accuracy(result, Path(f"{stem}-accuracy.png")))
    return files


def _speed(result: dict[str, Any], path: Path) -> Path:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    names = dict.fromkeys(record["name"] for record in result["speed"])
    for name in names:
        records = sorted((r for r in result["speed"] if r["name"] == name), key=lambda r: r["batch_size"])
        axes.plot(
            [record["batch_size"] for record in records],
            [record["epoch_seconds"] for record in records],
            label=name,
            **_line(name),
        )
    axes.plot(*zip(*LECTURE_SECONDS.items(), strict=True), "k*", markersize=12, label="the lecture: Keras, GTX 980")
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="seconds per epoch of 50,000 examples")
    axes.set_title(f"MNIST, 784-500-500-10, Adam; {result['machine']['device']}", fontsize=11)
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize=8)
    return _save(figure, path)


def _line(name: str) -> dict[str, Any]:
    """The line style of an engine or another framework: our engines bold, the reference in the background."""
    if name == "gpunet reference":
        return {"color": "0.65", "linewidth": 1, "marker": ".", "zorder": 1}
    if name.startswith("gpunet"):
        return {"linewidth": 3, "marker": "o", "zorder": 3}
    return {"linewidth": 1.2, "linestyle": "--", "marker": "o", "markersize": 4, "zorder": 2}


def _accuracy(result: dict[str, Any], path: Path) -> Path:
    from matplotlib import pyplot

    records = result["batch_accuracy"]
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    updates = {record["batch_size"]: record["updates"] for record in records}
    of_seeds = [[100 * r["test_accuracy"] for r in records if r["batch_size"] == size] for size in updates]
    accuracies = [statistics.fmean(values) for values in of_seeds]
    beyond = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in of_seeds]
    axes.errorbar(list(updates), accuracies, yerr=beyond, marker="o", linewidth=2.5, capsize=3)
    for (size, count), accuracy in zip(updates.items(), accuracies, strict=True):
        place = {"xytext": (-6, -12), "textcoords": "offset points", "ha": "right", "fontsize": 8}
        axes.annotate(f"{count:,} updates", (size, accuracy), **place)
    axes.set(xscale="log", xlabel="batch size", ylabel="test accuracy, %")
    axes.margins(x=0.15, y=0.08)
    seeds = max(map(len, of_seeds))
    over = f", mean and deviation of {seeds} seeds" if seeds > 1 else ""
    axes.set_title(f"MNIST after {records[0]['epochs']} epochs{over}; {result['machine']['device']}", fontsize=11)
    axes.grid(visible=True, alpha=0.25)
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    """Write to a temporary name and move into place."""
    from matplotlib import pyplot

    aside = path.with_suffix(".part.png")
    figure.savefig(aside, dpi=130)
    pyplot.close(figure)
    return aside.replace(path)
