"""Kernel sources, each as one text, and compile-time parameters as compiler options.

A kernel `kernels/<name>.cu` may include headers from its own folder (`#include "common.cuh"`). They are inlined into
the text that a compiler gets, so that its hash, the key of the cache, changes when a header changes. NVRTC and the
emulator in tests/emulator get the same text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"')
_PRAGMA_ONCE = re.compile(r"^[ \t]*#[ \t]*pragma[ \t]+once\b")


def source_folder() -> Path:
    """The folder of the kernel sources: inside an installed package, or beside the package in a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "kernels"
    return installed if installed.is_dir() else package.parent / "kernels"


def read_source(name: str, folder: str | Path | None = None) -> str:
    """The text of `<name>.cu`, with each header of an `#include "..."` inlined once.

    Headers are looked up in the same folder, then among the project's own kernels. `#line` directives keep the file
    names and line numbers in compiler messages correct.
    Raises FileNotFoundError if the kernel or a header does not exist.
    """
    directory = source_folder() if folder is None else Path(folder)
    lines: list[str] = []
    _join(directory, f"{name}.cu", None, set(), lines)
    return "\n".join(lines) + "\n"


def define_options(defines: Mapping[str, int | float | str]) -> list[str]:
    """Compile-time parameters as `-D` options, sorted by name, so that every device spells the values the same way.

    A Python float becomes a double literal; a string is passed on unchanged (`"float"`, `"0.5f"`).
    """
    return [f"-D{name}={_literal(name, defines[name])}" for name in sorted(defines)]


def _join(directory: Path, name: str, includer: str | None, seen: set[str], lines: list[str]) -> None:
    folders = [directory]
    if includer and source_folder() != directory:
        folders.append(source_folder())
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        needed = f" (included by {includer})" if includer else ""
        raise FileNotFoundError(f"no kernel source {name}{needed} in {' or '.join(map(str, folders))}")
    seen.add(name)
    lines.append(f'#line 1 "{name}"')
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        include = _INCLUDE.match(line)
        if include:
            if include[1] not in seen:
                _join(directory, include[1], name, seen, lines)
            lines.append(f'#line {number + 1} "{name}"')
        elif _PRAGMA_ONCE.match(line):
            lines.append("")  # it means nothing in the inlined text, and compilers warn about it
        else:
            lines.append(line)


def _literal(name: str, value: int | float | str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"define {name}: expected a finite number, got {value}")
    return repr(value)
