"""What `loaded.py` measured, as Markdown."""

from __future__ import annotations

import statistics
from typing import Any

from harness import tables

Result = dict[str, Any]


def whole(result: Result) -> str:
    parts = [tables.machine(result["machine"]), "Medians of passes, and their range.", batches(result)]
    if result.get("small"):
        parts += ["784-20-10, batches of 100:", small(result)]
    if result.get("four"):
        parts += [
            "Four trainings of the lecture's network at once, batches of 10, until the last one ends:",
            four(result),
        ]
    parts += [f"{each['name']}: {each['unavailable']}." for each in result["unavailable"]]
    return "\n\n".join(parts) + "\n"


def batches(result: Result) -> str:
    """us per update: a row for each load and batch size, a column for each engine or other framework."""
    return _table(["beside", "batch size"], result["batches"], ("load", "batch_size"), "us", "us")


def small(result: Result) -> str:
    return _table(["beside"], result["small"], ("load",), "us", "us")


def four(result: Result) -> str:
    return _table([], result["four"], (), "seconds", "s")


def _table(heads: list[str], records: list[Result], keys: tuple[str, ...], values: str, unit: str) -> str:
    names = list(dict.fromkeys(record["name"] for record in records))
    rows: dict[tuple[Any, ...], dict[str, str]] = {}
    for record in records:
        rows.setdefault(tuple(record[key] for key in keys), {})[record["name"]] = _spread(record[values])
    lines = [[*heads, *(f"{name}, {unit}" for name in names)], ["---"] * (len(heads) + len(names))]
    lines += [[*map(_shown, row), *(cells.get(name, "") for name in names)] for row, cells in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _spread(values: list[float]) -> str:
    digits = 0 if min(values) >= 10 else 2
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"
