"""Results as they come, one JSON object per line, so that a process that is stopped has reported all that it had."""

from __future__ import annotations

import json
from typing import Any


def tell(record: dict[str, Any]) -> None:
    """Print a record at once."""
    print(json.dumps(record), flush=True)


def told(output: str) -> list[dict[str, Any]]:
    """The records in an output, without truncated ones. NaN and infinity become None."""
    records = []
    for line in output.splitlines():
        if line.startswith("{"):
            try:
                records.append(json.loads(line, parse_constant=lambda name: None))
            except ValueError:
                continue
    return records


def why(error: BaseException) -> str:
    """An error as one line, for a table."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
