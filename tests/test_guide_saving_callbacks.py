"""The code in docs/guide_saving_callbacks.md runs, block after block, in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[1] / "docs" / "guide_saving_callbacks.md"


def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    pytest.importorskip("sklearn", reason="the guide uses scikit-learn; pip install scikit-learn")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 9
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)
    printed = capsys.readouterr().out
    assert "cut.safetensors: damaged, cut short or no .safetensors file" in printed
    assert "holds 784-30-10 with sigmoid, softmax, but the model is 784-40-10 with sigmoid, softmax" in printed
