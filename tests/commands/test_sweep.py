"""`gpunet sweep`: what is trained, what is chosen, what it reports, and what it refuses."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet
from conftest import command_environment
from gpunet import Sequential, sweep, threads, train
from gpunet.sweep.space import Space, options_of

optuna = pytest.importorskip("optuna", reason="gpunet sweep needs Optuna; pip install '.[test]'")
Run = Callable[..., int]
SWEEPERS = Path(__file__).parents[1] / "support" / "sweepers_killed.py"  # two, of which one is killed
SMALL = ("--data", "blobs.npz", "--hidden", "4", "--epochs", "2", "--batch-size", "10", "--engine", "reference")


@pytest.fixture
def run(small_npz: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command here, on the blobs; later words override earlier ones."""
    monkeypatch.chdir(small_npz.parent)
    monkeypatch.setattr(threads, "_requested", 1)  # one training after the other, so that tests know their order

    def run(line: str, small: tuple[str, ...] = SMALL) -> int:
        return sweep.main([*small, *line.split()])

    return run


def study_of(path: str = "sweeps.db") -> Any:
    """The only study there, as anybody's Optuna code sees it."""
    storage = f"sqlite:///{path}"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def last_line(text: str) -> str:
    return text.splitlines()[-1]


# What is trained


def test_every_combination_is_trained_with_every_seed_as_gpunet_train_does_it(run: Run, capsys) -> None:
    assert run("--batch-size 10 25 --learning-rate 0.01 0.1 --seeds 2 --seed 3 --metrics records") == 0
    *trials, test = [json.loads(line) for line in Path("records").read_text().splitlines()]
    found = {(trial["batch_size"], trial["learning_rate"]): trial["seeds"] for trial in trials}
    assert sorted(found) == [(10, 0.01), (10, 0.1), (25, 0.01), (25, 0.1)]
    assert all([record["seed"] for record in seeds] == [3, 4] for seeds in found.values())
    options = ("--batch-size", "25", "--learning-rate", "0.1", "--seed", "4", "--metrics", "alone")
    assert train.main([*SMALL, *options]) == 0
    epochs = [json.loads(line) for line in Path("alone").read_text().splitlines()][:-1]
    for curve in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert found[25, 0.1][1][curve] == [epoch[curve] for epoch in epochs], curve
    assert test.keys() >= {"trial", "test_accuracy", "test_accuracy_deviation", "test_loss", "seeds"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--optimizer adam sgd --momentum 0.8 0.9",
         [{"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0.8}, {"optimizer": "sgd", "momentum": 0.9}]),
        ("--optimizer sgd --momentum 0 0.9 --nesterov yes no",
         [{"momentum": 0.0}, {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "nesterov": False}]),
        ("--hidden none 5 --activation relu tanh",
         [{"hidden": "none"}, {"hidden": 5, "activation": "relu"}, {"hidden": 5, "activation": "tanh"}]),
        ("--hidden none 5 --dropout 0.1 0.3",
         [{"hidden": "none"}, {"hidden": 5, "dropout": 0.1}, {"hidden": 5, "dropout": 0.3}]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_an_option_is_varied_only_where_it_matters(words: str, expected: list[dict[str, Any]]) -> None:
    space = space_of(words)
    varied = [{name: each[name] for name in space.varied if name in each} for each in space.combinations()]
    assert varied == expected


@pytest.mark.parametrize(
    ("words", "hidden"),
    [
        ("--hidden none 7 30,20", [[], [7], [30, 20]]),
        ("--hidden 7 9 --layers 1 3", [[7], [7, 7, 7], [9], [9, 9, 9]]),
        ("--batch-size 1 2", [[500, 500]] * 2),
        ("--hidden --batch-size 1 2", [[], []]),
    ],
)
def test_hidden_layers_are_given_one_by_one_or_by_number_and_width(words: str, hidden: list[list[int]]) -> None:
    assert [options_of(each, 0, "cpu", "auto").hidden for each in space_of(words).combinations()] == hidden


def space_of(line: str) -> Space:
    words: dict[str, list[str]] = {}
    for word in line.split():
        if word.startswith("--"):
            words[word[2:].replace("-", "_")] = given = []
        else:
            given.append(word)
    return Space(words)


def test_a_search_stays_in_its_ranges_and_finds_the_same_again(run: Run) -> None:
    line = "--trials 12 --learning-rate 1e-3..1 --hidden 2..9 --layers 1..2 --batch-size 5..50 --activation relu tanh"
    for path in ("a.db", "b.db"):
        assert run(f"{line} --epochs 1 --storage {path}") == 0
    first, again = ([trial.params for trial in study_of(path).trials] for path in ("a.db", "b.db"))
    assert first == again
    assert len({str(params) for params in first}) == 12
    for params in first:
        assert 0.001 <= params["learning_rate"] <= 1
        assert params["hidden"] in range(2, 10)
        assert params["layers"] in (1, 2)
        assert params["batch_size"] in range(5, 51)
        assert params["activation"] in ("relu", "tanh")
    rates = [params["learning_rate"] for params in first]
    assert min(rates) < 0.01 < 0.1 < max(rates)  # spread logarithmically


def test_trials_without_hope_are_ended_early(run: Run, capsys) -> None:
    assert run("--epochs 3 --learning-rate 0.05 0.06 0.07 0.08 0.09 1e-9 --prune --seeds 2") == 0
    states = [trial.state.name for trial in study_of().trials]
    assert states == ["COMPLETE"] * 5 + ["PRUNED"]
    assert len(study_of().trials[5].intermediate_values) < 3
    assert "learning rate 1e-09: pruned; best" in capsys.readouterr().out


def test_a_training_that_diverges_is_a_result(run: Run, capsys) -> None:
    assert run("--activation relu --optimizer sgd --learning-rate 0.1 1e30 --seeds 2") == 0
    out = capsys.readouterr().out
    assert "learning rate 1e+30: diverged (the loss became NaN or infinite at update" in out
    assert [trial.state.name for trial in study_of().trials] == ["COMPLETE", "PRUNED"]


def test_where_all_diverge_there_is_no_best(run: Run, capsys) -> None:
    assert run("--activation relu --optimizer sgd --learning-rate 1e30 2e30 --save a.npz") == 1
    assert re.search(r"no trial came to its end; trial 0: learning rate 1e\+30: diverged", capsys.readouterr().err)
    assert not Path("a.npz").exists()
    assert run("--report --plot a.png", ()) == 0
    assert capsys.readouterr().err == "gpunet sweep: --plot: no trial is complete, so a.png is not written\n"
    assert not Path("a.png").exists()


# What is chosen


def test_the_test_examples_are_seen_once_by_the_best_alone(run: Run, monkeypatch, capsys) -> None:
    seen = []
    evaluate = Sequential.evaluate
    monkeypatch.setattr(
        Sequential, "evaluate", lambda self, *data: seen.append((self.seed, len(data[1]))) or evaluate(self, *data)
    )
    line = "--learning-rate 0.001 0.1 --seeds 3"
    assert run(line) == 0
    assert seen == [(0, 12), (1, 12), (2, 12)]
    first = last_line(capsys.readouterr().out)
    assert run(line) == 0  # nothing is left to train, and the test is not repeated
    assert run("--report", ()) == 0
    assert len(seen) == 3
    out = capsys.readouterr().out
    assert out.count(first) == 2
    assert re.fullmatch(r"test accuracy [\d.]+ % \+- [\d.]+, loss [\d.]+", first)


def test_the_best_network_is_saved_and_can_be_trained_again(run: Run, capsys) -> None:
    assert run("--learning-rate 0.001 0.1 --seeds 3 --save best.npz --metrics -") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    best = max(records[:2], key=lambda record: record["val_accuracy"])
    assert best["val_accuracy"] == pytest.approx(np.mean([seed["val_accuracy"][-1] for seed in best["seeds"]]))
    assert best["val_accuracy_deviation"] == pytest.approx(
        np.std([seed["val_accuracy"][-1] for seed in best["seeds"]], ddof=1)
    )
    assert records[2]["trial"] == best["trial"]
    assert run("--report", ()) == 0
    words = re.search(r"^again   gpunet train (.*)$", capsys.readouterr().out, re.MULTILINE)[1].split()
    assert train.main([*words, "--engine", "reference", "--save", "again.npz", "--quiet"]) == 0
    saved, again = (gpunet.load(path).get_weights() for path in ("best.npz", "again.npz"))
    assert all((one == other).all() for one, other in zip(saved, again, strict=True))
    # Another process has not kept it: it is trained again, to the same bits.
    assert run("--learning-rate 0.001 0.1 --seeds 3 --save anew.npz") == 0
    assert all((one == other).all() for one, other in zip(saved, gpunet.load("anew.npz").get_weights(), strict=True))


def test_optuna_itself_reads_the_study(run: Run) -> None:
    assert run("--learning-rate 0.001 0.1 --seeds 2 --metrics records") == 0
    study = study_of()
    best = max(
        (json.loads(line) for line in Path("records").read_text().splitlines()[:2]),
        key=lambda record: record["val_accuracy"],
    )
    assert study.best_value == best["val_accuracy"]
    assert study.best_params == {"learning_rate": best["learning_rate"]}
    curves = [seed["val_accuracy"] for seed in best["seeds"]]
    assert study.best_trial.intermediate_values == pytest.approx(
        {1: np.mean([c[0] for c in curves]), 2: np.mean([c[1] for c in curves])}
    )


# What it shows


def test_progress_and_table_say_what_was_found(run: Run, capsys) -> None:
    assert run("--batch-size 10 25 --activation relu tanh --seeds 2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "sweep   4 trials, every combination, 2 seeds each: batch size 10 25; activation relu tanh"
    assert re.fullmatch(r"study   sweep-\w{6} in sweeps\.db: 0 done", lines[3])
    for number, line in enumerate(lines[4:8], start=1):
        assert re.fullmatch(
            rf"{number}/4  batch size \d+, activation \w+: [\d.]+ % \+- [\d.]+, [\d,.]+ us an update; best .*", line
        )
    assert lines[8].split() == [
        "trial",
        "batch",
        "size",
        "activation",
        "accuracy",
        "%",
        "+-",
        "loss",
        "us/update",
        "seconds",
    ]
    accuracies = [float(line.split()[3]) for line in lines[9:13]]
    assert accuracies == sorted(accuracies, reverse=True)
    assert lines[13].startswith(f"best    trial {lines[9].split()[0]} by validation accuracy: batch size ")


def test_a_terminal_has_a_bar_over_all_trials(run: Run, monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    assert run("--batch-size 10 25 50") == 0
    assert re.search(r"2 of 3, best [\d.]+ % +67%\|", terminal.getvalue())
    assert re.search(r"\r1/3  batch size 10: .*\n", terminal.getvalue())


@pytest.mark.parametrize(
    ("line", "panels"),
    [
        (
            "--batch-size 10 25 --activation relu tanh --seeds 2",
            4,
        ),  # two options, the heat map and its scale of colours
        ("--trials 4 --learning-rate 0.01..1 --batch-size 5..50", 4),
        ("--batch-size 10 25 --activation relu tanh --learning-rate 0.01 0.1", 3),
        ("--seeds 2", 1),
    ],
)
def test_the_plot_has_a_panel_for_each_option_and_a_map_of_two(run: Run, monkeypatch, line: str, panels: int) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib; pip install '.[test]'")
    figures = []
    monkeypatch.setattr("gpunet.plots.write", lambda figure, path: figures.append(figure))
    assert run(f"{line} --plot a.png --quiet") == 0
    axes = [panel for panel in figures[0].axes if panel.axison]
    assert len(axes) == panels
    trials = [trial for trial in study_of().trials if trial.value is not None]
    (heights,) = {tuple(sorted(container.lines[0].get_ydata())) for panel in axes for container in panel.containers}
    assert heights == pytest.approx(sorted(100 * trial.value for trial in trials))


def test_a_table_is_named_with_its_column(run: Run, monkeypatch, capsys) -> None:
    rows = [f"{number % 7},{'ab'[number % 2]},{number % 3}" for number in range(60)]
    Path("t.csv").write_text("\n".join(["x,kind,y", *rows]))
    words = ("--data", "t.csv", "--target", "kind", *SMALL[2:])
    assert run("--learning-rate 0.01 0.1 --save a.npz", words) == 0
    assert run("--report", ()) == 0
    again = [line for line in capsys.readouterr().out.splitlines() if line.startswith("again ")]
    assert len(again) == 2
    assert all(line.endswith(" --data t.csv --target kind") for line in again)
    assert list(gpunet.load("a.npz").class_names) == ["a", "b"]


def test_a_report_needs_no_more_than_the_study(run: Run, capsys) -> None:
    assert run("--learning-rate 0.01 0.1 --study mine") == 0
    Path("blobs.npz").unlink()
    before = capsys.readouterr().out.splitlines()
    assert run("--study mine --report --metrics records --plot a.svg", ()) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "study   mine in sweeps.db: 2 complete"
    assert out[1:] == before[-len(out[1:]) :]
    assert len(Path("records").read_text().splitlines()) == 3
    assert Path("a.svg").stat().st_size > 1000


# What is said of what cannot be done


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "nothing varies; give an option several values or a range a..b, or --seeds N"),
        ("--trials 3", "nothing varies"),
        ("--learning-rate 0.1..0.001 --trials 3", "the ends of 0.1..0.001 are swapped; expected 0.001..0.1"),
        ("--learning-rate 0.001..0.1", "0.001..0.1 is a range, which has no combinations; give values, or --trials N"),
        ("--learning-rate 0..0.1 --trials 3", "0..0.1 is spread logarithmically; expected a range that begins above 0"),
        ("--learning-rate 0.1..0.1 --trials 3", "expected a range a..b of more than one number, got '0.1..0.1'"),
        ("--learning-rate ..0.1 --trials 3", "--learning-rate: expected a range a..b, got '..0.1'"),
        ("--learning-rate 0.1..0.2 0.3 --trials 3", "--learning-rate: expected one range, or values; got 0.1..0.2 0.3"),
        ("--learning-rate fast slow", "--learning-rate: expected a number, got 'fast'"),
        ("--learning-rate 0.1 -1", "Adam: learning_rate: expected a number from 0 on, got -1.0"),
        ("--learning-rate", "--learning-rate: expected a value, several, or a range a..b"),
        ("--batch-size 10 0", "--batch-size: expected a whole number, 1 or above; got '0'"),
        ("--epochs 0 2", "--epochs: expected a whole number, 1 or above; got '0'"),
        ("--batch-size 10 10", "--batch-size: 10 is given twice"),
        ("--activation relu..tanh --trials 3", "--activation: relu..tanh: only numbers have ranges"),
        ("--activation relu tanhh", "--activation: expected one of sigmoid, "),
        ("--nesterov maybe", "--nesterov: expected yes or no, got 'maybe'"),
        ("--momentum 0 0.9", "--momentum: expected with --optimizer sgd"),
        ("--optimizer sgd --nesterov yes no", "--nesterov: expected with --momentum above 0"),
        ("--hidden none --activation relu tanh", "--activation: expected with hidden layers"),
        ("--hidden 5,5 --layers 1 2", "--hidden: expected one width with --layers"),
        ("--layers 1 2 --hidden", "--hidden: expected one width with --layers"),
        ("--seed 1 2", "--seed: cannot vary; expected one value, got 2; --seeds N trains every"),
        ("--device cpu cuda", "--device: cannot vary; expected one value, got 2"),
        ("--engine reference compiled", "--engine: cannot vary; expected one value, got 2"),
        ("--batch-size 10 25 --trials 2", "--trials: there are only 2 combinations; leave --trials out"),
        ("--batch-size 10 25 --takeover 0", "--takeover: expected a number of seconds above 0, got 0"),
        ("--batch-size 10 25 --save a.pkl", "--save: a.pkl: expected a name that ends in .safetensors or .npz"),
        ("--batch-size 10 25 --plot a.tif", "--plot: a.tif: expected a name that ends in .png, .svg"),
        ("--batch-size 10 25 --metrics sweeps.db", "--metrics: sweeps.db is also the file of --storage"),
        ("--batch-size 10 25 --storage none/a.db", "--storage: none/a.db: no such folder"),
        ("--batch-size 10 25 --storage blobs.npz", "--storage: blobs.npz is also the file of --data"),
        ("--batch-size 10 25 --storage text", "--storage: text: cannot be opened: file is not a database"),
        ("--batch-size 10 25 --storage mysql://host/a", "or postgresql://HOST/DATABASE; got mysql"),
        ("--report --storage none.db", "--storage: none.db: no such file; expected the storage of a sweep"),
        ("--report --save a.npz", "--save: not with --report, which trains nothing"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_one_line_before_anything_is_trained(run: Run, capsys, line: str, message: str) -> None:
    Path("text").write_text("this is no database")
    before = sorted(Path().iterdir())
    assert run(line) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("gpunet sweep: ")
    assert message in captured.err
    assert len(captured.err.splitlines()) == 1
    assert sorted(Path().iterdir()) == before


def test_a_study_of_something_else_is_refused(run: Run, capsys) -> None:
    np.savez("other.npz", **{**np.load("blobs.npz"), "x_test": np.zeros((12, 8), np.float32)})
    same = "--batch-size 10 25 --seeds 2 --study mine"
    assert run(same) == 0
    for line, message in (
        (
            "--batch-size 10 20",
            "--batch-size: 10 20 contradicts the study mine, which was begun with 10 25; choose another",
        ),
        ("--activation relu", "--activation: relu contradicts the study mine, which was begun with sigmoid"),
        ("--seeds 3", "--seeds: 3 from 0 on contradicts the study mine, which was begun with 2 from 0 on"),
        ("--data other.npz", "--study: mine was begun with other data (blobs.npz) than other.npz; choose another name"),
        ("--learning-rate 0.1", "--learning-rate: 0.1 contradicts the study mine, which was begun with its default"),
    ):
        capsys.readouterr()
        assert run(f"{same} {line}") == 2
        assert message in capsys.readouterr().err
    optuna.create_study(study_name="theirs", storage="sqlite:///sweeps.db").add_trial(optuna.create_trial(value=1.0))
    assert run("--batch-size 10 25 --study theirs") == 2
    assert "theirs is not a sweep's study; choose another name" in capsys.readouterr().err
    assert run("--report --study theirs", ()) == 2
    assert "no study theirs in sweeps.db; there are mine" in capsys.readouterr().err


def test_without_optuna_there_is_a_line(run: Run, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert run("--batch-size 10 25") == 2
    assert re.fullmatch(
        r"gpunet sweep: Optuna cannot be loaded \(.*\); pip install 'gpunet\[sweep\]'\n", capsys.readouterr().err
    )


def test_help_does_not_wait_for_optuna() -> None:
    code = (
        "import sys, gpunet.__main__, gpunet.sweep.command; print('optuna' in sys.modules, 'sqlalchemy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=command_environment(), capture_output=True, check=True)
    assert done.stdout == b"False False\n"


# What is not lost


def test_an_interrupted_sweep_goes_on_where_it_stands(run: Run, monkeypatch, capsys) -> None:
    """Ctrl-C comes in the second of two seeds of the second trial."""
    fits = count_epochs(monkeypatch, at=7, do=lambda: signal.raise_signal(signal.SIGINT))
    line = "--batch-size 5 10 25 --seeds 2"
    assert run(line) == 130
    assert last_line(capsys.readouterr().out) == "interrupted with 1 of 3 trials done; the same line goes on"
    fits.at = None
    assert run(line) == 0
    assert fits.epochs == 12 + 1  # one epoch, of a training that was not at its end, is trained twice
    assert [trial.state.name for trial in study_of().trials] == ["COMPLETE"] * 3
    values = [trial.value for trial in study_of().trials]
    assert run(f"{line} --storage whole.db") == 0
    assert [trial.value for trial in study_of("whole.db").trials] == values


def test_sigterm_ends_it_with_what_is_known(run: Run, monkeypatch, capsys) -> None:
    count_epochs(monkeypatch, at=3, do=lambda: signal.raise_signal(signal.SIGTERM))
    assert run("--batch-size 5 10 25") == 143
    out = capsys.readouterr().out
    assert last_line(out) == "interrupted with 1 of 3 trials done; the same line goes on"
    assert "best    trial 0 by validation accuracy: batch size 5" in out


def test_a_dead_workers_trial_is_taken_over_with_what_is_done(run: Run, monkeypatch, capsys) -> None:
    """A worker dies without warning: it does nothing of what it would do in the end, and its heartbeats stop."""
    from gpunet.sweep import study as studies

    class DeadError(BaseException):
        pass

    def die() -> None:
        raise DeadError

    line = "--batch-size 5 10 25 --seeds 2 --takeover 0.4"
    with monkeypatch.context() as patch:
        fits = count_epochs(patch, at=7, do=die)
        patch.setattr(studies.Study, "release", lambda *_: None)
        with pytest.raises(DeadError):
            run(line)
        assert [trial.state.name for trial in study_of().trials] == ["COMPLETE", "RUNNING"]
    again = count_epochs(monkeypatch)
    assert run(line) == 0
    assert fits.epochs + again.epochs == 12 + 1
    assert [trial.state.name for trial in study_of().trials] == ["COMPLETE"] * 3


def test_workers_share_a_file_though_one_is_killed(small_npz: Path) -> None:
    values = [f"{0.001 * number:g}" for number in range(1, 11)]
    words = [*SMALL, "--learning-rate", *values, "--takeover", "1", "--quiet"]
    done = subprocess.run(
        [sys.executable, SWEEPERS, "1", *words],
        cwd=small_npz.parent,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stderr == ""
    assert sorted(done.stdout.splitlines())[:2] == ["0", "0"]
    trials = study_of(str(small_npz.parent / "sweeps.db")).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 10
    assert len({str(trial.params) for trial in trials}) == 10


def test_a_worker_that_dies_while_it_claims_leaves_nothing_behind(run: Run, monkeypatch) -> None:
    from gpunet.sweep import study as studies

    class DeadError(BaseException):
        pass

    def die(*_: object) -> None:
        raise DeadError

    line = "--trials 3 --learning-rate 0.01..1 --batch-size 5..20"
    for place in ("_suggest", "records_of"):
        with monkeypatch.context() as patch:
            patch.setattr(studies, place, die)
            with pytest.raises(DeadError):
                run(line)
    assert run(line) == 0
    assert [trial.state.name for trial in study_of().trials] == ["COMPLETE"] * 3


def test_a_database_that_goes_away_in_a_claim_leaves_no_trial_behind(run: Run, monkeypatch) -> None:
    """What was claimed by then is claimed again at once, not only when the worker would count as dead."""
    from gpunet.sweep import storage
    from gpunet.sweep import study as studies

    monkeypatch.setattr(storage, "PAUSE", 0)
    monkeypatch.setattr(studies, "_suggest", failing_once(studies._suggest, gone(), at=2))
    assert run("--batch-size 5 10 20 25 50") == 0  # two in the first claim
    assert [trial.state.name for trial in study_of().trials] == ["COMPLETE"] * 5


def test_a_database_that_goes_away_at_the_end_is_waited_for(run: Run, monkeypatch, capsys) -> None:
    from gpunet.sweep import reading, storage
    from gpunet.sweep import study as studies

    monkeypatch.setattr(storage, "PAUSE", 0)
    for method in ("test_result", "keep_test"):
        monkeypatch.setattr(studies.Study, method, failing_once(getattr(studies.Study, method), gone()))
    evaluated = []
    evaluate = Sequential.evaluate
    monkeypatch.setattr(Sequential, "evaluate", lambda *data: evaluated.append(0) or evaluate(*data))
    assert run("--batch-size 10 25") == 0
    assert len(evaluated) == 1
    monkeypatch.setattr(reading, "outcomes", failing_once(reading.outcomes, gone()))
    assert run("--report", ()) == 0
    assert capsys.readouterr().err == ""


def test_a_trial_that_was_taken_over_is_not_left_to_a_third(run: Run, monkeypatch) -> None:
    def taken_over() -> None:
        study = study_of()
        running = next(trial for trial in study.trials if trial.state.name == "RUNNING")
        study._storage.set_trial_user_attr(running._trial_id, "worker", "another")
        raise KeyboardInterrupt

    count_epochs(monkeypatch, at=1, do=taken_over)
    assert run("--batch-size 10 25") == 128 + signal.SIGINT
    assert [trial.state.name for trial in study_of().trials if trial.user_attrs["worker"] == "another"] == ["RUNNING"]


def test_a_study_may_get_more_trials(run: Run, monkeypatch) -> None:
    epochs = count_epochs(monkeypatch)
    for trials, known in ((2, 2), (4, 4), (3, 4)):
        assert run(f"--learning-rate 0.01..1 --trials {trials}") == 0
        assert (len(study_of().trials), epochs.epochs) == (known, 2 * known)


def test_what_a_search_proposes_again_is_not_trained_again(run: Run, monkeypatch) -> None:
    epochs = count_epochs(monkeypatch)
    assert run("--hidden 2..3 --trials 6 --seeds 2") == 0
    trials = study_of().trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 6
    assert len({(trial.params["hidden"], trial.value) for trial in trials}) == 2
    assert epochs.epochs == 2 * 2 * 2


def assert_turns_are_kept(place: str, also: str | None = None) -> None:
    """Of two workers, one has its turn and the other waits, except in another study. also: an alias of the place."""
    from gpunet.sweep.storage import Storage

    class WaitingError(Exception):
        pass

    def waiting() -> None:
        raise WaitingError

    one, other = Storage(place, 60, waiting), Storage(also or place, 60, waiting)
    with contextlib.closing(one), contextlib.closing(other):
        with one.turn("a"):
            with pytest.raises(WaitingError), other.turn("a"):
                pass
            with other.turn("b"):
                pass
        with other.turn("a"):
            pass


def test_workers_take_turns_in_a_file(tmp_path: Path) -> None:
    assert_turns_are_kept(str(tmp_path / "a.db"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_workers_take_turns_in_a_file_that_one_knows_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(tmp_path / "a.db")
    assert_turns_are_kept(str(tmp_path / "a.db"), str(tmp_path / "link.db"))


def test_what_cannot_be_trained_is_told_and_the_others_go_on(run: Run, monkeypatch, capsys) -> None:
    def fail() -> None:
        raise MemoryError("9 TB")

    count_epochs(monkeypatch, at=3, do=fail)
    assert run("--batch-size 5 10 25") == 0
    assert "trial 1: batch size 10: failed (MemoryError: 9 TB)" in capsys.readouterr().out
    assert [trial.state.name for trial in study_of().trials] == ["COMPLETE", "FAIL", "COMPLETE"]


def count_epochs(monkeypatch, at: int | None = None, do: Callable[[], object] = lambda: None) -> Any:
    """Count the epochs that are trained, and do something at one of them."""
    from gpunet.sweep.seed_training import SeedTraining

    class Count:
        epochs = 0

    count = Count()
    count.at = at
    begin = SeedTraining.on_epoch_begin

    def on_epoch_begin(self: SeedTraining, epoch: int, logs: Any = None) -> None:
        count.epochs += 1
        if count.epochs == count.at:
            do()
        begin(self, epoch, logs)

    monkeypatch.setattr(SeedTraining, "on_epoch_begin", on_epoch_begin)
    return count


def failing_once(function: Callable[..., Any], error: Exception, at: int = 1) -> Callable[..., Any]:
    """The function, made to raise in its first call, or in call number `at`."""
    calls = itertools.count(1)

    def call(*arguments: Any) -> Any:
        if next(calls) == at:
            raise error
        return function(*arguments)

    return call


def gone() -> Exception:
    """What is raised when the database has become unreachable."""
    from sqlalchemy.exc import OperationalError

    return OperationalError("", {}, Exception("gone"))
