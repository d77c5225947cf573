"""fit_many: each model trains as if it were alone, callbacks run one at a time, and errors end one model or all."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import gpunet
from gpunet import SGD, Adam, ArgumentError, Dense, Sequential, arrays, engines, fit_arguments, fit_many, threads
from gpunet.callbacks import EarlyStopping, LearningRateScheduler, TerminateOnNaN
from gpunet.engines.reference import ReferenceEngine
from model.test_memory import peak
from model.test_threads import in_thread

INTEGER, ONE_HOT = "sparse_categorical_crossentropy", "categorical_crossentropy"
COMPILED = pytest.param(
    "compiled", marks=pytest.mark.skipif(engines.numba_problem() is not None, reason="needs Numba; pip install numba")
)
ENGINES = ["reference", COMPILED]


def new_model(units: int = 6, engine: str = "reference", optimizer: Any = "adam", seed: int = 0) -> Sequential:
    model = Sequential([Dense(units, "tanh"), Dense(3, "softmax")], seed=seed)
    model.compile(optimizer, INTEGER, engine=engine)
    return model


def models_of(count: int, **arguments: Any) -> list[Sequential]:
    return [new_model(seed=seed, **arguments) for seed in range(count)]


def mixed_models(engine: str) -> list[Sequential]:
    """Models that differ in everything in which they may differ."""
    shapes = [[], [(7, "relu")], [(40, "sigmoid"), (20, "softsign")], [(33, "tanh")], [(5, "linear"), (6, "softplus")]]
    rules = [Adam(0.01), SGD(0.1), SGD(0.05, 0.9, nesterov=True), gpunet.AdamW(0.02), Adam(0.003, 0.8)]
    models = []
    for seed, (shape, rule) in enumerate(zip(shapes, rules, strict=True)):
        models.append(Sequential([*(Dense(n, name) for n, name in shape), Dense(3, "softmax")], seed=seed))
        models[-1].compile(rule, INTEGER, engine=engine)
    return models


BATCH_SIZES, EPOCHS = [1, 7, 60, 10, 32], [2, 5, 9, 1, 4]


def same(one: Sequential, other: Sequential) -> bool:
    states = one.optimizer_state, other.optimizer_state
    arrays_of = [
        [*m.get_weights(), *itertools.chain(*s.slots.values())] for m, s in zip((one, other), states, strict=True)
    ]
    return (
        states[0].updates == states[1].updates
        and one.epochs_trained == other.epochs_trained
        and all(np.array_equal(a, b) for a, b in zip(*arrays_of, strict=True))
    )


def without_seconds(history: gpunet.History) -> dict[str, list[float]]:
    return {name: values for name, values in history.history.items() if name != "seconds"}


@pytest.fixture(params=[1, 2, 5])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """As many cores as the test needs, whatever the machine has."""
    monkeypatch.setattr(threads, "_count", lambda: request.param)
    return request.param


@pytest.mark.parametrize("engine", ENGINES)
def test_each_model_ends_with_the_bits_that_it_has_alone_with_one_thread(blobs, engine: str, cores: int) -> None:
    together, alone = mixed_models(engine), mixed_models(engine)
    schedules = [[], [LearningRateScheduler(lambda epoch: 0.1 / (1 + epoch))], [], [], []]
    histories = fit_many(
        together, *blobs, BATCH_SIZES, EPOCHS, 0, callbacks=schedules, validation_data=blobs, initial_epoch=[0] * 5
    )
    schedules[1] = [LearningRateScheduler(lambda epoch: 0.1 / (1 + epoch))]
    with threads.at_most(1):
        for number, model in enumerate(alone):
            history = model.fit(
                *blobs, BATCH_SIZES[number], EPOCHS[number], 0, schedules[number], validation_data=blobs
            )
            assert same(model, together[number]), number
            assert without_seconds(history) == without_seconds(histories[number])
            assert histories[number].error is None
    assert [history.epoch[-1] for history in histories] == [epochs - 1 for epochs in EPOCHS]


def test_one_number_counts_for_all_models_and_a_second_call_continues(blobs) -> None:
    together, alone = models_of(3), models_of(3)
    for epochs in (2, 1):
        fit_many(together, *blobs, 10, epochs, verbose=0, shuffle=False, validation_split=0.2)
    for model, twin in zip(together, alone, strict=True):
        twin.fit(*blobs, 10, 3, 0, shuffle=False, validation_split=0.2)
        assert same(model, twin)


def test_each_loss_takes_targets_in_its_own_form(blobs) -> None:
    x, y = blobs
    one_hot = gpunet.to_categorical(y)
    together, alone = models_of(2), models_of(2)
    for model in (*together, *alone):
        model.compile("adam", ONE_HOT, engine="reference")
    fit_many(together, x, one_hot, verbose=0)
    for model, twin in zip(together, alone, strict=True):
        twin.fit(x, one_hot, verbose=0)
        assert same(model, twin)


class Meeting(gpunet.Callback):
    """Waits in an epoch until enough models are in one, which shows that they are trained at the same time."""

    inside, most = 0, 0
    lock = threading.Lock()

    @classmethod
    def at(cls, monkeypatch: pytest.MonkeyPatch, seen: list[tuple[int, int]]) -> None:
        """seen: how many engines train, and with how many threads, whenever one has begun training."""
        cls.inside = 0
        train = ReferenceEngine.train_epoch

        def watched(self: Any, *arguments: Any) -> Any:
            with cls.lock:
                cls.inside += 1
                seen.append((cls.inside, threads.count()))
            time.sleep(0.01)
            try:
                return train(self, *arguments)
            finally:
                with cls.lock:
                    cls.inside -= 1

        monkeypatch.setattr(ReferenceEngine, "train_epoch", watched)


def test_as_many_models_train_at_a_time_as_there_are_cores(blobs, cores: int, monkeypatch) -> None:
    seen: list[tuple[int, int]] = []
    Meeting.at(monkeypatch, seen)
    fit_many(models_of(10), *blobs, epochs=2, verbose=0)
    assert max(inside for inside, _ in seen) == cores
    assert len(seen) == 20
    assert {most for _, most in seen[: 20 - 2 * cores]} == {1}  # one thread each


def test_fewer_models_than_cores_share_the_cores(blobs, cores: int, monkeypatch) -> None:
    seen: list[tuple[int, int]] = []
    Meeting.at(monkeypatch, seen)
    fit_many(models_of(1), *blobs, verbose=0)
    assert seen == [(1, cores)]
    assert threads.count() == cores


class Watch(gpunet.Callback):
    """Records every call, its caller, and whether another call is running."""

    busy = False

    def __init__(self, calls: list[tuple[str, int]]) -> None:
        self.calls = calls
        for name in ("on_train_begin", "on_epoch_begin", "on_progress", "on_epoch_end", "on_train_end"):
            setattr(self, name, lambda *_, name=name: self._note(name))

    def _note(self, name: str) -> None:
        assert not Watch.busy
        Watch.busy = True
        self.calls.append((name, threading.get_ident()))
        time.sleep(0.001)
        Watch.busy = False


def test_callbacks_run_in_the_calling_thread_and_in_the_order_of_fit(blobs, cores: int) -> None:
    calls: list[list[tuple[str, int]]] = [[] for _ in range(5)]
    histories = fit_many(models_of(5), *blobs, epochs=3, verbose=0, callbacks=[[Watch(one)] for one in calls])
    assert [history.error for history in histories] == [None] * 5
    assert {thread for one in calls for _, thread in one} == {threading.get_ident()}
    epoch = ["on_epoch_begin", "on_epoch_end"]
    for one in calls:
        assert [name for name, _ in one if name != "on_progress"] == ["on_train_begin", *3 * epoch, "on_train_end"]
        assert "on_progress" in [name for name, _ in one]


def test_a_callback_may_use_its_model_and_waiting_models(blobs) -> None:
    models = models_of(3)

    class Use(gpunet.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.outcome = self.model.predict(blobs[0]), self.model.evaluate(*blobs)

    uses = [Use() for _ in models]
    fit_many(models, *blobs, verbose=0, callbacks=[[use] for use in uses])
    for model, use in zip(models, uses, strict=True):
        np.testing.assert_array_equal(use.outcome[0], model.predict(blobs[0]))
        assert use.outcome[1] == model.evaluate(*blobs)


def test_other_threads_are_refused_during_training_only(blobs) -> None:
    models = models_of(2)
    outcomes: list[Any] = []

    class Other(gpunet.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            outcomes.extend(in_thread(lambda one=one: one.predict(blobs[0])) for one in models)
            outcomes.append(in_thread(lambda: fit_many(models[::-1], *blobs, verbose=0)))

    fit_many(models, *blobs, verbose=0, callbacks=[[Other()], None])
    assert [str(outcome).partition(";")[0] for outcome in outcomes] == [
        "predict: fit is running in another thread",
        "predict: fit is running in another thread",
        "models[0]: fit: already running in another thread",
    ]
    for model in models:
        in_thread(lambda model=model: model.fit(*blobs, verbose=0))
        assert model.epochs_trained == 2


# What ends one model


def diverging(engine: str) -> Sequential:
    model = Sequential([Dense(6, "relu"), Dense(3, "softmax")], seed=0)
    model.compile(SGD(1e30), INTEGER, engine=engine)
    return model


@pytest.mark.parametrize("engine", ENGINES)
def test_a_diverging_model_stops_alone_and_is_reset_to_before_that_epoch(blobs, engine: str, cores: int) -> None:
    models, twins = [models_of(5, engine=engine) for _ in range(2)]
    models[1], twins[1] = diverging(engine), diverging(engine)
    with pytest.warns(UserWarning, match=r"^1 of 5 trainings ended with an error .*: models\[1\]: TrainingDivergedErr"):
        histories = fit_many(models, *blobs, 10, 3, verbose=0)
    with pytest.raises(gpunet.TrainingDivergedError) as alone:
        twins[1].fit(*blobs, 10, 3, verbose=0)
    error = histories[1].error
    assert isinstance(error, gpunet.TrainingDivergedError)
    assert (error.epoch, error.update) == (alone.value.epoch, alone.value.update)
    for number in (0, 2, 3, 4):
        assert histories[number].error is None
        twins[number].fit(*blobs, 10, 3, verbose=0)
    assert all(map(same, models, twins))


def test_terminate_on_nan_ends_its_model_without_an_error(blobs) -> None:
    histories = fit_many(
        [diverging("reference"), *models_of(2)], *blobs, epochs=3, verbose=0, callbacks=[[TerminateOnNaN()], None, None]
    )
    assert [history.error for history in histories] == [None] * 3
    assert [len(history.epoch) for history in histories] == [0, 3, 3]


def test_a_callback_that_stops_a_model_stops_no_other(blobs, cores: int) -> None:
    models = models_of(4)
    stop = EarlyStopping("loss", patience=1, min_delta=9)
    histories = fit_many(models, *blobs, epochs=6, verbose=0, callbacks=[None, [stop], None, []])
    assert [len(history.epoch) for history in histories] == [6, 2, 6, 6]


@pytest.mark.parametrize("moment", ["set_model", "on_train_begin", "on_epoch_begin", "on_progress", "on_epoch_end"])
def test_a_failing_callback_stops_only_its_model(blobs, moment: str, cores: int) -> None:
    class Fails(gpunet.Callback):
        pass

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("of mine")

    models, twins = models_of(4), models_of(4)
    fails = Fails()
    setattr(fails, moment, fail)
    with pytest.warns(UserWarning, match=r"models\[2\]: ZeroDivisionError: of mine$"):
        histories = fit_many(models, *blobs, epochs=2, verbose=0, callbacks=[None, None, [fails], None])
    assert isinstance(histories[2].error, ZeroDivisionError)
    for number in (0, 1, 3):
        twins[number].fit(*blobs, epochs=2, verbose=0)
        assert same(models[number], twins[number])
    # A model that failed is as fit leaves it, and can be trained.
    again = Fails()
    setattr(again, moment, fail)
    with pytest.raises(ZeroDivisionError):
        twins[2].fit(*blobs, epochs=2, verbose=0, callbacks=[again])
    for model in (models[2], twins[2]):
        model.fit(*blobs, verbose=0)
    assert same(models[2], twins[2])


def test_an_error_while_on_train_end_is_kept_too(blobs) -> None:
    class Fails(gpunet.Callback):
        def on_train_end(self, logs: Any = None) -> None:
            raise OSError("disk full")

    with pytest.warns(UserWarning, match="OSError: disk full"):
        histories = fit_many(models_of(2), *blobs, verbose=0, callbacks=[[Fails()], None])
    assert [type(history.error) for history in histories] == [OSError, type(None)]


def test_many_errors_are_one_warning(blobs) -> None:
    with pytest.warns(UserWarning, match=r"^5 of 5 trainings .* models\[2\]: [^[]*; and 2 more$") as warnings:
        fit_many([diverging("reference") for _ in range(5)], *blobs, verbose=0)
    assert len(warnings) == 1
    assert warnings[0].filename == __file__


# What ends all


@pytest.fixture
def slow_epochs(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The reference engine's epochs last until the event is set; they poll for signals."""
    let_go, train = threading.Event(), ReferenceEngine._train_epoch

    def slow(self: Any, *arguments: Any) -> Any:
        statistics, progress = train(self, *arguments), arguments[-1]
        for updates in range(1000000):
            if let_go.wait(0.001):
                break
            progress(updates)
        return statistics

    monkeypatch.setattr(ReferenceEngine, "_train_epoch", slow)
    yield let_go
    let_go.set()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interrupts itself by a timer, which Windows lacks")
