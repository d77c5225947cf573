"""Tables and names of classes on the command line, from a .csv to predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet
from gpunet import evaluate, plots, predict, saving, train
from gpunet.page import command as page

pandas = pytest.importorskip("pandas", reason="tables need pandas; pip install '.[test]'")
KINDS = ("aster", "rose", "tulip")
OPTIONS = ["--hidden", "6", "--batch-size", "8", "--epochs", "3", "--device", "cpu"]


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """flowers.csv in the current folder: columns of very different sizes, sorted by kind."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    kind = np.repeat(np.arange(3), 24)
    frame = pandas.DataFrame({"height": 1e4 + 200 * kind + 50 * rng.normal(size=72), "width": 1e-3 * rng.random(72)})
    frame["kind"] = np.array(KINDS)[kind]
    frame.to_csv("flowers.csv", index=False)
    return frame


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """A command in this process: exit status and what it printed."""

    def call(command: Any, *arguments: object) -> tuple[int, str, str]:
        try:
            status = command.main([*map(str, arguments)])
        except SystemExit as exit_:
            status = exit_.code
        return status, *capsys.readouterr()

    return call


@pytest.fixture
def model(flowers: Any, run: Any) -> Path:
    status, out, err = run(train, "--data", "flowers.csv", "--target", "kind", *OPTIONS, "--save", "m.safetensors")
    assert (status, err) == (0, "")
    assert "inputs  height, width: standardized, (x - mean) / deviation of the training rows" in out
    assert "classes aster, rose, tulip" in out
    assert "makes a web page" not in out  # four columns are no image of 2 x 2
    return Path("m.safetensors")


def test_a_table_trains_whatever_the_sizes_of_its_columns(model: Path, flowers: Any, run: Any) -> None:
    more = ["--epochs", 60, "--learning-rate", 0.1]
    status, _, _ = run(train, "--data", "flowers.csv", "--target", "kind", *OPTIONS, *more, "--save", "n.npz")
    assert status == 0
    loaded = gpunet.load("n.npz")
    guesses = np.array(loaded.class_names)[loaded.predict(flowers[["height", "width"]]).argmax(axis=1)]
    assert (guesses == flowers["kind"]).mean() > 0.9


def test_evaluate_says_the_names(model: Path, flowers: Any, run: Any) -> None:
    status, out, err = run(evaluate, model)
    assert (status, err) == (0, "")
    assert "12 test examples" in out
    assert [line.split()[0] for line in out.splitlines() if line.strip().startswith(KINDS)] == list(KINDS)
    status, out, _ = run(evaluate, model, "--json")
    result = json.loads(out)
    assert [one["name"] for one in result["classes"]] == list(KINDS)
    assert [one["examples"] for one in result["classes"]] == [4, 4, 4]


def test_another_table_is_evaluated_as_a_whole_by_the_names_of_its_columns(model: Path, flowers: Any, run: Any) -> None:
    other = flowers.iloc[[70, 3, 5]][["kind", "width", "height"]].assign(note="x")
    other.to_csv("other.csv", index=False)
    status, out, err = run(evaluate, model, "--data", "other.csv", "--json")
    assert (status, err.count("\n")) == (0, 1)
    assert "other.csv: not the examples that m.safetensors was trained on (flowers.csv)" in err
    loaded = gpunet.load(model)
    loss, accuracy = loaded.evaluate(other[["height", "width"]], other["kind"])
    assert (json.loads(out)["test_loss"], json.loads(out)["test_accuracy"]) == pytest.approx((loss, accuracy))
    other.assign(kind="oak").to_csv("oaks.csv", index=False)
    status, _, err = run(evaluate, model, "--data", "oaks.csv")
    assert (status, err.count("\n")) == (2, 1)
    assert "oaks.csv: kind: there is no class 'oak'; the classes are aster, rose, tulip" in err


