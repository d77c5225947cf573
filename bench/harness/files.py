"""Result files: written aside and moved into place, so that there is never half of one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from gpunet import files
from gpunet.errors import ArgumentError

RESULTS = Path(__file__).parents[1] / "results"
UNFINISHED = ".unfinished.json"  # the suffix of a result file during a run


def folder(path: str) -> Path:
    """The folder of --out. Raises ArgumentError if it cannot be written to."""
    out = Path(path)
    if not out.is_dir() or not os.access(out, os.W_OK):
        raise ArgumentError(f"--out: {out}: not a folder that can be written to")
    return out


def keep(
    stem: Path, result: dict[str, Any], steps: Iterable[str | None], title: str, whole: Callable[[dict[str, Any]], str]
) -> None:
    """Measure, and write <stem>.json and <stem>.md.

    steps: each measures something, adds it to the result, and says what it was, if that is worth a line. The result is
           written after each of them, under another name, so that a later failure loses nothing.
    whole: makes the Markdown under the title.
    """
    unfinished = Path(f"{stem}{UNFINISHED}")
    for what in steps:
        write_json(unfinished, result)
        if what is not None:
            print(what, flush=True)
    unfinished.replace(f"{stem}.json")
    markdown = whole(result)
    write_text(Path(f"{stem}.md"), f"# {title}\n\n{markdown}")
    print(markdown)
    print(f"written: {stem}.json, {stem}.md")


def write_text(path: Path, text: str) -> None:
    """Raises OutputError, naming the file, if it cannot be written; the old one then stays."""
    files.write_bytes(path, text.encode())


def write_json(path: Path, result: dict[str, Any]) -> None:
    write_text(path, json.dumps(result, indent=1, allow_nan=False) + "\n")
