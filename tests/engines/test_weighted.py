"""Examples' weights on every engine: against float64, update by update, and against what they mean."""

from __future__ import annotations

import numpy as np
import pytest

from gpunet.engines.reference import ReferenceEngine, softmax_cross_entropy
from gpunet.engines.weighted import Weighted
from gpunet.layers import Network
from gpunet.optimizers import SGD, Adam
from support.devices import EMULATED
from support.engine_cases import (
    CUDA,
    KINDS,
    SMALL,
    assert_epochs_report_what_the_reference_reports,
    assert_follows_the_reference,
    assert_is_clean,
    assert_same_bits,
    distance,
    make,
    problem,
)

MANY_CLASSES = Network((9, 8, 7, 40), ("sigmoid", "tanh", "softmax"))  # more than a warp has lanes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("network", "one_hot", "batch_size"),
    [(SMALL, False, 1), (SMALL, False, 5), (SMALL, True, 5), (MANY_CLASSES, False, 5)],
    ids=["one-by-one", "integer", "one-hot", "many-classes"],
)
def test_weights_follow_the_reference_update_by_update(kind, network, one_hot, batch_size) -> None:
    images, labels, weights = problem(network, 10, input_bytes=True, one_hot=one_hot, weighted=True)
    engine = make(kind, network, Adam(0.01), weights)
    assert_follows_the_reference(engine, network, Adam(0.01), images, labels, batch_size, epochs=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("one_hot", [False, True], ids=["integer", "one-hot"])
def test_whole_epochs_report_weighted_losses_and_accuracy_without_weights(kind, one_hot) -> None:
    images, labels, weights = problem(SMALL, 150, input_bytes=True, one_hot=one_hot, weighted=True)
    engine = make(kind, SMALL, Adam(0.01), weights)
    assert_epochs_report_what_the_reference_reports(engine, images, labels, weights, 5)


@pytest.mark.parametrize("kind", ["reference", *KINDS])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_weights_of_1_give_the_bits_of_no_weights(kind, batch_size) -> None:
    images, labels, weights = problem(SMALL, 10, input_bytes=True)
    trained = []
    for targets in (labels, Weighted(labels, np.ones(10, np.float32))):
        engine = (
            ReferenceEngine(SMALL, Adam(0.01), weights)
            if kind == "reference"
            else make(kind, SMALL, Adam(0.01), weights)
        )
        engine.train_epoch(engine.upload(images), engine.upload(targets), np.arange(10, dtype=np.int32), batch_size)
        trained.append(engine)
    assert_same_bits(*trained)


@pytest.mark.parametrize("engine", CUDA)
@pytest.mark.parametrize("kind", EMULATED)
def test_a_weighted_training_is_clean_in_every_order_and_under_sanitizers(kind, engine) -> None:
    network = Network((9, 7, 3), ("sigmoid", "softmax"))
    assert_is_clean(f"{engine} {kind}", network, problem(network, 10, input_bytes=True, weighted=True), 4)


def test_a_whole_weight_is_an_example_so_many_times() -> None:
    """The reference itself: with plain steps, weights of 0, 1 and 3 act like leaving out and repeating examples."""
    images, labels, weights = problem(SMALL, 10)
    counts = np.array([0, 1, 3, 1, 0, 3, 1, 1, 0, 0])
    weighted, repeated = (ReferenceEngine(SMALL, SGD(0.1), weights, np.float64) for _ in range(2))
    weighted.train_epoch(images, Weighted(labels, counts.astype(np.float32)), np.arange(10, dtype=np.int32), 10)
    repeated.train_epoch(images, labels, np.repeat(np.arange(10, dtype=np.int32), counts), 10)
    assert distance(weighted.weights, repeated.weights) < 1e-14


def test_an_example_of_weight_0_changes_no_gradient_and_counts_in_the_accuracy() -> None:
    logits = np.array([[2.0, 1.0], [0.0, 3.0]])
    losses, correct, dz = softmax_cross_entropy(logits, Weighted(np.array([1, 1]), np.array([0.0, 1.0])))
    assert losses[0] == 0
    assert losses[1] > 0
    assert correct == 1
    assert not dz[0].any()
    assert dz[1].any()
