"""Kernel sources as one text each, and compile-time parameters as compiler options.

A kernel `kernels/<name>.cu` may include headers of its own folder (`#include "common.cuh"`). The text handed to a
compiler has them joined in, so that a cache's key of the text notices a change in a header. The same text
goes to NVRTC and to the emulator in tests/emulator.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"')
_PRAGMA_ONCE = re.compile(r"^[ \t]*#[ \t]*pragma[ \t]+once\b")


def source_folder() -> Path:
    """Folder of the kernel sources: inside an installed package, else beside the package in a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "kernels"
    return installed if installed.is_dir() else package.parent / "kernels"


def read_source(name: str, folder: str | Path | None = None) -> str:
    """Text of `<name>.cu` with every `#include "..."` joined in, once each.

    Headers are looked for in the same folder, then among the project's own kernels. `#line` directives keep the file
    names and line numbers of compiler messages right.
    Raises FileNotFoundError if the kernel or a header does not exist.
    """
    directory = source_folder() if folder is None else Path(folder)
    lines: list[str] = []
    _join(directory, f"{name}.cu", None, set(), lines)
    return "\n".join(lines) + "\n"


def define_options(defines: Mapping[str, int | float | str]) -> list[str]:
    """Compile-time parameters as `-D` options, sorted by name: every device spells the values in the same way.

    A Python float becomes a double literal; a string is passed on as it is (`"float"`, `"0.5f"`).
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
            lines.append("")  # a compiler warns about it in the joined text, where it has no meaning
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
