"""Layers without biases: the input whose weight would be the bias is 0, in every engine; biases stay 0 exactly."""

from __future__ import annotations

import numpy as np
import pytest

from gpunet import engines
from gpunet.engines import Engine
from gpunet.engines.cuda.persistent import PersistentEngine
from gpunet.engines.cuda.tiled import TiledEngine
from gpunet.engines.reference import ReferenceEngine
from gpunet.layers import Network
from support.devices import PLAIN, open_device, open_device_that_fits
from support.engine_cases import OPTIMIZERS, assert_follows_the_reference, problem

NETWORKS = [
    Network((20, 16, 12, 10), ("sigmoid", "relu", "softmax"), (False, True, False)),
    Network((21, 9, 5), ("tanh", "softmax"), (True, False)),
    Network((33, 40, 3), ("sigmoid", "softmax"), (False, False)),
]


def start(network: Network) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    images, labels, weights = problem(network, 23, input_bytes=network.inputs == 20)
    for bias, present in zip(weights[1::2], network.biases, strict=True):
        bias *= present
    return images, labels, weights


def assert_only_present_biases_moved(engine: Engine) -> None:
    slots = engine.optimizer_state.slots.values()
    for layer, present in enumerate(engine.network.biases):
        for arrays in (engine.weights, *slots):
            assert arrays[2 * layer + 1].any() == present


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_the_reference_has_the_gradients_of_the_others(network: Network, optimizer: str) -> None:
    """Finite differences cannot test absent biases: the weights' gradients are those with zero biases."""
    images, labels, weights = start(network)
    whole = ReferenceEngine(Network(network.widths, network.activations), OPTIMIZERS[optimizer](), weights, np.float64)
    without = ReferenceEngine(network, OPTIMIZERS[optimizer](), weights, np.float64)
    for engine in (whole, without):
        engine.update(images, labels)
    for place, (mine, others) in enumerate(zip(without.weights, whole.weights, strict=True)):
        if network.present[place]:
            np.testing.assert_array_equal(mine, others)
    without.update(images, labels)
    assert_only_present_biases_moved(without)


@pytest.mark.parametrize("batch_size", [1, 5])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS, ids=str)
@pytest.mark.skipif(engines.numba_problem() is not None, reason="needs Numba: pip install numba")
def test_the_compiled_engine_follows_the_reference(network: Network, optimizer: str, batch_size: int) -> None:
    from gpunet.engines.cpu.engine import CompiledEngine

    images, labels, weights = start(network)
    engine, rule = CompiledEngine(network, OPTIMIZERS[optimizer](), weights), OPTIMIZERS[optimizer]()
    assert_follows_the_reference(engine, network, rule, images, labels, batch_size, epochs=2)
    assert_only_present_biases_moved(engine)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize(
    ("network", "optimizer", "batch_size"), [(NETWORKS[0], "adam", 12), (NETWORKS[1], "nesterov", 1)], ids=str
)
def test_the_tiled_engine_follows_the_reference(kind: str, network: Network, optimizer: str, batch_size: int) -> None:
    images, labels, weights = start(network)
    rule = OPTIMIZERS[optimizer]()
    engine = TiledEngine(network, rule, weights, open_device(kind))
    assert_follows_the_reference(engine, network, rule, images, labels, batch_size, epochs=1)
    assert_only_present_biases_moved(engine)


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize(
    ("network", "optimizer", "batch_size"), [(NETWORKS[0], "adam", 5), (NETWORKS[2], "momentum", 1)], ids=str
)
def test_the_persistent_engine_follows_the_reference(
    kind: str, network: Network, optimizer: str, batch_size: int
) -> None:
    images, labels, weights = start(network)
    rule = OPTIMIZERS[optimizer]()
    engine = PersistentEngine(network, rule, weights, open_device_that_fits(kind, network, batch_size))
    assert_follows_the_reference(engine, network, rule, images, labels, batch_size, epochs=1)
    assert_only_present_biases_moved(engine)
