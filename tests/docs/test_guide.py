"""The user guide's code runs, from top to bottom."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import command_environment

GUIDE = (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
# Where gpunet is used from a checkout there is no script of that name, and the test is of this Python's.
PRELUDE = f"set -e; gpunet() {{ '{sys.executable}' -m gpunet \"$@\"; }}\n"


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Python blocks share their names, and all share a folder that is empty at first."""
    pytest.importorskip("matplotlib", reason="the guide draws plots; pip install '.[test]'")
    pytest.importorskip("sklearn", reason="the guide uses scikit-learn; pip install '.[test]'")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    assert {language for language, _ in blocks} <= {"", "python", "sh", "text"}
    for language, code in blocks:
        if language == "python":
            exec(compile(code, f"docs/guide.md: {code.splitlines()[0]}", "exec"), names)
        elif language == "sh":
            shell = subprocess.run(
                ["bash", "-c", PRELUDE + code], env=command_environment(), capture_output=True, text=True, check=False
            )
            assert (shell.returncode, shell.stderr) == (0, ""), f"{code}{shell.stdout}{shell.stderr}"
    assert names["accuracy"] > 0.9
    for name in ("curves.png", "report.png", "flowers.svg", "log.pdf", "result.json", "digits.jsonl"):
        assert os.path.getsize(name) > 100, name
    printed = capsys.readouterr().out
    assert "cut.safetensors: damaged, cut short or no .safetensors file" in printed
    assert "holds 784-30-10 with sigmoid, softmax, but the model is 784-40-10 with sigmoid, softmax" in printed
    assert '"class": 7' in Path("digits.jsonl").read_text()


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line[3:].lower()).replace(" ", "-") for line in GUIDE.splitlines() if line[:3] == "## "
    }
    anchors = re.findall(r"\]\(#([\w-]+)\)", GUIDE)
    assert anchors
    assert set(anchors) <= headings
    for path in re.findall(r"\]\(([\w./-]+\.md)\)", GUIDE):
        assert (Path(__file__).parents[2] / "docs" / path).exists(), path
