"""Result files: written aside and moved into place, so that there is never half of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpunet.errors import OutputError

RESULTS = Path(__file__).parents[1] / "results"


def write_text(path: Path, text: str) -> None:
    """Raises OutputError, naming the file, if it cannot be written; the old one then stays."""
    aside = path.with_suffix(path.suffix + ".part")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.replace(path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written: {error.strerror}") from error


def write_json(path: Path, result: dict[str, Any]) -> None:
    write_text(path, json.dumps(result, indent=1, allow_nan=False) + "\n")
