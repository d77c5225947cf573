"""`gpunet page`, without a browser: what it writes, what it refuses, and what its file allows a browser to do."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gpunet
from conftest import Command
from gpunet.errors import ArgumentError
from gpunet.layers import ACTIVATIONS
from gpunet.page import content
from gpunet.page.document import FOLDER, SCRIPTS
from gpunet.page.formulas import FORMULAS

ROOT = Path(__file__).parents[2]


def parts(page: Path) -> tuple[dict[str, Any], bytes]:
    """What a page holds for its scripts: the description and the numbers."""
    text = page.read_text(encoding="ascii")
    description, numbers = (
        re.findall(rf'<script type="[\w/]+" id="{name}">(.*?)</script>', text, re.DOTALL)
        for name in ("description", "numbers")
    )
    assert (len(description), len(numbers)) == (1, 1)
    return json.loads(description[0]), base64.b64decode(numbers[0])


def untrained(path: Path, *widths: int) -> Path:
    model = gpunet.Sequential(seed=3)
    for units in widths[1:-1]:
        model.add(gpunet.Dense(units, "sigmoid", input_dim=widths[0] if not model.layers else None))
    model.add(gpunet.Dense(widths[-1], "softmax", input_dim=None if model.layers else widths[0]))
    model.compile("adam", "sparse_categorical_crossentropy", device="cpu")
    model.save(path)
    return path


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """A data set of 28 x 28 bytes that are not digits, with 3 classes."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = np.uint8(rng.integers(0, 100, (60, 28, 28)) + 70 * (y[:, None, None] == 1))
    np.savez(tmp_path / "fashion.npz", x_train=x, y_train=y, x_test=x[:20], y_test=y[:20])
    return tmp_path / "fashion.npz"


def test_the_lectures_network_is_a_page_of_at_most_2_mb(command: Command, tmp_path: Path) -> None:
    untrained(tmp_path / "lecture.safetensors", 784, 500, 500, 10)
    result = command("gpunet", "page", "lecture.safetensors", "-o", "a.html", "--device", "cpu")
    assert (result.returncode, result.stderr) == (0, "")
    assert 1.7e6 < (tmp_path / "a.html").stat().st_size <= 2e6
    measured, named = result.stdout.splitlines()
    assert re.fullmatch(
        r"test accuracy \d+\.\d\d % of 10,000 test images with the page's 16-bit weights, "
        r"\d+\.\d\d % with all bits: [+-]\d\.\d\d points",
        measured,
    )
    assert named == f"a.html: {(tmp_path / 'a.html').stat().st_size / 1e6:.2f} MB; open it in a browser"


def test_a_page_says_where_it_comes_from(command: Command, digit_model: Path, tmp_path: Path) -> None:
    """Shape, test accuracy, how it was trained, and the command that made it, which makes the same file again."""
    arguments = ("page", digit_model, "-o", "my page.html", "--device", "cpu", "--quiet")
    assert command("gpunet", *arguments).stderr == ""
    description, numbers = parts(tmp_path / "my page.html")
    assert len(numbers) == 2 * gpunet.load(digit_model).network.parameters
    facts = {term: text for term, text, _ in description["facts"]}
    assert facts["Network"] == "784-100-10, relu softmax; 79,510 parameters"
    tested = json.loads(command("gpunet", "evaluate", digit_model, "--json", "--device", "cpu").stdout)
    assert facts["Test accuracy"].startswith(f"{100 * tested['test_accuracy']:.2f} %, ")
    assert facts["Test accuracy"].endswith(
        "with the page's 16-bit weights, of the 10,000 test images of MNIST (bundled)"
    )
    assert facts["Trained"] == "5 epochs, seed 0; Adam, with a learning rate of 0.003 at the end"
    assert facts["Made by"] == f"gpunet page {digit_model} -o 'my page.html' --device cpu --quiet"
    before = (tmp_path / "my page.html").read_bytes()
    assert command(*shlex.split(facts["Made by"])).returncode == 0
    assert (tmp_path / "my page.html").read_bytes() == before


