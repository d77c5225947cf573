"""Dropout: its random numbers against published ones, and every engine against float64 with the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from gpunet.engines import dropout
from gpunet.engines.reference import ReferenceEngine
from gpunet.layers import HIDDEN_ACTIVATIONS, Network
from gpunet.optimizers import SGD, Adam
from support.devices import EMULATED
from support.engine_cases import CUDA, KINDS, assert_follows_the_reference, assert_same_bits, distance, make, problem

KEY = (0xA4093822, 0x299F31D0)
DROPPING = Network((20, 18, 35, 10), ("sigmoid", "tanh", "softmax"), dropout=(0.2, 0.5, 0.0))


def test_philox_gives_the_published_words() -> None:
    """The known answers of Random123, the library of the paper's authors."""
    known = {
        ((0, 0, 0, 0), (0, 0)): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), KEY): (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    }
    for (counter, key), words in known.items():
        assert tuple(map(int, dropout.philox(tuple(map(np.uint64, counter)), key))) == words


def test_a_units_factor_depends_on_key_layer_position_and_unit_alone() -> None:
    network = Network((3, 30, 30, 2), ("relu", "relu", "softmax"), dropout=(0.5, 0.5, 0.0))
    whole = dropout.factors(network, KEY, 0, 0, (40, 30))
    np.testing.assert_array_equal(whole[7:20], dropout.factors(network, KEY, 0, 7, (13, 30)))
    np.testing.assert_array_equal(whole[:, :9], dropout.factors(network, KEY, 0, 0, (40, 9)))
    others = dropout.factors(network, KEY, 1, 0, (40, 30)), dropout.factors(network, (KEY[0], 0), 0, 0, (40, 30))
    for other in (*others, dropout.factors(network, KEY, 0, 1, (40, 30))):
        assert 0.4 < np.mean(whole == other) < 0.6


def test_the_share_that_is_dropped_is_the_rate_and_the_mean_stays() -> None:
    network = Network((3, 100, 2), ("relu", "softmax"), dropout=(0.3, 0.0))
    factors = dropout.factors(network, KEY, 0, 0, (1000, 100))
    assert set(np.unique(factors)) == {np.float32(0), np.float32(1 / 0.7)}
    assert np.mean(factors == 0) == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / 1e5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 5])
def test_weights_follow_the_reference_update_by_update(kind, batch_size) -> None:
    images, labels, weights = problem(DROPPING, 10, input_bytes=True)
    engine = make(kind, DROPPING, Adam(0.01), weights)
    assert_follows_the_reference(engine, DROPPING, Adam(0.01), images, labels, batch_size, epochs=1)


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_every_activation_can_be_dropped(kind, activation) -> None:
    network = Network((20, 18, 10), (activation, "softmax"), dropout=(0.4, 0.0))
    images, labels, weights = problem(network, 10, input_bytes=True)
    weights[0] *= 4  # far into where activations are flat
    engine = make(kind, network, SGD(0.1), weights)
    assert_follows_the_reference(engine, network, SGD(0.1), images, labels, 5, epochs=2)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_epochs_with_a_short_last_batch_drop_what_the_reference_drops(kind) -> None:
    images, labels, weights = problem(DROPPING, 23, input_bytes=True)
    order = np.random.default_rng(0).permutation(23).astype(np.int32)
    engine, truth = (
        make(kind, DROPPING, Adam(0.01), weights),
        ReferenceEngine(DROPPING, Adam(0.01), weights, np.float64),
    )
    uploaded = engine.upload(images), engine.upload(labels)
    for key in ((1, 2), (3, 4)):
        loss = engine.train_epoch(*uploaded, order, 5, key=key).loss
        assert loss == pytest.approx(truth.train_epoch(images, labels, order, 5, key=key).loss, rel=1e-5)
    assert distance(engine.weights, truth.weights) < 2e-6
    assert engine.evaluate(*uploaded) == pytest.approx(truth.evaluate(images, labels), rel=1e-5)  # drops nothing
    np.testing.assert_allclose(engine.predict(uploaded[0]), truth.predict(images), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_compiled_engine_gives_the_same_bits_with_any_number_of_threads(batch_size, monkeypatch) -> None:
    make("compiled", DROPPING, Adam(0.01), problem(DROPPING, 2)[2])  # or skip, where there is no Numba
    from gpunet.engines.cpu import engine as compiled

    monkeypatch.setattr(compiled, "WORK_OF_A_THREAD", 1)
    images, labels, weights = problem(DROPPING, 23)
    engines = [compiled.CompiledEngine(DROPPING, Adam(0.01), weights, threads) for threads in (1, 2, 3)]
    for engine in engines:
        engine.train_epoch(images, labels, np.arange(23, dtype=np.int32), batch_size, key=KEY)
        assert_same_bits(engine, engines[0])


@pytest.mark.parametrize("engine", CUDA)
@pytest.mark.parametrize("kind", EMULATED)
def test_a_training_with_dropout_is_clean_in_every_order_and_under_sanitizers(kind, engine) -> None:
    network = Network((9, 7, 3), ("sigmoid", "softmax"), dropout=(0.3, 0.0))
    images, labels, weights = problem(network, 10, input_bytes=True)
    trained, truth = (
        make(f"{engine} {kind}", network, Adam(0.01), weights),
        ReferenceEngine(network, Adam(0.01), weights, np.float64),
    )
    order = np.arange(10, dtype=np.int32)
    trained.train_epoch(trained.upload(images), trained.upload(labels), order, 5, key=KEY)
    truth.train_epoch(images, labels, order, 5, key=KEY)
    assert distance(trained.weights, truth.weights) < 1e-6


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_gradients_with_dropout_agree_with_finite_differences(activation) -> None:
    """The yardstick itself. The loss with the same units dropped is that of the epoch's statistics."""
    network = Network((5, 6, 4, 3), (activation, activation, "softmax"), dropout=(0.4, 0.3, 0.0))
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(7, 5)), rng.integers(3, size=7)
    engine = ReferenceEngine(network, SGD(), [rng.normal(size=s) for s in network.weight_shapes], np.float64)
    engine._key = KEY
    engine.gradients(x, y)
    gradients, weights = engine._gradients_vector.copy(), engine._weights_vector
    differences = np.empty_like(weights)
    for i, weight in enumerate(weights.copy()):
        losses = []
        for step in (1e-6, -1e-6):
            weights[i] = weight + step
            losses.append(engine.gradients(x, y)[0].mean())
        weights[i] = weight
        differences[i] = (losses[0] - losses[1]) / 2e-6
    np.testing.assert_allclose(gradients, differences, rtol=0, atol=2e-9)
    assert np.abs(gradients).max() > 1e-2
