"""The page as one file: it loads nothing and sends nothing, and nothing that it shows is read as code.

What comes from a user (names of files and classes) is in one JSON text, without any character that could end it; the
scripts show it as text. The policy in the file lets a browser use only the scripts and styles whose hashes it lists,
and refuses every connection.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

FOLDER = Path(__file__).parent
SCRIPTS = ("network.js", "digit.js", "paint.js", "pen.js", "views.js", "page.js")


def document(description: Mapping[str, Any], numbers: bytes) -> bytes:
    """The HTML file. description: what the scripts read, see `content.describe`; numbers: the weights."""
    script = '"use strict";\n\n' + "\n".join(_text(name) for name in SCRIPTS)
    style = _text("page.css")
    filled = Template(_text("page.html")).substitute(
        policy=_policy(script, style),
        style=style,
        script=script,
        description=_harmless_json(description),
        numbers=base64.b64encode(numbers).decode("ascii"),
    )
    return filled.encode("ascii")


def _text(name: str) -> str:
    return (FOLDER / name).read_text(encoding="ascii")


def _policy(script: str, style: str) -> str:
    """A Content-Security-Policy: https://www.w3.org/TR/CSP3/. The icon is an empty data: address, so that browsers do
    not request one.
    """
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _harmless_json(value: object) -> str:
    """JSON in ASCII without the characters that mean something in HTML."""
    text = json.dumps(value, allow_nan=False)
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")
