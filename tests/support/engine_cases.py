"""What every engine's tests use: problems, and the comparison with the float64 reference, update by update."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gpunet import engines
from gpunet.engines import Engine
from gpunet.engines.cuda.persistent import PersistentEngine
from gpunet.engines.cuda.tiled import TiledEngine
from gpunet.engines.reference import ReferenceEngine
from gpunet.engines.weighted import Weighted
from gpunet.errors import TrainingDivergedError
from gpunet.layers import Network
from gpunet.optimizers import SGD, Adam, AdamW, Optimizer
from support import devices

OPTIMIZERS = {
    "adam": lambda: Adam(0.01, 0.8, 0.95),
    "adamw": lambda: AdamW(0.01, 0.1, 0.8, 0.95),
    "sgd": lambda: SGD(0.1),
    "momentum": lambda: SGD(0.05, 0.9),
    "nesterov": lambda: SGD(0.05, 0.9, nesterov=True),
}
SMALL = Network((20, 16, 12, 10), ("sigmoid", "sigmoid", "softmax"))

# How far weights may be from the float64 reference's, as a share of the largest weight, as root mean square, at worst
# over a run. float32 itself costs about as much: NumPy's float32 engine is measured beside, and an engine may be
# FACTOR times as far. Single weights may be further: where a gradient is nearly 0, Adam divides noise by noise.
FACTOR = 2
LEAST = 2.0**-26  # a quarter of a rounding: what a run of few updates may differ by where NumPy was lucky


def problem(
    network: Network,
    examples: int,
    *,
    input_bytes: bool = False,
    one_hot: bool = False,
    weighted: bool = False,
    seed: int = 0,
):
    """(images, labels, weights) drawn at random, in the engines' form. weighted: some examples count 0, some a lot."""
    rng = np.random.default_rng(seed)
    shape = (examples, network.inputs)
    images = rng.integers(256, size=shape, dtype=np.uint8) if input_bytes else rng.normal(size=shape).astype(np.float32)
    labels = rng.integers(network.classes, size=examples).astype(np.int32)
    targets = np.eye(network.classes, dtype=np.float32)[labels] if one_hot else labels
    if weighted:
        of_examples = rng.exponential(size=examples).astype(np.float32)
        of_examples[::5] = 0
        targets = Weighted(targets, of_examples)
    return images, targets, start(network, seed)


CUDA = ("tiled", "persistent")
KINDS = [
    "compiled",
    *(f"{engine} order-forward" for engine in CUDA),
    *(pytest.param(f"{engine} gpu", marks=pytest.mark.gpu) for engine in CUDA),
]


def make(kind: str, network: Network, optimizer: Optimizer, weights: list[np.ndarray], batch_size: int = 5) -> Engine:
    """kind: an engine and, for GPU engines, where it runs."""
    engine, _, device = kind.partition(" ")
    if engine == "compiled":
        if reason := engines.numba_problem():
            devices.refuse_or_skip("CI", reason)
        from gpunet.engines.cpu.engine import CompiledEngine

        return CompiledEngine(network, optimizer, weights)
    if engine == "tiled":
        return TiledEngine(network, optimizer, weights, devices.open_device(device))
    opened = devices.open_device_that_fits(device, network, batch_size, 4, 48 * 1024)
    return PersistentEngine(network, optimizer, weights, opened)


def start(network: Network, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng([seed, 1])
    scale = [1 / np.sqrt(shape[0]) if len(shape) == 2 else 0.1 for shape in network.weight_shapes]
    return [
        (rng.normal(size=shape) * s).astype(np.float32) for shape, s in zip(network.weight_shapes, scale, strict=True)
    ]


def flat(arrays) -> np.ndarray:
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])


def distance(weights, truth) -> float:
    """Root mean square difference, as a share of the largest weight."""
    difference = flat(weights) - flat(truth)
    return float(np.sqrt(np.mean(difference**2)) / np.abs(flat(truth)).max())


def assert_follows_the_reference(engine, network, optimizer, images, labels, batch_size, epochs) -> None:
    far, plain = distances(engine, network, optimizer, images, labels, batch_size, epochs)
    assert far <= FACTOR * max(plain, LEAST)


