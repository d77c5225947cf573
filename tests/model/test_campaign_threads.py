"""A small hostile test: many threads use one model, in an order that a seed determines.

Whatever they do, the result must be that of some order of complete calls: the initial weights, or those at the end of
an epoch, and never anything in between.
"""

from __future__ import annotations

import functools
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import gpunet
from gpunet import Adam, ArgumentError, Dense, Sequential

INTEGER = "sparse_categorical_crossentropy"
THREADS = 8
ENGINES = [
    "reference",
    pytest.param(
        "compiled", marks=pytest.mark.skipif(gpunet.engines.numba_problem() is not None, reason="needs Numba")
    ),
]
REFUSALS = ("fit: already running in another thread", ": fit is running in another thread")


@pytest.fixture(autouse=True)
def _threads_change_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def new_model(engine: str) -> Sequential:
    model = Sequential([Dense(7, "tanh", input_dim=8), Dense(5, "relu"), Dense(3, "softmax")], seed=0)
    model.compile(Adam(0.02), INTEGER, engine=engine)
    return model


def all_at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run each in a thread of its own, all started at the same moment; returns each one's result or exception."""
    barrier, outcomes = threading.Barrier(len(calls)), [None] * len(calls)

    def run(number: int) -> None:
        barrier.wait()
        try:
            outcomes[number] = calls[number]()
        except BaseException as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive(), "it waits for ever"
    return outcomes


def is_refusal(outcome: Any) -> bool:
    return isinstance(outcome, ArgumentError) and any(words in str(outcome) for words in REFUSALS)


@pytest.mark.parametrize("engine", ENGINES)
def test_initial_weights_are_made_once(blobs, engine: str) -> None:
    x, y = blobs
    expected, expected_result = new_model(engine).predict(x), new_model(engine).evaluate(x, y)
    for _ in range(25):
        model = new_model(engine)
        calls = [functools.partial(model.predict, x), functools.partial(model.evaluate, x, y)] * (THREADS // 2)
        outcomes = all_at_once(calls)
        for predicted, evaluated in zip(outcomes[::2], outcomes[1::2], strict=True):
            np.testing.assert_array_equal(predicted, expected)
            assert evaluated == expected_result


@pytest.mark.parametrize("engine", ENGINES)
def test_concurrent_trainings_have_the_result_of_successive_ones(blobs, engine: str) -> None:
    for _ in range(20):
        model = new_model(engine)
        fit = functools.partial(model.fit, *blobs, batch_size=20, epochs=2, verbose=0)
        outcomes = all_at_once([fit] * THREADS)
        trained = [outcome for outcome in outcomes if not is_refusal(outcome)]
        assert all(isinstance(outcome, gpunet.History) for outcome in trained), outcomes
        assert model.epochs_trained == 2 * len(trained) > 0
        whole = new_model(engine)
        whole.fit(*blobs, batch_size=20, epochs=2 * len(trained), verbose=0)
        for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def at_random(model: Sequential, twin: Sequential, x: Any, y: Any, dice: random.Random) -> list[Any]:
    """Run one thread's actions; returns its predictions and trainings, and what was refused. twin: its own model."""
    outcomes: list[Any] = []
    for _ in range(60):
        try:
            match dice.choice([*["predict"] * 6, "weights", "state", "fit"]):
                case "predict":
                    outcomes.append(model.predict(x))
                case "weights":
                    twin.set_weights(model.get_weights())
                    outcomes.append(twin.predict(x))
                case "state":
                    assert model.optimizer_state.updates % 3 == 0  # an epoch has three
                case "fit":
                    outcomes.append(model.fit(x, y, batch_size=20, verbose=0))
        except ArgumentError as error:
            outcomes.append(error)
    return outcomes


@pytest.mark.parametrize("engine", ENGINES)
def test_every_prediction_is_made_with_the_weights_of_a_complete_epoch(blobs, engine: str) -> None:
    x, y = blobs
    whole, ends = new_model(engine), [new_model(engine).predict(x).tobytes()]
    predicted = trained = 0
    for seed in range(10):
        model = new_model(engine)
        dices = [random.Random(100 * seed + number) for number in range(THREADS)]
        outcomes = all_at_once([functools.partial(at_random, model, new_model(engine), x, y, dice) for dice in dices])
        while len(ends) <= model.epochs_trained:
            whole.fit(x, y, batch_size=20, verbose=0)
            ends.append(whole.predict(x).tobytes())
        for outcome in (outcome for part in outcomes for outcome in part):  # an exception here is not a list
            if isinstance(outcome, np.ndarray):
                assert outcome.tobytes() in ends
                predicted += 1
            elif isinstance(outcome, gpunet.History):
                trained += 1
            else:
                assert is_refusal(outcome), outcome
        assert model.predict(x).tobytes() == ends[model.epochs_trained]
    assert predicted > 100
    assert trained > 10
