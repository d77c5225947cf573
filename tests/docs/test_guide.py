"""The user guide's code runs, from top to bottom."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpunet
from conftest import command_environment
from gpunet import saving

GUIDE = (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
# A checkout has no script of that name, and the test must use this Python.
PRELUDE = f"set -e; gpunet() {{ '{sys.executable}' -m gpunet \"$@\"; }}\n"


def test_the_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Python blocks share their names, and all share a folder that is empty at first."""
    pytest.importorskip("matplotlib", reason="the guide draws plots; pip install '.[test]'")
    pytest.importorskip("sklearn", reason="the guide uses scikit-learn; pip install '.[test]'")
    pytest.importorskip("optuna", reason="the guide sweeps; pip install '.[test]'")
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
    assert "cut.safetensors: damaged, truncated or not a .safetensors file" in printed
    assert "holds 784-30-10 with sigmoid, softmax, but the model is 784-40-10 with sigmoid, softmax" in printed
    assert '"class": 7' in Path("digits.jsonl").read_text()


def test_the_stated_differences_from_keras_are_true(tmp_path: Path) -> None:
    """hard_sigmoid, Adam's epsilon, and what model.save leaves out."""
    guide = " ".join(GUIDE.split())
    assert "- `hard_sigmoid` is `0.2 x + 0.5`, clipped to 0..1" in guide
    assert "- Adam's `epsilon` is 1e-8 by default" in guide
    assert "`model.save` leaves out the optimizer's state unless `include_optimizer=True` is given" in guide
    model = gpunet.Sequential([gpunet.Dense(1, "hard_sigmoid", input_dim=1), gpunet.Dense(2, "softmax")], seed=0)
    model.compile("adam", "sparse_categorical_crossentropy", device="cpu")
    assert model.optimizer is not None
    assert model.optimizer.epsilon == 1e-8
    model.set_weights([np.ones((1, 1)), np.zeros(1), np.array([[0.0, 1.0]]), np.zeros(2)])
    x = np.array([-3.0, -2.5, -1.0, 0.0, 1.0, 2.5, 3.0])
    probabilities = model.predict(x[:, None])
    hidden = np.log(probabilities[:, 1] / probabilities[:, 0])  # the second class' sum is what the unit gives
    np.testing.assert_allclose(hidden, np.clip(0.2 * x + 0.5, 0, 1), atol=1e-5)
    model.fit(x[:, None], [0, 0, 0, 1, 1, 1, 1], batch_size=7, epochs=1, verbose=0)
    for include, left_out in ((False, True), (True, False)):
        model.save(tmp_path / "a.npz", include_optimizer=include)
        assert (saving.read(tmp_path / "a.npz").optimizer_state is None) == left_out


def test_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line[3:].lower()).replace(" ", "-") for line in GUIDE.splitlines() if line[:3] == "## "
    }
    anchors = re.findall(r"\]\(#([\w-]+)\)", GUIDE)
    assert anchors
    assert set(anchors) <= headings
    for path in re.findall(r"\]\(([\w./-]+\.md)\)", GUIDE):
        assert (Path(__file__).parents[2] / "docs" / path).exists(), path