def test_rounding_to_16_bits_costs_at_most_5_of_10_000_images(in_process: Command, digit_model: Path, mnist) -> None:
    """What the command prints is what Python computes with the page's numbers."""
    result = in_process("gpunet", "page", digit_model, "-o", "a.html", "--device", "cpu")
    page, exact = (float(share) for share in re.findall(r"(\d+\.\d\d) %", result.stdout))
    model = gpunet.load(digit_model, device="cpu")
    for accuracy in (exact, page):
        assert accuracy == pytest.approx(100 * np.mean(model.predict(mnist.test.images).argmax(1) == mnist.test.labels))
        model.set_weights([array.astype(np.float16).astype(np.float32) for array in model.get_weights()])
    assert abs(page - exact) <= 0.05


def test_float32_keeps_all_bits(in_process: Command, digit_model: Path, tmp_path: Path) -> None:
    result = in_process("gpunet", "page", digit_model, "-o", "a.html", "--float32", "--device", "cpu")
    assert re.match(r"test accuracy 9\d\.\d\d % of 10,000 test images; the page keeps all bits", result.stdout)
    description, numbers = parts(tmp_path / "a.html")
    weights = gpunet.load(digit_model, device="cpu").get_weights()
    assert numbers == b"".join(array.astype("<f4").tobytes() for array in weights)
    assert description["bits"] == 32


def test_the_strip_shows_the_most_confident_mistakes_first(
    in_process: Command, digit_model: Path, tmp_path, mnist
) -> None:
    in_process("gpunet", "page", digit_model, "-o", "a.html", "--float32", "--device", "cpu")
    examples = parts(tmp_path / "a.html")[0]["examples"]
    images = np.frombuffer(base64.b64decode(examples["images"]), np.uint8).reshape(-1, 28, 28)
    probabilities = gpunet.load(digit_model, device="cpu").predict(mnist.test.images)
    wrong = probabilities.argmax(axis=1) != mnist.test.labels
    assert [truth != guess for truth, guess in zip(examples["truths"], examples["guesses"], strict=True)] == [
        *[True] * content.MISTAKES,
        *[False] * content.RIGHT,
    ]
    assert sorted(examples["truths"][content.MISTAKES :])[::2][:6] == [0, 1, 2, 3, 4, 5]  # of all classes
    shares = examples["shares"][: content.MISTAKES]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(probabilities[wrong].max(), abs=1e-5)
    first = np.flatnonzero((mnist.test.images == images[0]).all(axis=(1, 2)))[0]
    assert (mnist.test.labels[first], probabilities[first].argmax()) == (examples["truths"][0], examples["guesses"][0])
    assert f"the 24 most confident of {wrong.sum():,} mistakes first" in examples["hint"]


def test_names_of_classes_are_shown(in_process: Command, fashion: Path, tmp_path: Path) -> None:
    untrained(tmp_path / "m.npz", 784, 5, 3)
    (tmp_path / "names.txt").write_text("Shirt\nAnkle boot\nÄrmel\n", encoding="utf-8")
    result = in_process("gpunet", "page", "m.npz", "--data", fashion, "--labels", "names.txt", "-o", "a.htm")
    assert (result.returncode, result.stderr.replace("compiling for this processor, first run only", "")) == (0, "")
    description, _ = parts(tmp_path / "a.htm")
    assert description["labels"] == ["Shirt", "Ankle boot", "Ärmel"]
    assert (description["drawable"], description["digits"]) == (True, False)


def test_train_and_evaluate_say_how_to_make_a_page_of_a_model_of_images(
    in_process: Command, fashion: Path, small_npz: Path
) -> None:
    """The advice is the right command; the file knows its data. A model of other examples has no page."""
    options = ("--hidden", 4, "--batch-size", 5, "--epochs", 1, "--device", "cpu")
    trained = in_process("gpunet", "train", "--data", fashion, *options, "--save", "a model.npz")
    line = "page    gpunet page 'a model.npz' -o 'a model.html' makes a web page that shows it at work"
    assert trained.stdout.splitlines()[-1] == line
    assert in_process("gpunet", "evaluate", "a model.npz", "--device", "cpu").stdout.splitlines()[-1] == line
    made = in_process(*shlex.split(line)[1:6], "--device", "cpu")
    assert (made.returncode, made.stderr) == (0, "")
    assert "a model.html: 0.0" in made.stdout
    for quiet in (
        ["train", *options, "--save", "b.npz", "--quiet", "--data", fashion],
        ["evaluate", "b.npz", "--quiet"],
    ):
        assert "page" not in in_process("gpunet", *quiet).stdout
    for other in (["train", *options, "--save", "c.npz", "--data", small_npz], ["evaluate", "c.npz"]):
        assert "page " not in in_process("gpunet", *other).stdout


