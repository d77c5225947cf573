"""`python bench/update_docs.py`: writes measured results from bench/results into the documents below.

A place begins with `<!-- results: PART FILE -->` and ends with `<!-- end of results -->`. PART is one of PARTS, FILE
the name of a result file without its suffix. `--check` changes nothing and fails if something would change.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gpunet import commandline
from gpunet.errors import ArgumentError
from harness import loaded_table, tables
from harness.files import RESULTS, write_text

PROGRAM = "update_docs.py"
ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "lecture.md", ROOT / "docs" / "cpu.md")
PARTS = {
    "headline": tables.headline,
    "machine": lambda result: tables.machine(result["machine"]),
    "speed": tables.speed,
    "lecture": tables.lecture,
    "same-updates": tables.same_updates,
    "batch-accuracy": lambda result: tables.batch_accuracy(result["batch_accuracy"]),
    "why": lambda result: tables.why(result["why"]),
    "loaded": loaded_table.batches,
    "loaded-small": loaded_table.small,
    "loaded-four": loaded_table.four,
}
PLACE = re.compile(r"<!-- results: (\S+) (\S+) -->\n.*?<!-- end of results -->", re.DOTALL)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 1 if `--check` finds something out of date."""
    return commandline.run(PROGRAM, _update_docs, argv)


def _update_docs(argv: Sequence[str] | None) -> int:
    parser = commandline.Parser(
        prog=PROGRAM, description="Write measured results into README.md, docs/lecture.md and docs/cpu.md."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail if something would change")
    options = parser.parse_args(argv)
    status = commandline.DONE
    for path in DOCUMENTS:
        old = path.read_text(encoding="utf-8")
        new = filled(old)
        if new == old:
            continue
        if options.check:
            print(f"{path.name} is not what bench/results say; run python bench/update_docs.py", file=sys.stderr)
            status = commandline.FAILED
        else:
            write_text(path, new)
            print(f"written: {path}")
    return status


def filled(document: str) -> str:
    """The document with every marked place filled in from its result file."""

    def fill(place: re.Match[str]) -> str:
        part, file = place.groups()
        if part not in PARTS:
            raise ArgumentError(f"results: expected a part of {', '.join(PARTS)}; got {part!r}")
        try:
            text = PARTS[part](load(file))
        except (KeyError, OSError) as error:
            raise ArgumentError(f"bench/results/{file}.json lacks what {part} needs ({error})") from error
        return f"<!-- results: {part} {file} -->\n\n{text}\n\n<!-- end of results -->"

    return PLACE.sub(fill, document)


def load(file: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{file}.json").read_text())
    return result


if __name__ == "__main__":
    sys.exit(main())
