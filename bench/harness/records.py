"""Results as they come: one JSON object a line, so that whoever is stopped has told all that it knew."""

from __future__ import annotations

import json
from typing import Any


def tell(record: dict[str, Any]) -> None:
    """Print a record, and see that it gets out."""
    print(json.dumps(record), flush=True)


def told(output: str) -> list[dict[str, Any]]:
    """The records among the lines of an output; one that was cut short is left out. NaN and infinity become None."""
    records = []
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                records.append(json.loads(line, parse_constant=lambda name: None))
            except ValueError:
                continue
    return records


def why(error: BaseException) -> str:
    """An error as a line of a table."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