def test_ctrl_c_ends_all_models_after_their_last_complete_epoch(blobs, slow_epochs, cores: int) -> None:
    """The first epochs run to their end; the others are under way when the signal comes."""
    models, twins = models_of(7), models_of(7)
    ended: list[str] = []

    class First(gpunet.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            slow_epochs.clear()
            signal.setitimer(signal.ITIMER_REAL, 0.1)

        def on_train_end(self, logs: Any = None) -> None:
            ended.append("here")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    slow_epochs.set()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit_many(models, *blobs, epochs=9, verbose=0, callbacks=[[First()] for _ in models])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert 1 <= len(ended) <= cores
    assert threading.active_count() == 1 or not any("fit" in t.name for t in threading.enumerate())
    slow_epochs.set()
    for model, twin in zip(models, twins, strict=True):
        if model.epochs_trained:
            twin.fit(*blobs, epochs=model.epochs_trained, verbose=0)
            assert same(model, twin)
    assert sum(model.epochs_trained for model in models) >= 1
    fit_many(models, *blobs, verbose=0)  # they are free


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interrupts itself by a timer, which Windows lacks")
def test_ctrl_c_at_any_moment_leaves_consistent_and_free_models(blobs) -> None:
    """The timer's signal comes at any moment; its delays are seeded, and cover all of a short training."""
    x, y = blobs
    models = models_of(3)
    reached: dict[int, list[list[np.ndarray]]] = {}
    for number, twin in enumerate(models_of(3)):
        for untrained in (twin, models[number]):
            untrained.predict(x)  # creates the first weights
        reached[number] = [twin.get_weights()]
        for _ in range(60):
            twin.fit(x, y, verbose=0)
            reached[number].append(twin.get_weights())

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    interrupted = 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in np.random.default_rng(0).uniform(1e-5, 4e-3, 60):
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                fit_many(models, x, y, verbose=0)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            for number, model in enumerate(models):
                for one, other in zip(model.get_weights(), reached[number][model.epochs_trained], strict=True):
                    np.testing.assert_array_equal(one, other)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 10


@pytest.mark.parametrize("engine", ENGINES)
def test_a_callback_of_one_model_can_end_all_by_ctrl_c(blobs, engine: str, cores: int) -> None:
    class Interrupts(gpunet.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    models, twins = models_of(6, engine=engine), models_of(6, engine=engine)
    with pytest.raises(KeyboardInterrupt):
        fit_many(models, *blobs, epochs=50, verbose=0, callbacks=[[Interrupts()], *[None] * 5])
    assert models[0].epochs_trained == 2
    assert sum(model.epochs_trained == 50 for model in models) < 5
    for model, twin in zip(models, twins, strict=True):
        if model.epochs_trained:
            twin.fit(*blobs, epochs=model.epochs_trained, verbose=0)
            assert same(model, twin)


# The data


def test_the_data_is_checked_once(blobs, monkeypatch) -> None:
    checked: list[str] = []
    for name in ("as_images", "as_targets"):
        check = getattr(arrays, name)
        monkeypatch.setattr(fit_arguments, name, lambda *a, check=check: (checked.append(a[0]), check(*a))[1])
    fit_many(models_of(4), *blobs, verbose=0, validation_data=blobs)
    assert sorted(checked) == ["validation_data x", "validation_data y", "x", "y"]


@pytest.mark.parametrize("engine", ENGINES)
def test_memory_holds_the_data_once_and_the_arrays_of_each_network(engine: str) -> None:
    """Pixels in float64 are converted to float32: that is the data, once. A model's own memory is counted apart."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(20_000, 200)), np.arange(20_000, dtype=np.int32) % 2
    data = 4 * x.size

    def models(count: int) -> list[Sequential]:
        made = [Sequential([Dense(300, "relu"), Dense(2, "softmax")], seed=seed) for seed in range(count)]
        for model in made:
            model.compile("adam", INTEGER, engine=engine)
        return made

    fit_many(models(1), x[:100], y[:100], 100, verbose=0)  # what the first use creates does not count
    one, many = models(1), models(8)
    with threads.at_most(2):
        of_one = peak(lambda: fit_many(one, x, y, 1000, verbose=0))
        of_many = peak(lambda: fit_many(many, x, y, 1000, verbose=0))
    own = of_one - data
    assert own > 0
    assert of_many < data + 8 * own


# What is refused


class Twice(gpunet.Callback):
    pass


TWICE = Twice()
FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "no models": ({"models": []}, "models: expected at least one model, got none"),
    "one model": ({"models": new_model()}, "models: expected a list of models, got <"),
    "no model": ({"models": ["a"]}, r"models\[0\]: expected a Sequential, got 'a'"),
    "twice": ({"models": [new_model()] * 2}, r"models\[1\]: the same model as models\[0\]; pass a copy"),
    "batch sizes": ({"batch_size": [1, 2]}, "batch_size: expected one number, or one for each of the 3 models; got 2"),
    "a batch size": ({"batch_size": [1, 2, 0]}, r"models\[2\]: batch_size: expected a whole number above 0, got 0"),
    "epochs": ({"epochs": [1, 1, -1]}, r"models\[2\]: epochs: expected a whole number from 0 on, got -1"),
    "text": ({"epochs": "123"}, r"models\[0\]: epochs: expected a whole number from 0 on, got '123'"),
    "initial epoch": ({"initial_epoch": [-1, 0, 0]}, r"models\[0\]: initial_epoch"),
    "callbacks": (
        {"callbacks": [Twice()]},
        "callbacks: expected a list of callbacks for each of the 3 models, got a",
    ),
    "callback": ({"callbacks": Twice()}, "callbacks: expected a list of callbacks for each of the 3 models, got <"),
    "few callbacks": ({"callbacks": [[]]}, "callbacks: expected a list of callbacks for each of the 3 models, got 1"),
    "no callback": ({"callbacks": [[], [7], []]}, r"models\[1\]: callbacks: expected gpunet.Callback objects, got 7"),
    "shared": ({"callbacks": [[TWICE], [], [TWICE]]}, r"callbacks\[2\]: the same Twice as in callbacks\[0\]"),
    "verbose": ({"verbose": 3}, "verbose: expected 'auto', 0, 1 or 2; got 3"),
    "labels": ({"y": np.full(60, 3)}, r"models\[0\]: y: label 3 is out of range; expected 0 to 2"),
    "examples": ({"x": np.zeros((60, 0))}, r"models\[0\]: x: "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_arguments_are_refused_before_anything_changes(blobs, fault: str) -> None:
    changes, message = FAULTS[fault]
    models = models_of(3)
    with pytest.raises(ArgumentError, match=f"^{message}"):
        fit_many(**{"models": models, "x": blobs[0], "y": blobs[1], "verbose": 0, **changes})
    assert all(model._session.network is None for model in models)
    fit_many(models, *blobs, verbose=0)


def test_one_bad_model_among_others_is_named(blobs) -> None:
    x, y = blobs
    wide = Sequential([Dense(3, "softmax", input_dim=9)])
    wide.compile("adam", INTEGER, engine="reference")
    with pytest.raises(ArgumentError, match=r"^models\[1\]: x: expected shape \(examples, 9\), got \(60, 8\)"):
        fit_many([new_model(), wide], x, y, verbose=0)
    with pytest.raises(gpunet.NotCompiledError, match=r"^models\[2\]: fit: the model is not compiled"):
        fit_many([*models_of(2), Sequential([Dense(3, "softmax")])], x, y, verbose=0)
    on_bytes = new_model()
    on_bytes.fit(np.uint8(100 * np.abs(x)), y, verbose=0)
    with pytest.raises(ArgumentError, match=r"^models\[1\]: x: numbers from"):
        fit_many([new_model(), on_bytes], 100 * x, y, verbose=0)


def test_labels_that_seem_to_count_from_1_get_one_hint_for_all(blobs) -> None:
    with pytest.warns(UserWarning, match="class 0 has no example") as warnings:
        fit_many(models_of(3), blobs[0], 1 + blobs[1] % 2, verbose=0)
    assert len(warnings) == 1


# What is shown


def test_verbose_prints_a_line_per_model_or_per_epoch_or_nothing(blobs, capsys) -> None:
    fit_many(models_of(11), *blobs, epochs=[2] * 10 + [1])
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line[:20] for line in lines[:2]] == ["models[0]   2 epochs", "models[10]  1 epoch "]
    assert len(lines) == 11
    assert "  loss 1." in lines[0]
    fit_many(models_of(2), *blobs, epochs=2, verbose=2, validation_data=blobs)
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line[:20] for line in lines] == [f"models[{n}]  epoch {e}/2" for n in (0, 1) for e in (1, 2)]
    assert all("validation loss" in line for line in lines)
    fit_many(models_of(2), *blobs, verbose=0)
    assert capsys.readouterr().out == ""
    with pytest.warns(UserWarning, match="trainings ended"):
        fit_many([diverging("reference")], *blobs)
    assert "models[0]  0 epochs  ended by TrainingDivergedError: the loss" in capsys.readouterr().out


def test_on_a_terminal_a_bar_counts_the_updates_of_all(blobs, monkeypatch) -> None:
    class Terminal:
        encoding = "utf-8"

        def __init__(self) -> None:
            self.text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None: ...

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    stop = EarlyStopping("loss", patience=1, min_delta=9)
    fit_many(models_of(3), *blobs, 10, 40, callbacks=[[stop], None, None])
    assert "0 of 3 models" in terminal.text
    assert "3 of 3 models" in terminal.text or "2 of 3 models" in terminal.text
    assert "models[0]  2 epochs" in terminal.text


# The environment


def test_as_many_models_train_at_a_time_as_threads_were_asked_for(blobs, monkeypatch) -> None:
    seen: list[tuple[int, int]] = []
    Meeting.at(monkeypatch, seen)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    fit_many(models_of(4), *blobs, verbose=0)
    assert {inside for inside, _ in seen} == {1}
    assert os.environ["NUMBA_NUM_THREADS"] == "1"


def test_at_most_limits_only_its_own_thread() -> None:
    usable = threads._count()
    with threads.at_most(usable + 5):
        assert threads.count() == usable
        with threads.at_most(1):
            assert threads.count() == 1
            assert in_thread(threads.count) == usable
        assert threads.count() == usable
    assert threads.count() == usable
