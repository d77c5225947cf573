"""One model used by several threads: what waits, what is refused, and that nothing stays locked."""

from __future__ import annotations

import copy
import pickle
import signal
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gpunet
from gpunet import Adam, ArgumentError, Dense, Sequential, seeds

INTEGER = "sparse_categorical_crossentropy"
REFUSED = "fit is running in another thread; wait until it returns, or use a copy"


def new_model(engine: str = "reference") -> Sequential:
    model = Sequential([Dense(6, "tanh"), Dense(3, "softmax")], seed=0)
    model.compile(Adam(0.02), INTEGER, engine=engine)
    return model


def in_thread(call: Callable[[], Any]) -> Any:
    """Make the call in another thread; returns its result or exception."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=30)
    assert not thread.is_alive(), "it waits for ever"
    return outcome[0]


class Meanwhile(gpunet.Callback):
    """Does something at a given moment of a training, and keeps the outcome."""

    def __init__(self, moment: str, act: Callable[[], Any]) -> None:
        self.outcome: Any = None
        self._act = act
        setattr(self, moment, self._run)

    def _run(self, *_: Any) -> None:
        self.outcome = self._act()


USES: dict[str, Callable[[Sequential, Any, Any], Any]] = {
    "predict": lambda m, x, y: m.predict(x),
    "evaluate": lambda m, x, y: m.evaluate(x, y),
    "get_weights": lambda m, x, y: m.get_weights(),
    "set_weights": lambda m, x, y: m.set_weights(m.network and [np.zeros(s) for s in m.network.weight_shapes]),
    "optimizer_state": lambda m, x, y: m.optimizer_state,
    "saved": lambda m, x, y: m.saved(),
    "load_weights": lambda m, x, y: m.load_weights("none.npz"),
    "compile": lambda m, x, y: m.compile("sgd", INTEGER),
    "copy": lambda m, x, y: copy.deepcopy(m),
    "add": lambda m, x, y: m.add(Dense(3)),
}


@pytest.mark.parametrize("moment", ["on_train_begin", "on_epoch_begin", "on_progress", "on_epoch_end", "on_train_end"])
@pytest.mark.parametrize("use", USES)
def test_while_one_thread_trains_the_others_are_refused(blobs, use: str, moment: str) -> None:
    model, plain = new_model(), new_model()
    meanwhile = Meanwhile(moment, lambda: in_thread(lambda: USES[use](model, *blobs)))
    model.fit(*blobs, epochs=2, verbose=0, callbacks=[meanwhile])
    assert isinstance(meanwhile.outcome, ArgumentError)
    assert str(meanwhile.outcome).startswith(f"{use}: {REFUSED}")
    plain.fit(*blobs, epochs=2, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), plain.get_weights(), strict=True))


def test_a_second_fit_is_refused(blobs) -> None:
    model = new_model()
    meanwhile = Meanwhile("on_epoch_end", lambda: in_thread(lambda: model.fit(*blobs, verbose=0)))
    model.fit(*blobs, epochs=2, verbose=0, callbacks=[meanwhile])
    assert str(meanwhile.outcome) == "fit: already running in another thread; wait until it returns"
    with pytest.raises(ArgumentError, match="fit: already running; a callback cannot call it"):
        model.fit(*blobs, verbose=0, callbacks=[Meanwhile("on_epoch_end", lambda: model.fit(*blobs, verbose=0))])
    assert model.epochs_trained == 3


def test_a_callback_may_use_the_model_between_epochs_and_not_inside_one(blobs) -> None:
    model = new_model()
    for use in ("predict", "evaluate", "get_weights", "optimizer_state", "saved", "copy"):
        for moment in ("on_epoch_begin", "on_epoch_end", "on_train_end"):
            meanwhile = Meanwhile(moment, lambda use=use: USES[use](model, *blobs))
            model.fit(*blobs, verbose=0, callbacks=[meanwhile])
            assert meanwhile.outcome is not None
        with pytest.raises(ArgumentError, match=f"^{use}: not possible during an epoch; call it in on_epoch_end"):
            model.fit(*blobs, verbose=0, callbacks=[Meanwhile("on_progress", lambda use=use: USES[use](model, *blobs))])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("moment", ["on_train_begin", "on_progress", "on_epoch_end", "on_train_end"])
def test_a_failed_training_leaves_the_model_free(blobs, error: type[BaseException], moment: str) -> None:
    model = new_model()

    def fail() -> None:
        raise error

    with pytest.raises(error):
        model.fit(*blobs, verbose=0, callbacks=[Meanwhile(moment, fail)])
    assert isinstance(in_thread(lambda: model.fit(*blobs, verbose=0)), gpunet.History)
    assert model.fit(*blobs, verbose=0).epoch == [0]


def test_a_refused_fit_leaves_the_model_free(blobs) -> None:
    x, y = blobs
    model = new_model()
    with pytest.raises(ArgumentError):
        model.fit(x, y + 9, verbose=0)
    assert in_thread(lambda: model.predict(x)).shape == (60, 3)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interrupts itself by a timer, which Windows lacks")
def test_ctrl_c_at_any_moment_leaves_the_model_free(blobs) -> None:
    """The timer's signal comes at any moment; its delays are seeded, and cover all of a short fit and predict."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    x, y = blobs
    model, interrupted = new_model(), 0
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in np.random.default_rng(0).uniform(1e-5, 1e-3, 10000):
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                model.fit(x, y, verbose=0)
                model.predict(x)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
                assert isinstance(in_thread(lambda: model.predict(x)), np.ndarray)
            if interrupted == 200:
                break
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 200
    assert isinstance(in_thread(lambda: model.fit(x, y, verbose=0)), gpunet.History)


def test_stop_training_may_be_set_by_another_thread(blobs) -> None:
    model = new_model()
    stop = Meanwhile("on_epoch_begin", lambda: in_thread(lambda: setattr(model, "stop_training", True)))
    assert len(model.fit(*blobs, epochs=9, verbose=0, callbacks=[stop]).epoch) == 1


def test_a_copy_has_a_turn_of_its_own(blobs) -> None:
    model = new_model()
    twins: list[Sequential] = []
    copies = Meanwhile("on_epoch_end", lambda: twins.extend([copy.copy(model), pickle.loads(pickle.dumps(model))]))
    model.fit(*blobs, verbose=0, callbacks=[copies])
    for twin in twins:
        meanwhile = Meanwhile("on_epoch_end", lambda: in_thread(lambda: model.predict(blobs[0])))
        twin.fit(*blobs, verbose=0, callbacks=[meanwhile])
        assert meanwhile.outcome.shape == (60, 3)


def test_running_out_of_memory_for_the_initial_weights_leaves_the_model_unbuilt(
    blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, whole = new_model(), new_model()
    draw = seeds._random

    def run_out(seed: int, *key: int) -> Any:
        if key[-1] == 1:
            raise MemoryError("Unable to allocate 1.00 TiB")
        return draw(seed, *key)

    with monkeypatch.context() as context:
        context.setattr(seeds, "_random", run_out)
        with pytest.raises(MemoryError):
            model.predict(blobs[0])
    np.testing.assert_array_equal(model.predict(blobs[0]), whole.predict(blobs[0]))
