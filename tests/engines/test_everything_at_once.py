"""What layers and examples can have, together: penalties, dropout, layers without biases and weights of examples."""

from __future__ import annotations

import numpy as np
import pytest

from gpunet import AdamW
from gpunet.engines.reference import ReferenceEngine
from gpunet.layers import Network
from support.engine_cases import FACTOR, KINDS, LEAST, distance, make, problem

NETWORK = Network(
    (21, 16, 13, 10),
    ("sigmoid", "tanh", "softmax"),
    biases=(False, True, False),
    l2=(0.01, 0.0, 0.03),
    dropout=(0.2, 0.4, 0.0),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_whole_epochs_with_everything_follow_the_reference(kind, batch_size) -> None:
    images, targets, weights = problem(NETWORK, 23, one_hot=True, weighted=True)
    for bias, present in zip(weights[1::2], NETWORK.biases, strict=True):
        bias *= present
    engine = make(kind, NETWORK, AdamW(0.01), weights, batch_size)
    truth, plain = (ReferenceEngine(NETWORK, AdamW(0.01), weights, dtype) for dtype in (np.float64, np.float32))
    uploaded, rng = (engine.upload(images), engine.upload(targets)), np.random.default_rng(3)
    for key in ((1, 2), (2**32 - 1, 7)):
        order = rng.permutation(23).astype(np.int32)
        loss = engine.train_epoch(*uploaded, order, batch_size, key=key).loss
        assert loss == pytest.approx(truth.train_epoch(images, targets, order, batch_size, key=key).loss, rel=1e-5)
        plain.train_epoch(images, targets, order, batch_size, key=key)
    assert distance(engine.weights, truth.weights) <= 2 * FACTOR * max(distance(plain.weights, truth.weights), LEAST)
