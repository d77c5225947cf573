"""Ctrl-C between any two lines of a training: weights, optimizer and count of epochs stay consistent."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from gpunet import Adam, Dense, Sequential, epoch_loop, interruption
from gpunet.engines import base
from gpunet.interruption import Interruption

WATCHED = {epoch_loop.__file__, base.__file__}
EPOCHS = 2


def new_model() -> Sequential:
    model = Sequential([Dense(4, "tanh"), Dense(3, "softmax")], seed=0)
    model.compile(Adam(0.02), "sparse_categorical_crossentropy", engine="reference")
    return model


def interrupted_at(number: int, run: Callable[[], Any]) -> int:
    """Run with Ctrl-C at one of the moments before, between and after lines of WATCHED; returns how many there were."""
    moments = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal moments
        if frame.f_code.co_filename not in WATCHED:
            return None
        if event in ("call", "line", "return"):
            moments += 1
            if moments == number:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return moments


def test_training_after_ctrl_c_at_any_moment_ends_with_the_same_bits(blobs) -> None:
    x, y = blobs
    whole = new_model()
    whole.fit(x, y, 20, EPOCHS, 0)
    counted = new_model()
    moments = interrupted_at(0, lambda: counted.fit(x, y, 20, EPOCHS, 0))
    assert moments > 100
    for number in range(1, moments + 1):
        model = new_model()
        with pytest.raises(KeyboardInterrupt):
            interrupted_at(number, lambda model=model: model.fit(x, y, 20, EPOCHS, 0))
        session, done = model._session, model.epochs_trained
        if session.engine is not None:
            assert session.engine.optimizer_state.updates == 3 * done, number
        if done < EPOCHS:
            model.fit(x, y, 20, EPOCHS, 0, initial_epoch=done)
        for one, other in zip(model.get_weights(), whole.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"moment {number}")


@pytest.fixture
def _signals_are_put_back():
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals_are_put_back")
def test_a_signal_with_a_foreign_handler_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a program that embeds Python, `getsignal` may return None."""
    known, foreign = signal.getsignal, interruption.SIGNALS[-1]
    before = {number: known(number) for number in interruption.SIGNALS}
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == foreign else known(number))
    with Interruption().catching():
        assert known(foreign) == before[foreign]
        assert known(signal.SIGINT) != before[signal.SIGINT]
    assert {number: known(number) for number in interruption.SIGNALS} == before


@pytest.mark.usefixtures("_signals_are_put_back")
def test_ctrl_c_while_handlers_are_being_set_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {number: signal.getsignal(number) for number in interruption.SIGNALS}
    put, calls = signal.signal, list[int]()

    def interrupted(number: int, handler: Any) -> Any:
        calls.append(number)
        if len(calls) == 1:
            put(number, handler)
            raise KeyboardInterrupt
        return put(number, handler)

    monkeypatch.setattr(signal, "signal", interrupted)
    with pytest.raises(KeyboardInterrupt), Interruption().catching():
        pytest.fail("no time for it")
    monkeypatch.undo()
    assert {number: signal.getsignal(number) for number in interruption.SIGNALS} == before