def distances(engine, network, optimizer, images, labels, batch_size, epochs) -> tuple[float, float]:
    """Train beside the reference in float64 and float32, an update at a time; the engine's and NumPy's float32's
    greatest distance from float64. The persistent engine builds another kernel for a rest of examples.
    """
    weights = engine.weights
    truth = ReferenceEngine(network, optimizer, weights, np.float64)
    plain = ReferenceEngine(network, optimizer, weights, np.float32)
    uploaded, rng, far, near = (engine.upload(images), engine.upload(labels)), np.random.default_rng(9), 0.0, 0.0
    for _ in range(epochs):
        order = rng.permutation(len(images)).astype(np.int32)
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            key = tuple(int(word) for word in rng.integers(2**32, size=2))
            statistics = engine.train_epoch(*uploaded, batch, batch_size=len(batch), key=key)
            expected = truth.train_epoch(images, labels, batch, len(batch), key=key)
            plain.train_epoch(images, labels, batch, len(batch), key=key)
            assert statistics.loss == pytest.approx(expected.loss, rel=1e-5, abs=1e-6)
            far = max(far, distance(engine.weights, truth.weights))
            near = max(near, distance(plain.weights, truth.weights))
    return far, near


def assert_epochs_report_what_the_reference_reports(engine, images, labels, weights, batch_size) -> None:
    """Three epochs of SMALL over 150 examples with Adam(0.01), then evaluate and predict."""
    reference = ReferenceEngine(SMALL, Adam(0.01), weights, np.float64)
    uploaded, rng = (engine.upload(images), engine.upload(labels)), np.random.default_rng(2)
    seen: list[int] = []
    for _ in range(3):
        order = rng.permutation(150).astype(np.int32)
        statistics = engine.train_epoch(*uploaded, order, batch_size, seen.append)
        expected = reference.train_epoch(images, labels, order, batch_size)
        assert statistics.updates == expected.updates == seen[-1] == -(-150 // batch_size)
        assert statistics.accuracy == pytest.approx(expected.accuracy)
        assert statistics.loss == pytest.approx(expected.loss, rel=1e-5)
    assert engine.evaluate(*uploaded) == pytest.approx(reference.evaluate(images, labels), rel=1e-5)
    np.testing.assert_allclose(engine.predict(uploaded[0]), reference.predict(images), atol=1e-5)


def assert_is_clean(kind: str, network: Network, arrays: tuple, batch_size: int) -> None:
    """An epoch over ten examples in some order, under some sanitizer, as `make` takes it: as in float64.

    arrays: images, labels and weights, as from `problem`.
    """
    images, labels, weights = arrays
    trained = make(kind, network, Adam(0.01), weights)
    truth = ReferenceEngine(network, Adam(0.01), weights, np.float64)
    order = np.arange(10, dtype=np.int32)
    trained.train_epoch(trained.upload(images), trained.upload(labels), order, batch_size)
    truth.train_epoch(images, labels, order, batch_size)
    assert distance(trained.weights, truth.weights) < 1e-6


def assert_same_bits(one: Engine, other: Engine) -> None:
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)


Make = Callable[[Optimizer, list[np.ndarray]], Engine]  # an engine for SMALL that starts from these weights


def assert_rates_may_change(make: Make) -> None:
    images, labels, weights = problem(SMALL, 30)
    for optimizer in (Adam(0.01), SGD(0.05, 0.9)):
        engine, truth = make(optimizer, weights), ReferenceEngine(SMALL, optimizer, weights, np.float64)
        uploaded, order = (engine.upload(images), engine.upload(labels)), np.arange(30, dtype=np.int32)
        for rate in (0.01, 0.002):
            optimizer.learning_rate = rate
            engine.train_epoch(*uploaded, order, 5)
            truth.train_epoch(images, labels, order, 5)
        assert distance(engine.weights, truth.weights) < 1e-5


def assert_nan_undoes_the_epoch(make: Make) -> None:
    """And the error names the update that met it."""
    images, labels, weights = problem(SMALL, 40)
    images[23] = np.nan
    engine = make(Adam(), weights)
    with pytest.raises(TrainingDivergedError, match="at update 5;"):
        engine.train_epoch(engine.upload(images), engine.upload(labels), np.arange(40, dtype=np.int32), 5)
    for one, other in zip(engine.weights, weights, strict=True):
        np.testing.assert_array_equal(one, other)
    state = engine.optimizer_state
    assert state.updates == 0
    assert not any(array.any() for slot in state.slots.values() for array in slot)
