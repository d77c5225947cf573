"""A small, seeded campaign of misuse: kills, signals, fights over one checkpoint, flipped bits, forged headers.

Whatever happens, a file is complete or absent, nothing that was reported as saved is lost, and there is no traceback.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet
from conftest import command_environment
from gpunet import ModelFileError, data, evaluate, saving, train
from gpunet.saving import contents, formats
from support import campaign

KILLS, SIGNALS, FIGHTS, FLIPS, FORGERIES = 40, 40, 12, 250, 300

Weights = list[np.ndarray]


@pytest.fixture
def folder(small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(small_npz.parent)
    return small_npz.parent


@pytest.fixture
def expected(folder: Path) -> list[Weights]:
    """The weights of campaign.WORDS after every number of epochs, in an undisturbed training."""
    (x, y), _, _ = data.load(folder / "blobs.npz")
    model = gpunet.Sequential([gpunet.Dense(16, "sigmoid", input_dim=8), gpunet.Dense(3, "softmax")], seed=0)
    model.compile(gpunet.Adam(0.002), "sparse_categorical_crossentropy", device="cpu", engine="reference")
    weights = [model.get_weights()]
    for _ in range(campaign.EPOCHS):
        model.fit(x, y, batch_size=9, verbose=0)
        weights.append(model.get_weights())
    return weights


def run(what: str, count: int) -> list[dict[str, Any]]:
    result = subprocess.run(
        [sys.executable, campaign.__file__, what, str(count)],
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def epochs_of(path: str | Path, expected: list[Weights]) -> int:
    """How many epochs the file's model was trained for; its weights must match exactly."""
    saved = saving.read(path)
    same = zip(saved.weights, expected[saved.epochs_trained], strict=True)
    assert all(np.array_equal(one, other) for one, other in same)
    return saved.epochs_trained


def epochs_told(output: str) -> int:
    return int(re.search(r"(?:interrupted|, ) ?after (\d+) epochs?", output.splitlines()[-1]).group(1))


@pytest.mark.parametrize("target", ["save", "checkpoint"])
def test_a_killed_training_leaves_a_complete_file(folder: Path, expected: list[Weights], target: str) -> None:
    suffix = Path(campaign.TARGETS[target][1]).suffix
    *trials, last = run(f"kill-{target}", KILLS)
    for trial in trials:
        assert trial["status"] in (-9, 0)
        assert trial["err"] == ""
        if trial["file"]:
            epochs_of(f"{trial['trial']}{suffix}", expected)
    assert sum(trial["status"] == -9 for trial in trials) > KILLS / 2
    assert any(trial["hidden"] for trial in trials)  # some were hit while they wrote
    assert (last["status"], last["err"], last["hidden"]) == (0, "", 0)  # which the next one tidied up
    assert epochs_of(f"{KILLS}{suffix}", expected) == campaign.EPOCHS


@pytest.mark.parametrize("target", ["save", "checkpoint"])
def test_a_signalled_training_saves_what_it_reports(folder: Path, expected: list[Weights], target: str) -> None:
    path = Path(campaign.TARGETS[target][1])
    *trials, _ = run(f"signal-{target}", SIGNALS)
    kept = 0
    for trial in trials:
        assert trial["status"] in (0, 130, 143, -15)  # the last: while nothing had begun, or all was over
        assert trial["err"] in ("", "gpunet train: interrupted\n")
        if trial["file"]:
            epochs = epochs_of(f"{trial['trial']}{path.suffix}", expected)
        told = f"; the model as of then is in {path}\n", f"; continue with --resume {path}\n"
        if trial["out"].endswith(told):
            kept += 1
            assert trial["file"]
            assert epochs == epochs_told(trial["out"])
        elif not trial["out"]:  # while it began
            assert (trial["status"], trial["err"]) in ((-15, ""), (130, "gpunet train: interrupted\n"))
        elif not trial["out"].endswith("; nothing was saved: no epoch finished\n"):  # when it was over
            assert trial["file"]
            assert epochs == campaign.EPOCHS == epochs_told(trial["out"])
    assert kept > SIGNALS / 4


