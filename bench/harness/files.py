"""Result files, written to a temporary name and moved into place, so that there is never half of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpunet import files

RESULTS = Path(__file__).parents[1] / "results"


def write_text(path: Path, text: str) -> None:
    """Raises OutputError, naming the file, if it cannot be written; the old one then stays."""
    files.write_bytes(path, text.encode())


def write_json(path: Path, result: dict[str, Any]) -> None:
    write_text(path, json.dumps(result, indent=1, allow_nan=False) + "\n")
