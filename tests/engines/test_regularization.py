"""Penalties on every engine: against float64, update by update, and against what they mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gpunet.engines.reference import ReferenceEngine
from gpunet.layers import Network
from gpunet.optimizers import SGD, Adam
from support.devices import EMULATED
from support.engine_cases import (
    CUDA,
    KINDS,
    OPTIMIZERS,
    assert_follows_the_reference,
    assert_is_clean,
    make,
    problem,
)

PENALIZED = Network((20, 16, 12, 10), ("sigmoid", "tanh", "softmax"), l2=(0.02, 0.0, 0.05))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_weights_with_a_penalty_follow_the_reference_update_by_update(kind, batch_size) -> None:
    images, labels, weights = problem(PENALIZED, 10, input_bytes=True)
    images[:, :3] = 0  # their gradients are the penalty's alone
    engine = make(kind, PENALIZED, Adam(0.01), weights)
    assert_follows_the_reference(engine, PENALIZED, Adam(0.01), images, labels, batch_size, epochs=1)


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_every_optimizer_takes_a_penalty(kind, optimizer, batch_size) -> None:
    images, labels, weights = problem(PENALIZED, 10, input_bytes=True)
    engine = make(kind, PENALIZED, OPTIMIZERS[optimizer](), weights)
    assert_follows_the_reference(engine, PENALIZED, OPTIMIZERS[optimizer](), images, labels, batch_size, epochs=1)


@pytest.mark.parametrize("engine", CUDA)
@pytest.mark.parametrize("kind", EMULATED)
def test_a_training_with_a_penalty_is_clean_in_every_order_and_under_sanitizers(kind, engine) -> None:
    network = Network((9, 7, 3), ("sigmoid", "softmax"), l2=(0.02, 0.05))
    assert_is_clean(f"{engine} {kind}", network, problem(network, 10, input_bytes=True), 5)


def test_the_penalty_pulls_weights_and_leaves_biases_alone() -> None:
    """The reference itself: with plain steps, rate * 2 l2 w is subtracted from every weight besides its other step."""
    images, labels, weights = problem(PENALIZED, 10)
    with_penalty = ReferenceEngine(PENALIZED, SGD(0.1), weights, np.float64)
    without = ReferenceEngine(replace(PENALIZED, l2=()), SGD(0.1), weights, np.float64)
    for engine in (with_penalty, without):
        engine.train_epoch(images, labels, np.arange(10, dtype=np.int32), 10)
    for number, (one, other) in enumerate(zip(with_penalty.weights, without.weights, strict=True)):
        pull = 0.1 * 2 * PENALIZED.l2[number // 2] * weights[number].astype(np.float64) if number % 2 == 0 else 0
        np.testing.assert_allclose(one, other - pull, rtol=0, atol=1e-15)
