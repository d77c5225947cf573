"""The tool `gpunet` and its subcommands evaluate and predict, and the plots that they and `train` draw."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gpunet
from conftest import Command, command_environment
from gpunet import ArgumentError, DataError, OutputError, commandline, evaluate, files, plots, predict, terminal, train
from support.commands import on_a_terminal

COMMANDS = ("train", "sweep", "evaluate", "predict", "page", "doctor")


@pytest.fixture
def folder(mnist: gpunet.Dataset, tmp_path: Path) -> Path:
    """A folder with the first two test digits, a 7 and a 2, and a file that is not an image."""
    path = tmp_path / "digits"
    path.mkdir()
    for number, example in enumerate(mnist.test.images[:2]):
        Image.fromarray(255 - example).resize((140, 140)).save(path / f"{number}.png")
    (path / "bad.jpg").write_text("hello")
    (path / "notes.txt").write_text("hello")
    return path


@pytest.fixture
def blobs_model(blobs: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> Path:
    """A saved network for the blobs, barely trained, so that it makes mistakes."""
    model = gpunet.Sequential([gpunet.Dense(5, "tanh", input_dim=8), gpunet.Dense(3, "softmax")], seed=2)
    model.compile("sgd", "categorical_crossentropy", device="cpu")  # its own loss plays no part in evaluate
    x, y = blobs
    model.fit(x, gpunet.to_categorical(y), batch_size=6, epochs=3, verbose=0)
    model.save(tmp_path / "blobs.safetensors")
    return tmp_path / "blobs.safetensors"


def test_the_tool_and_its_modules_are_the_same(command: Command, in_process: Command) -> None:
    shown = command("gpunet", "--help").stdout
    assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in COMMANDS)
    assert command("gpunet", "--version").stdout == f"gpunet {gpunet.__version__}\n"
    for name in COMMANDS:
        help_text = in_process("gpunet", name, "--help").stdout
        assert help_text == command(f"gpunet.{name}", "--help").stdout
        assert help_text.startswith(f"usage: gpunet {name} ")
        assert f"examples:\n  gpunet {name}" in help_text
        assert f"exit status:\n{commandline.STATUSES}" in help_text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "gpunet: the following arguments are required: COMMAND"),
        (["fly"], "gpunet: argument COMMAND: invalid choice: 'fly'"),
        (["evaluate"], "gpunet evaluate: the following arguments are required: MODEL"),
        (["evaluate", "none.npz"], "gpunet evaluate: none.npz: "),
        (["predict", "none.npz", "a.png"], "gpunet predict: none.npz: "),
        (["predict", "blobs.safetensors", "a.png"], "the network has 8 inputs; expected 784, for images of 28 x 28"),
        (
            ["evaluate", "blobs.safetensors"],
            "the network has 8 inputs and 3 classes, but MNIST (bundled) has 784 inputs",
        ),
        (
            ["evaluate", "blobs.safetensors", "--plot", "a.tif"],
            "--plot: a.tif: expected a name that ends in .png, .svg",
        ),
        (["evaluate", "blobs.safetensors", "--data", ""], "--data: expected a path, got ''"),
        (["predict", "blobs.safetensors", ""], "gpunet predict: IMAGE: expected a path, got ''"),
        (["predict", "no\nmodel.npz", "a.png"], r"gpunet predict: no\nmodel.npz: "),
        (["train", "--plot", "a"], "gpunet train: --plot: a: expected a name that ends in .png, .svg, .pdf"),
        (["train", "--plot", "none/a.png"], "--plot: none/a.png: no such folder"),
        (["train", "--plot", ""], "--plot: expected a path, got ''"),
        (["train", "--save", "a.pkl"], "--save: a.pkl: expected a name that ends in .safetensors or .npz"),
        (["train", "--save", "none/a.npz"], "--save: none/a.npz: no such folder"),
        (["train", "--save", "folder.npz"], "--save: folder.npz: not a file"),
        (["train", "--save", "data.npz", "--data", "data.npz"], "--save: data.npz is also the file of --data"),
        (["train", "--metrics", "a.png", "--plot", "a.png"], "--plot: a.png is also the file of --metrics"),
        (["train", "--metrics", "data.npz", "--checkpoint", "no/a.npz"], "--checkpoint: no/a.npz: no such folder"),
    ],
    ids=str,
)
def test_impossible_requests_are_one_clear_line_and_status_2(
    in_process: Command, blobs_model: Path, small_npz: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "folder.npz").mkdir()
    small_npz.rename(tmp_path / "data.npz")
    before = sorted(tmp_path.iterdir())
    result = in_process("gpunet", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


def test_train_saves_what_it_trained_and_draws_the_curves(command: Command, small_npz: Path, tmp_path: Path) -> None:
    result = command(
        *("gpunet", "train", "--data", small_npz, "--batch-size", 9, "--epochs", 3, "--hidden", 6),
        *("--save", "model.npz", "--plot", "curves.png", "--metrics", "m", "--quiet"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert Image.open(tmp_path / "curves.png").size == (1500, 600)
    evaluated = json.loads(command("gpunet", "evaluate", "model.npz", "--data", small_npz, "--json").stdout)
    last = json.loads((tmp_path / "m").read_text().splitlines()[-1])
    assert evaluated["test_accuracy"] == pytest.approx(last["test_accuracy"])
    assert evaluated["test_loss"] == pytest.approx(last["test_loss"], rel=1e-5)


def test_curves_are_those_of_the_history() -> None:
    history = {"loss": [2.0, 1.0], "accuracy": [0.5, 0.75], "val_loss": [3.0, 2.5], "val_accuracy": [0.25, 0.5]}
    losses, accuracies = plots.curves([4, 5], history).axes
    drawn = [[list(line.get_ydata()) for line in axes.get_lines()] for axes in (losses, accuracies)]
    assert drawn == [[[2, 1], [3, 2.5]], [[50, 75], [25, 50]]]
    assert [list(line.get_xdata()) for line in losses.get_lines()] == [[4, 5], [4, 5]]
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["training", "validation"]
    without = plots.curves([1], {"loss": [1.0], "accuracy": [0.5]})
    assert [len(axes.get_lines()) for axes in without.axes] == [1, 1]


@pytest.mark.parametrize("epochs", [[1], [3], [1, 2], [4, 5, 6], list(range(5, 105))], ids=len)
def test_epochs_are_counted_in_whole_numbers(epochs: list[int]) -> None:
    figure = plots.curves(epochs, {"loss": [1.0] * len(epochs), "accuracy": [0.5] * len(epochs)})
    figure.draw_without_rendering()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        shown = [float(tick) for tick in axes.get_xticks() if low <= tick <= high]
        assert shown
        assert set(shown) <= set(epochs)


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense", "svg"])
def test_curves_are_drawn_whatever_backend_jupyter_sets(backend: str, tmp_path: Path) -> None:
    """Jupyter's backend may be missing in the command's environment. The variable keeps its value."""
    code = (
        "import os; from gpunet import plots; plots.check('a.png');"
        "plots.write(plots.curves([1], {'loss': [1.0], 'accuracy': [0.5]}), 'a.png');"
        "import matplotlib; print(os.environ['MPLBACKEND'], matplotlib.rcParams['backend'].lower())"
    )
    environment = {**command_environment(), "MPLBACKEND": backend}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert Image.open(tmp_path / "a.png").size == (1500, 600)
    named, used = result.stdout.split()
    assert named == backend
    assert used == "svg" or backend != "svg"


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")])
def test_the_suffix_decides_the_format(suffix: str, start: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    plots.check(str(path))
    plots.write(plots.curves([1], {"loss": [1.0], "accuracy": [0.5]}), str(path))
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


def test_without_matplotlib_a_plot_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ArgumentError, match=r"--plot: matplotlib cannot be loaded .*; pip install 'gpunet\[plot\]'"):
        plots.check(str(tmp_path / "a.png"))
    with pytest.raises(ArgumentError, match=r"^matplotlib cannot be loaded"):
        plots.curves([1], {"loss": [1.0], "accuracy": [0.5]})


@pytest.mark.parametrize("chunk", [5, 12, 1000])
def test_evaluate_gives_every_example_the_same_weight(blobs, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(evaluate, "CHUNK", chunk)  # 12 examples are 5, 5 and 2
    x, y = (array[:12] for array in blobs)
    model = gpunet.Sequential([gpunet.Dense(3, "softmax", input_dim=8)], seed=1)
    model.compile("adam", "sparse_categorical_crossentropy", device="cpu")
    result = evaluate.evaluate(model, gpunet.Examples(x, y), silent=True)
    assert [result.loss, result.accuracy] == pytest.approx(model.evaluate(x, y))


def test_evaluate_counts_what_the_model_gets_right(
    in_process: Command, blobs_model: Path, small_npz: Path, blobs: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = (array[:12] for array in blobs)
    predictions = gpunet.load(blobs_model, device="cpu").predict(x).argmax(axis=1)
    result = in_process("gpunet", "evaluate", blobs_model, "--data", small_npz, "--json")
    assert (result.returncode, result.stderr) == (0, "")
    summary = json.loads(result.stdout)
    assert 0 < summary["test_accuracy"] < 1  # else nothing below can be wrong
    assert summary["test_accuracy"] == pytest.approx(np.mean(predictions == y))
    for target in range(3):
        for prediction in range(3):
            assert summary["confusion"][target][prediction] == ((y == target) & (predictions == prediction)).sum()
        told = summary["classes"][target]
        assert (told["class"], told["examples"]) == (target, (y == target).sum())
        assert told["recall"] == pytest.approx(np.mean(predictions[y == target] == target))
        if (predictions == target).any():
            assert told["precision"] == pytest.approx(np.mean(y[predictions == target] == target))
        else:
            assert told["precision"] is None

    shown = in_process("gpunet", "evaluate", blobs_model, "--data", small_npz).stdout.splitlines()
    assert shown[2] == f"model   {blobs_model}: 8-5-3, tanh softmax"
    for line, told in zip(shown[4:7], summary["classes"], strict=True):
        assert line.split()[:3] == [str(told[name]) for name in ("class", "examples", "correct")]
    means = ", ".join(f"{name} {100 * mean:.2f} %" for name, mean in summary["macro"].items())
    assert shown[7] == f"{means} (means over the classes)"
    assert shown[8] == f"among the most probable 2: {100 * summary['top_k']['2']:.2f} %"
    assert shown[9] == f"test accuracy {100 * summary['test_accuracy']:.2f} %, loss {summary['test_loss']:.4f}"
    assert len(shown) == 10


def blobs_of(folder: Path, name: str, blobs: tuple[np.ndarray, np.ndarray], changed: float = 0.0) -> Path:
    x, y = blobs
    np.savez(folder / name, x_train=x + changed, y_train=y, x_test=x[:12] + changed, y_test=y[:12])
    return folder / name


@pytest.mark.parametrize("option", ["--save", "--checkpoint"])
def test_evaluate_uses_the_data_that_the_model_was_trained_on(
    small_npz: Path, blobs, monkeypatch: pytest.MonkeyPatch, capsys, option: str
) -> None:
    monkeypatch.chdir(small_npz.parent)
    train.main(
        ["--data", "blobs.npz", "--batch-size", "9", "--epochs", "2", "--hidden", "5", option, "m.npz", "--quiet"]
    )
    trained = capsys.readouterr().out.split(", after")[0]
    assert evaluate.main(["m.npz"]) == 0
    out, err = capsys.readouterr()
    assert (out.splitlines()[-1], err) == (trained, "")
    assert out.splitlines()[1] == "data    blobs.npz: 12 test examples"

    blobs_of(Path(), "other.npz", blobs, changed=0.5)
    assert evaluate.main(["m.npz", "--data", "other.npz", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out
    assert err == "gpunet evaluate: other.npz: not the examples that m.npz was trained on (blobs.npz)\n"

    small_npz.rename("moved.npz")
    assert evaluate.main(["m.npz"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gpunet evaluate: blobs.npz: no such file")
    assert err.endswith("; m.npz was trained on it: pass its new path as --data\n")
    assert evaluate.main(["m.npz", "--data", "moved.npz", "--quiet"]) == 0
    assert capsys.readouterr().err == ""  # the same examples, wherever they are

    Path("other.npz").rename("blobs.npz")
    assert evaluate.main(["m.npz"]) == 2
    told = "gpunet evaluate: blobs.npz: not the examples that m.npz was trained on; pass --data blobs.npz to use them\n"
    assert capsys.readouterr() == ("", told)


def test_a_model_that_does_not_say_what_it_was_trained_on_is_evaluated_on_mnist(digit_model: Path, capsys) -> None:
    assert evaluate.main([str(digit_model)]) == 0
    out, err = capsys.readouterr()
    said = "data    MNIST (bundled): 10,000 test examples (the model's file does not say what it was trained on)"
    assert (out.splitlines()[1], err) == (said, "")


def test_a_report_that_cannot_be_drawn_hides_no_result(
    blobs_model: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OutputError(f"{path}: cannot be written: No space left on device")

    monkeypatch.chdir(small_npz.parent)
    monkeypatch.setattr(files, "write_bytes", full)
    assert evaluate.main([str(blobs_model), "--data", "blobs.npz", "--plot", "report.png"]) == 1
    out, err = capsys.readouterr()
    first_words = ["device", "data", "model", "class", "0", "1", "2", "precision", "among", "test"]
    assert [line.split()[0] for line in out.splitlines()] == first_words
    assert err == "gpunet evaluate: --plot: report.png: cannot be written: No space left on device\n"


def test_a_report_is_drawn_even_if_the_table_cannot_be_printed(blobs_model: Path, small_npz: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    words = [sys.executable, "-m", "gpunet.evaluate", blobs_model, "--data", small_npz, "--plot", "report.png"]
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            words,
            cwd=small_npz.parent,
            env=command_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    told = "gpunet evaluate: standard output cannot be written: No space left on device; the work continues\n"
    assert (result.returncode, result.stderr) == (1, told)
    assert (small_npz.parent / "report.png").read_bytes().startswith(b"\x89PNG")


STARTS = {
    "module": ["-m", "gpunet.train"],
    "package": ["-m", "gpunet", "train"],
    "together": ["-um", "gpunet", "train"],
    "script": ["bin/gpunet", "train"],
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("imported", ["numpy", "safetensors"])
def test_ctrl_c_while_it_starts_is_one_line(tmp_path: Path, start: str, imported: str) -> None:
    """A stand-in for a library sends the signal when it is imported."""
    (tmp_path / f"{imported}.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    (tmp_path / "bin").mkdir()
    script = "import sys\nfrom gpunet.__main__ import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
    (tmp_path / "bin" / "gpunet").write_text(script)
    environment = command_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    result = subprocess.run(
        [sys.executable, *STARTS[start], "--epochs", "1"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "gpunet: interrupted\n")


def test_importing_gpunet_leaves_ctrl_c_alone(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    environment = command_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    code = "try:\n    import gpunet\nexcept KeyboardInterrupt:\n    print('caught')"
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "caught\n", "")


def test_evaluate_draws_a_report_of_mnist(in_process: Command, digit_model: Path, tmp_path: Path) -> None:
    result = in_process("gpunet.evaluate", digit_model, "--plot", "report.svg", "--quiet")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"test accuracy 9\d\.\d\d %, loss 0\.\d{4}\n", result.stdout)
    text = (tmp_path / "report.svg").read_text()
    for title in ("confusion matrix", "most confident mistakes", "weights of 100 of 100 units"):
        assert f"<!-- {title}" in text or f"<!-- first layer: {title}" in text
    assert text.count(", taken for ") == 24


def test_the_report_shows_the_most_confident_mistakes_first(command: Command, digit_model: Path, mnist) -> None:
    from gpunet import evaluate

    model = gpunet.load(digit_model, device="cpu")
    result = evaluate.evaluate(model, mnist.test)
    mistakes = evaluate._mistakes(mnist.test, result)
    confidences = [confidence for *_, confidence in mistakes]
    assert confidences == sorted(confidences, reverse=True)
    probabilities = model.predict(np.array([example for example, *_ in mistakes]))
    assert [target != prediction for _, target, prediction, _ in mistakes] == [True] * 24
    assert list(probabilities.argmax(axis=1)) == [prediction for _, _, prediction, _ in mistakes]
    wrong = model.predict(mnist.test.images).argmax(axis=1) != mnist.test.labels
    assert max(model.predict(mnist.test.images[wrong]).max(axis=1)) == pytest.approx(confidences[0])


@pytest.mark.parametrize(
    ("shape", "drawn_as"),
    [((28, 28), (28, 28)), ((784,), (28, 28)), ((8, 6, 1), (8, 6)), ((8, 8, 3), (8, 8, 3)), ((8,), None), ((1,), None)],
)
def test_images_are_drawn_as_images_and_other_examples_as_curves(
    shape: tuple[int, ...], drawn_as: tuple[int, ...] | None
) -> None:
    assert plots.image_shape(shape) == drawn_as
    inputs = int(np.prod(shape))
    rng = np.random.default_rng(0)
    mistakes = [(rng.normal(size=shape), 0, 1, 0.9)]
    figure = plots.report(np.array([[3, 1], [0, 0]]), mistakes, rng.normal(size=(inputs, 7)), shape)
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    pictures = [axes for axes in figure.axes if "taken for" in axes.get_title()]
    assert len(pictures) == 1
    assert bool(pictures[0].get_images()) == (drawn_as is not None)


def test_a_model_without_mistakes_and_many_classes_is_drawn() -> None:
    figure = plots.report(5 * np.eye(30, dtype=int), [], np.ones((4, 3)), (2, 2))
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    assert any(part.get_suptitle() == "no mistakes" for half in figure.subfigs for part in half.subfigs)


def test_predict_shows_what_the_network_saw_and_its_probabilities(
    command: Command, digit_model: Path, folder: Path
) -> None:
    result = command("gpunet.predict", digit_model, folder / "0.png")
    assert (result.returncode, result.stderr) == (0, "")
    *lines, last = result.stdout.splitlines()
    assert re.fullmatch(rf"{folder}/0\.png: 7, 9\d\.\d %", last)
    assert len(lines) == 28
    assert any("▓▓" in line for line in lines)
    assert [line[58:].split()[0] for line in lines[:10]] == [str(digit) for digit in range(10)]
    assert max(len(line) for line in lines) <= 80


def test_predict_continues_after_an_unreadable_image(in_process: Command, digit_model: Path, folder: Path) -> None:
    result = in_process("gpunet.predict", digit_model, folder, "none.png", "--json")
    assert result.returncode == 1
    bad, missing = result.stderr.splitlines()
    assert bad.startswith(f"gpunet predict: {folder}/bad.jpg: not a readable image")
    assert missing.startswith("gpunet predict: none.png: no such file")
    zero, one, bad, missing = map(json.loads, result.stdout.splitlines())
    assert (zero["class"], one["class"]) == (7, 2)
    assert len(zero["probabilities"]) == 10
    assert sum(zero["probabilities"]) == pytest.approx(1)
    assert ("error" in bad, "error" in missing) == (True, True)

    (folder / "bad.jpg").unlink()
    result = in_process("gpunet.predict", digit_model, folder, "--quiet")
    assert (result.returncode, len(result.stdout.splitlines())) == (0, 2)

    (folder / "empty").mkdir()
    result = in_process("gpunet.predict", digit_model, folder / "empty")
    assert (result.returncode, result.stdout) == (1, "")
    assert "no images in this folder" in result.stderr


def test_predict_gives_the_networks_own_predictions_of_mnist(
    in_process: Command, digit_model: Path, mnist: gpunet.Dataset, tmp_path: Path
) -> None:
    """1,000 test images as PNG: none is refused, and each has the probabilities of the image itself."""
    examples, labels = (array[:1000] for array in mnist.test)
    (tmp_path / "mnist").mkdir()
    for number, example in enumerate(examples):
        Image.fromarray(example).save(tmp_path / "mnist" / f"{number:04}.png")
    result = in_process("gpunet.predict", digit_model, "mnist", "--json", "--device", "cpu")
    assert (result.returncode, result.stderr) == (0, "")
    read = np.array([json.loads(line)["probabilities"] for line in result.stdout.splitlines()])
    expected = gpunet.load(digit_model, device="cpu").predict(examples)
    np.testing.assert_allclose(read, expected, atol=1e-5)  # one at a time or a thousand: sums have a different order
    assert (read.argmax(axis=1) == labels).sum() == (expected.argmax(axis=1) == labels).sum()


def test_predict_prints_one_line_per_image_whatever_its_name(
    in_process: Command, digit_model: Path, folder: Path
) -> None:
    (folder / "0.png").rename(folder / "0\n.png")
    (folder / "bad.jpg").rename(folder / "bad\n.jpg")
    result = in_process("gpunet.predict", digit_model, folder, "--quiet")
    assert result.stdout.splitlines()[0].startswith(rf"{folder}/0\n.png: 7, ")
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr.startswith(rf"gpunet predict: {folder}/bad\n.jpg: not a readable image")
    assert len(result.stderr.splitlines()) == 1


def test_an_unreadable_folder_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.listdir", refuse)  # root may read everything
    monkeypatch.setattr(Path, "iterdir", refuse)
    assert predict._files([str(folder)]) == [str(folder)]
    with pytest.raises(DataError, match=r"the folder cannot be read: Permission denied$"):
        predict._read(str(folder), "auto")


def test_predict_works_with_ascii_only(digit_model: Path, folder: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "gpunet.predict", digit_model, folder / "0.png"],
        env={**command_environment(), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    text = result.stdout.decode("ascii")
    assert "%%" in text
    assert "###" in text
    assert "\\u" not in text


def test_predict_on_a_terminal_is_coloured_and_has_a_progress_bar(digit_model: Path, folder: Path) -> None:
    status, text = on_a_terminal(["gpunet.predict", digit_model, folder], PYTHONIOENCODING="utf-8")
    assert status == 1
    assert "\x1b[38;5;232;48;5;232m▀" in text
    assert "/3 " in text
    assert "%|" in text


class FullDisk(io.RawIOBase):
    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("print_more", [[], ["--json"], ["--quiet"]])
def test_a_full_standard_output_is_named(
    blobs_model: Path, small_npz: Path, monkeypatch: pytest.MonkeyPatch, capsys, print_more: list[str]
) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BufferedWriter(FullDisk())))
    status = evaluate.main([str(blobs_model), "--data", str(small_npz), "--device", "cpu", *print_more])
    monkeypatch.undo()
    line = "gpunet evaluate: standard output cannot be written: No space left on device\n"
    assert (status, capsys.readouterr().err) == (1, line)


class Stream(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_colours_show_two_pixels_per_character(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    image = np.array([[0, 255], [255, 0]], np.uint8)
    dark_above, light_above = "\x1b[38;5;232;48;5;255m▀", "\x1b[38;5;255;48;5;232m▀"
    assert terminal.drawing(image, Stream()) == [f"{dark_above}{light_above}\x1b[0m"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert terminal.drawing(image, Stream()) == ["  ██", "██  "]


def test_bars_are_proportional() -> None:
    assert terminal.bars([0, 10], [0.5, 1.0], Stream()) == [f" 0 {'█' * 6}{' ' * 6}  50.0 %", f"10 {'█' * 12} 100.0 %"]


def test_a_warning_is_one_line_of_the_program(command: Command, tmp_path: Path, blobs) -> None:
    x, y = blobs
    np.savez(tmp_path / "from-1.npz", x_train=x, y_train=y + 1, x_test=x, y_test=y + 1)
    options = ("--data", "from-1.npz", "--hidden", "3", "--batch-size", "10", "--epochs", "1", "--device", "cpu")
    training = command("gpunet", "train", *options)
    assert training.returncode == 0
    assert training.stderr == (
        "gpunet train: y: class 0 has no example, and class 3 has: classes count from 0; if yours count from 1, "
        "subtract 1 from the labels, and there are 3 classes\n"
    )
