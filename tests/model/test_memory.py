"""Data that is large, read-only or mapped from a file is used in place."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunet
from gpunet import SGD, ArgumentError, Dense, Sequential
from gpunet.arrays import as_images, as_targets, as_weights

INTEGER, ONE_HOT = "sparse_categorical_crossentropy", "categorical_crossentropy"
EXAMPLES, INPUTS = 40_000, 256  # 41 MB of floats, 10 MB of bytes
without_numba = pytest.mark.skipif(gpunet.engines.numba_problem() is not None, reason="needs Numba; pip install numba")


def peak(call: Callable[[], Any]) -> int:
    """The most bytes that a call uses in addition, at any moment."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.fixture(params=["read-only", "mapped"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[type], np.ndarray]:
    def make(kind: type) -> np.ndarray:
        x = np.random.default_rng(0).integers(256, size=(EXAMPLES, INPUTS), dtype=np.uint8).astype(kind)
        if request.param == "mapped":
            np.save(tmp_path / "x.npy", x)
            return np.load(tmp_path / "x.npy", mmap_mode="r")
        x.flags.writeable = False
        return x

    return make


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("engine", ["reference", pytest.param("compiled", marks=without_numba)])
def test_read_only_examples_are_not_copied(data, engine: str, kind: type) -> None:
    x, y = data(kind), np.arange(EXAMPLES, dtype=np.int32) % 2
    model, plain = (Sequential([Dense(2, "softmax", input_dim=INPUTS)], seed=0) for _ in range(2))
    for each in (model, plain):
        each.compile(SGD(1e-7), INTEGER, engine=engine)
        each.predict(x[:1])  # what the first use creates does not count
    uses: dict[str, Callable[[], Any]] = {
        "predict": lambda: model.predict(x),
        "evaluate": lambda: model.evaluate(x, y),
        "fit": lambda: model.fit(x, y, batch_size=500, verbose=0, validation_split=0.1),
    }
    for name, use in uses.items():
        assert peak(use) < 0.5 * x.nbytes, name  # labels, order, losses and blocks are some of it
    plain.fit(x.copy(), y, batch_size=500, verbose=0, validation_split=0.1)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), plain.get_weights(), strict=True))


def test_checks_copy_no_part_of_the_data() -> None:
    x = np.random.default_rng(0).normal(size=(EXAMPLES, INPUTS)).astype(np.float32)
    one_hot = gpunet.to_categorical(np.arange(EXAMPLES) % INPUTS)
    assert peak(lambda: as_images("x", x, INPUTS)) < 0.01 * x.nbytes
    assert peak(lambda: as_targets("y", one_hot, ONE_HOT, INPUTS, EXAMPLES)) < 0.1 * one_hot.nbytes
    assert peak(lambda: as_weights([x], [x.shape])) < 1.01 * x.nbytes  # a copy, as it says


@pytest.mark.parametrize("row", [0, 4095, 4096, 4097, EXAMPLES - 1])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_the_first_bad_example_is_named_wherever_it_is(row: int, wrong: float) -> None:
    x = np.zeros((EXAMPLES, INPUTS), np.float32)
    x[row, 7] = x[-1, 3] = wrong
    with pytest.raises(ArgumentError, match=f"^x: example {row} has NaN or infinite values"):
        as_images("x", x, INPUTS)
    one_hot = gpunet.to_categorical(np.arange(EXAMPLES) % INPUTS)
    one_hot[row, 7] = one_hot[-1, 3] = wrong
    with pytest.raises(ArgumentError, match=rf"^y: target {row} is \["):
        as_targets("y", one_hot, ONE_HOT, INPUTS, EXAMPLES)