def test_a_page_has_the_data_that_the_model_was_trained_on(in_process: Command, fashion: Path, tmp_path: Path) -> None:
    options = ("--hidden", 4, "--batch-size", 5, "--epochs", 1, "--device", "cpu", "--quiet")
    in_process("gpunet", "train", "--data", fashion, *options, "--save", "m.npz")
    assert in_process("gpunet", "page", "m.npz", "-o", "a.html", "--quiet").returncode == 0
    facts = {term: text for term, text, _ in parts(tmp_path / "a.html")[0]["facts"]}
    assert facts["Test accuracy"].endswith(f"of the 20 test images of {fashion}")
    fashion.rename(tmp_path / "gone.npz")
    gone = in_process("gpunet", "page", "m.npz", "-o", "b.html")
    assert gone.returncode == 2
    assert gone.stderr.endswith("m.npz was trained on it: pass its new path as --data\n")
    assert not (tmp_path / "b.html").exists()


def test_float_images_and_other_sizes_are_shown(in_process: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(30) % 2
    x = rng.normal(size=(30, 4, 6)) + 5 * y[:, None, None]
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    untrained(tmp_path / "m.npz", 24, 2)
    assert in_process("gpunet", "page", "m.npz", "--data", "d.npz", "-o", "a.html", "--device", "cpu").returncode == 0
    description, _ = parts(tmp_path / "a.html")
    low, high = (float(value) for value in (x[:9].astype(np.float32).min(), x[:9].astype(np.float32).max()))
    assert description["image"] == {"height": 4, "width": 6, "bits": 32, "low": low, "high": high}
    assert description["drawable"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digits.npz"], "the following arguments are required: -o/--output"),
        (["none.npz", "-o", "a.html"], "gpunet page: none.npz: "),
        (["digits.npz", "-o", ""], "--output: expected a path, got ''"),
        (["digits.npz", "-o", "none/a.html"], "--output: none/a.html: no such folder"),
        (["digits.npz", "-o", "folder.html"], "--output: folder.html: "),
        (["digits.npz", "-o", "a.png"], "--output: a.png: expected a name that ends in .html or .htm"),
        (["digits.npz", "-o", "labels.html", "--labels", "labels.html"], "--output: labels.html is also the file of"),
        (["digits.npz", "-o", "a.html", "--data", ""], "--data: expected a path, got ''"),
        (["digits.npz", "-o", "a.html", "--labels", ""], "--labels: expected a path, got ''"),
        (["digits.npz", "-o", "a.html", "--labels", "none.txt"], "none.txt: cannot be read: No such file"),
        (["digits.npz", "-o", "a.html", "--labels", "bytes.txt"], "bytes.txt: not a text in UTF-8"),
        (["digits.npz", "-o", "a.html", "--labels", "labels.html"], "labels.html: 2 lines; expected 10, a name of a"),
        (["digits.npz", "-o", "a.html", "--labels", "gap.txt"], "gap.txt: 10 lines, some of them empty; expected 10"),
        (["digits.npz", "-o", "a.html", "--labels", "long.txt"], "long.txt: a name of 61 letters; expected at most 60"),
        (["blobs.npz", "-o", "a.html"], "the network has 8 inputs and 3 classes, but MNIST (bundled) has 784 inputs"),
        (["blobs.npz", "-o", "a.html", "--data", "data.npz"], "data.npz: examples of shape (8,); expected grey images"),
        (["colour.npz", "-o", "a.html", "--data", "colours.npz"], "examples of shape (2, 2, 3); expected grey images"),
        (["large.npz", "-o", "a.html", "--float32"], "with 4,049,740 parameters is too large for a page; expected at"),
        (["huge.npz", "-o", "a.html"], "too large for 16 bits; --float32 keeps them"),
    ],
    ids=str,
)
def test_an_unsuitable_model_is_one_clear_line_and_status_2(
    in_process: Command, small_npz: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "folder.html").mkdir()
    small_npz.rename(tmp_path / "data.npz")
    x, y = np.zeros((12, 2, 2, 3), np.uint8), np.arange(12) % 2
    np.savez(tmp_path / "colours.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    (tmp_path / "labels.html").write_text("a\nb\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "gap.txt").write_text("a\n\n" + 8 * "b\n")
    (tmp_path / "long.txt").write_text(9 * "a\n" + 61 * "b")
    untrained(tmp_path / "digits.npz", 784, 10)
    untrained(tmp_path / "blobs.npz", 8, 3)
    untrained(tmp_path / "colour.npz", 12, 2)
    if arguments[0] == "large.npz":
        untrained(tmp_path / "large.npz", 784, 5094, 10)
    if arguments[0] == "huge.npz":
        model = gpunet.load(tmp_path / "digits.npz", device="cpu")
        model.set_weights([1e5 * np.ones((784, 10)), np.zeros(10)])
        model.save(tmp_path / "huge.npz")
    before = sorted(tmp_path.iterdir())
    result = in_process("gpunet", "page", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_the_limit_is_said_for_both_kinds_of_weights() -> None:
    weights = [np.broadcast_to(np.float32(0), (8_000_001,))]
    with pytest.raises(
        ArgumentError, match=r"8,000,001 parameters is too large for a page; expected at most 8,000,000$"
    ):
        content.packed(weights, 16)
    with pytest.raises(ArgumentError, match=r"at most 4,000,000 with --float32, or 8,000,000 without$"):
        content.packed(weights, 32)


def test_the_policy_allows_the_files_own_scripts_and_styles_and_nothing_else(
    in_process: Command, tmp_path: Path
) -> None:
    untrained(tmp_path / "m.npz", 784, 3, 10)
    assert in_process("gpunet", "page", "m.npz", "-o", "a.html", "--device", "cpu").returncode == 0
    text = (tmp_path / "a.html").read_text(encoding="ascii")
    policy = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', text)[0]
    assert text.index("Content-Security-Policy") < min(text.index(start) for start in ("<style", "<script", "<link"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules.pop("default-src") == "'none'"
    for kind, pattern in (("script", r"<script>(.*?)</script>"), ("style", r"<style>(.*?)</style>")):
        (own,) = re.findall(pattern, text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert rules.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert rules == {
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert not re.search(r"\b(src|href)=(?!\"data:,\")|url\(|@import|https?://", text.replace("https://www.w3", ""))
    assert not re.search(r" (on\w+|style)=", text)


def test_every_file_of_the_page_is_in_it(in_process: Command, tmp_path: Path) -> None:
    assert {path.name for path in FOLDER.iterdir() if path.suffix == ".js"} == set(SCRIPTS)
    untrained(tmp_path / "m.npz", 784, 10)
    in_process("gpunet", "page", "m.npz", "-o", "a.html", "--device", "cpu")
    text = (tmp_path / "a.html").read_text(encoding="ascii")
    for name in (*SCRIPTS, "page.css"):
        assert (FOLDER / name).read_text(encoding="ascii") in text


def test_every_activation_has_its_formula_in_the_page_and_in_the_guide() -> None:
    assert set(FORMULAS) == set(ACTIVATIONS)
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    for name, formula in FORMULAS.items():
        assert f"| {name} | `{formula}` |" in guide.replace("\\|", "|")


def test_the_guide_shows_the_page_and_the_readme_links_it() -> None:
    guide, readme = ((ROOT / path).read_text(encoding="utf-8") for path in ("docs/guide.md", "README.md"))
    assert "](page.png)" in guide
    assert "docs/guide.md#a-page-to-draw-on" in readme
    assert "\n## A page to draw on\n" in guide
    path = ROOT / "docs" / "page.png"
    assert Image.open(path).size[0] == 1600
    assert path.stat().st_size < 300_000