@pytest.mark.parametrize("how", ["new", "resume"])
def test_one_of_two_trainings_gets_a_contested_checkpoint(folder: Path, expected: list[Weights], how: str) -> None:
    trials = run(how, FIGHTS)
    assert len(trials) == FIGHTS
    refused = 0
    for number, trial in enumerate(trials):
        results = sorted(trial["results"], key=lambda result: result["status"])
        assert results[0]["status"] == 0
        if results[1]["status"] == 0:  # one after the other, the second with nothing left to do
            assert how == "resume"
            assert any("epochs (0 now)" in result["out"] for result in results)
        else:
            refused += 1
            assert results[1]["status"] == 2
            assert len(results[1]["err"].splitlines()) == 1
            assert re.search("another training is saving to it|c.safetensors exists", results[1]["err"])
        assert trial["epochs"] == ([2, 3, 4] if how == "resume" else [])
        assert epochs_of(f"{number}.safetensors", expected) == campaign.EPOCHS
    assert refused


FILES = {
    "model.safetensors": "--save",
    "model.npz": "--save",
    "training.safetensors": "--checkpoint",
    "training.npz": "--checkpoint",
}


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_are_refused_or_change_nothing(folder: Path, capsys, name: str) -> None:
    assert train.main([*campaign.WORDS, FILES[name], name]) == 0
    whole, text = saving.read(name), formats.read(name, lambda text: contents._sizes(name, text)).text
    content, rng, damaged = Path(name).read_bytes(), random.Random(name), Path(f"damaged{Path(name).suffix}")
    evaluate.main([name, "--quiet"])
    result = capsys.readouterr().out.splitlines()[-1]
    refused = 0
    for flip in range(FLIPS):
        flipped = bytearray(content)
        for _ in range(rng.choice([1, 1, 1, 2, 8])):
            flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        damaged.write_bytes(flipped)
        try:
            saved = saving.read(damaged)
        except ModelFileError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
            assert str(error).startswith(f"{damaged}: ")  # noqa: PT017
        else:
            again = formats.read(damaged, lambda text: contents._sizes(damaged, text))
            assert again.text == text  # with the checksum of all arrays, which reading has checked
            assert saved.epochs_trained == whole.epochs_trained
        if flip % 25 == 0:  # and what a user sees of it
            status = evaluate.main([str(damaged), "--quiet"])
            out, err = capsys.readouterr()
            assert (status, len(err.splitlines()), out) in ((2, 1, ""), (0, 0, f"{result}\n"))
    assert refused > FLIPS / 2


ANYTHING: list[Any] = [None, True, -1, 0, 1, 2**31, 2**63, 10**30, 0.5, 1e308, "", "a", "F32"]
ANYTHING += [[], [1], [[1]], [8, 6], {}, {"a": 1}]


def forge(value: Any, rng: random.Random) -> Any:
    """The JSON value with one part of it replaced, removed, doubled or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        how = rng.random()
        if how < 0.1:
            return {name: part for name, part in value.items() if name != key}
        if how < 0.2:
            return {**value, f"{key}x": value[key]}
        return {**value, key: forge(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.6:
        number = rng.randrange(len(value))
        return [*value[:number], forge(value[number], rng), *value[number + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.3:
        return value + rng.choice([-1, 1, 4, 2**40])
    return rng.choice(ANYTHING)


@pytest.mark.parametrize("part", ["header", "description"])
def test_a_forged_file_is_refused_with_one_line_or_is_a_model(folder: Path, part: str) -> None:
    """Descriptions get a checksum that agrees with them, so that the checksum is not what refuses them."""
    assert train.main([*campaign.WORDS, "--checkpoint", "c.safetensors"]) == 0
    content, rng, forged = Path("c.safetensors").read_bytes(), random.Random(part), Path("forged.safetensors")
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    raw = formats.read("c.safetensors", lambda text: contents._sizes("c.safetensors", text))
    examples, refused = np.zeros((2, 8), np.float32), 0
    for _ in range(FORGERIES):
        if part == "header":
            text = json.dumps(forge(header, rng)).encode()
            forged.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
        else:
            description = json.loads(raw.text)
            del description["sha256"]
            description = forge(description, rng)
            text = contents._seal(description if isinstance(description, dict) else {"format": 1}, raw.arrays)
            formats.write(forged, formats.Raw(text, raw.arrays))
        try:
            model = gpunet.load(forged, device="cpu", engine="reference")
        except ModelFileError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
            assert str(error).startswith(f"{forged}: ")  # noqa: PT017
        else:
            in_bytes = model.scale is not None and model.scale.in_bytes  # which may have been forged as well
            assert model.predict(examples.astype(np.uint8) if in_bytes else examples).shape == (2, 3)
    assert refused > FORGERIES / 4