def test_predict_gives_a_class_for_each_row(model: Path, flowers: Any, run: Any) -> None:
    rows = flowers.drop(columns="kind").iloc[::-9]
    rows.assign(note="x").to_csv("rows.csv", index=False)
    expected = gpunet.load(model).predict(rows.to_numpy())
    status, out, err = run(predict, model, "rows.csv")
    assert (status, err) == (0, "")
    assert out.splitlines() == [
        f"row {row}: {KINDS[shares.argmax()]}, {100 * shares.max():.1f} %"
        for row, shares in enumerate(expected, start=1)
    ]
    status, out, _ = run(predict, model, "rows.csv", "--json")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["row"] for record in records] == list(range(1, 9))
    np.testing.assert_allclose([record["probabilities"] for record in records], expected, rtol=1e-6)
    assert [record["name"] for record in records] == [KINDS[record["class"]] for record in records]


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.parquet"])
def test_predictions_go_into_a_table(model: Path, flowers: Any, run: Any, name: str) -> None:
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow; pip install '.[test]'")
    status, out, _ = run(predict, model, "flowers.csv", "--output", name)
    assert (status, out) == (0, f"flowers.csv: 72 rows; their classes are in {name}\n")
    if name.endswith("parquet"):
        table = pandas.read_parquet(name)
    else:
        table = pandas.read_csv(name, sep="\t" if name.endswith("tsv") else ",")
    assert list(table.columns) == ["row", "class", "probability", "p(aster)", "p(rose)", "p(tulip)"]
    expected = gpunet.load(model).predict(flowers[["height", "width"]])
    np.testing.assert_allclose(table[["p(aster)", "p(rose)", "p(tulip)"]], expected, rtol=1e-6)
    assert table["class"].tolist() == [KINDS[best] for best in expected.argmax(axis=1)]
    assert table["row"].tolist() == list(range(1, 73))


def test_a_training_on_a_table_resumes_to_the_same_bits(flowers: Any, run: Any) -> None:
    given = ["--data", "flowers.csv", "--target", "kind", *OPTIONS]
    run(train, *given, "--save", "whole.npz", "--quiet")
    status, *_ = run(train, *given, "--checkpoint", "c.npz", "--quiet")
    assert status == 0
    saved = saving.read("c.npz")
    assert (saved.data.target, saved.class_names) == ("kind", KINDS)
    status, _, err = run(train, "--resume", "c.npz", "--save", "again.npz", "--quiet")
    assert (status, err) == (0, "")
    for one, other in zip(gpunet.load("whole.npz").get_weights(), gpunet.load("again.npz").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_page_and_the_plot_have_the_names_of_images(tmp_path: Path, run: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(256, size=(30, 4, 4), dtype=np.uint8), np.array(["no", "$x$ & <b>"] * 15)
    np.savez("signs.npz", x_train=images, y_train=labels, x_test=images[:9], y_test=labels[:9])
    run(train, "--data", "signs.npz", "--hidden", 3, "--epochs", 1, "--quiet", "--save", "m.npz")
    status, _, err = run(page, "m.npz", "-o", "signs.html", "--quiet")
    assert (status, err) == (0, "")
    assert json.dumps(["$x$ & <b>", "no"])[1:-1].replace("<", "\\u003c").split(",")[1] in Path("signs.html").read_text()
    status, _, err = run(evaluate, "m.npz", "--plot", "r.svg", "--quiet")
    assert (status, err) == (0, "")
    figure = plots.report(np.eye(2, dtype=int), [(images[0], 0, 1, 0.5)], np.ones((16, 3)), (4, 4), ["no", "$x$"])
    labels = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    assert {"no", "$x$", "no, taken for $x$\n50.0 %"} <= set(labels)


REFUSED = {
    "no-target": (train, ["--data", "flowers.csv"], "which column has the classes? Give one as --target: height"),
    "no-table": (train, ["--target", "kind"], "--target: expected with --data TABLE"),
    "wrong-target": (train, ["--data", "flowers.csv", "--target", "sort"], "no column 'sort' for --target"),
    "no-column": (predict, ["m.safetensors", "narrow.csv"], "narrow.csv: there is no column 'width'; there are height"),
    "text": (
        predict,
        ["m.safetensors", "text.csv"],
        "text.csv: column 'width' has text, such as 'a'; expected numbers",
    ),
    "two": (predict, ["m.safetensors", "flowers.csv", "a.png"], "TABLE: expected one table, or images; got 2 paths"),
    "image": (
        predict,
        ["m.safetensors", "a.png"],
        "has 2 inputs; expected 784, for images of 28 x 28 pixels, or a table",
    ),
    "suffix": (predict, ["m.safetensors", "flowers.csv", "--output", "a.txt"], "--output: a.txt: expected a name that"),
    "itself": (predict, ["m.safetensors", "flowers.csv", "--output", "flowers.csv"], "--output: flowers.csv is also"),
    "ink": (predict, ["m.safetensors", "flowers.csv", "--ink", "dark"], "--ink: expected with images, got the table"),
    "page": (
        page,
        ["m.safetensors", "-o", "a.html"],
        "m.safetensors: a network behind a Normalization; expected one of",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_a_line(model: Path, flowers: Any, run: Any, case: str) -> None:
    command, arguments, words = REFUSED[case]
    flowers[["height"]].to_csv("narrow.csv", index=False)
    flowers.assign(width="a").to_csv("text.csv", index=False)
    before = sorted(Path().iterdir())
    status, out, err = run(command, *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert words in err
    assert sorted(Path().iterdir()) == before
