"""Reports on a study: lines, a table, and JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gpunet.sweep.outcome import Outcome, State, ranked
from gpunet.sweep.space import Space, shown_value, title

MOST_ROWS = 20


def accuracy(outcome: Outcome) -> str:
    """The validation accuracy in per cent, with the standard deviation over the seeds if there are several."""
    deviation = outcome.deviation
    more = "" if deviation is None else f" +- {100 * deviation:.2f}"
    return f"{100 * outcome.accuracy:.2f} %{more}"


def line(space: Space, outcome: Outcome) -> str:
    """A line about a trial's outcome."""
    what = space.text(outcome.configuration)
    if outcome.state != State.COMPLETE:
        return f"{what}: {outcome.state.value}" + (f" ({outcome.reason})" if outcome.reason else "")
    return f"{what}: {accuracy(outcome)}, {outcome.us_per_update:,.1f} us an update"


def table(space: Space, outcomes: Sequence[Outcome]) -> list[str]:
    """A row for each complete trial, best first, and a line for each that failed."""
    rows, varied = ranked(outcomes), space.varied
    failed = [f"trial {row.number}: {line(space, row)}" for row in outcomes if row.state == State.FAILED]
    if not rows:
        return failed
    heads = ["trial", *map(title, varied), "accuracy %", "+-", "loss", "us/update", "seconds"]
    cells = [
        [
            str(row.number),
            *(shown_value(row.configuration[name]) if name in row.configuration else "-" for name in varied),
            f"{100 * row.accuracy:.2f}",
            "-" if row.deviation is None else f"{100 * row.deviation:.2f}",
            f"{row.loss:.4f}",
            f"{row.us_per_update:,.1f}",
            f"{row.seconds:,.2f}",
        ]
        for row in rows[:MOST_ROWS]
    ]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in (heads, *cells)]
    if len(rows) > MOST_ROWS:
        lines.append(f"and {len(rows) - MOST_ROWS} more, which --metrics FILE has")
    return lines + failed


def count(outcomes: Sequence[Outcome]) -> str:
    """How many trials there are in each state."""
    states = [outcome.state for outcome in outcomes]
    return ", ".join(f"{states.count(state):,} {state.value}" for state in State if state in states) or "no trials"


def records(outcomes: Sequence[Outcome], test: dict[str, Any] | None) -> list[str]:
    """A JSON object for each trial, in order, and one for the best trial's test, if there was one."""
    found = [json.dumps(_record(outcome), allow_nan=False) for outcome in outcomes if outcome.state.is_end]
    return found + ([json.dumps(test, allow_nan=False)] if test else [])


def _record(outcome: Outcome) -> dict[str, Any]:
    record: dict[str, Any] = {"trial": outcome.number, "state": outcome.state.value, **outcome.configuration}
    if outcome.reason:
        record["reason"] = outcome.reason
    if outcome.state == State.COMPLETE:
        record |= {
            "val_accuracy": outcome.accuracy,
            "val_accuracy_deviation": outcome.deviation,
            "val_loss": outcome.loss,
            "us_per_update": outcome.us_per_update,
            "seconds": outcome.seconds,
        }
    record["seeds"] = [{"seed": seed, **entry.as_attribute()} for seed, entry in outcome.records.items()]
    return record
