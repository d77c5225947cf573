"""The reference itself: gradients against finite differences, optimizer steps against values worked out by hand."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gpunet import to_categorical
from gpunet.engines import reference
from gpunet.engines.cuda.sources import source_folder
from gpunet.engines.reference import ReferenceEngine, activate, activation_derivative, softmax, softmax_cross_entropy
from gpunet.errors import TrainingDivergedError
from gpunet.layers import HIDDEN_ACTIVATIONS, Network
from gpunet.optimizers import RULES, SGD, Adam, AdamW

SHAPES = [(1, 2), (1, 10), (3, 7), (100, 10)]


def random_engine(network: Network, optimizer: Adam | SGD | None = None, dtype=np.float64, seed=0) -> ReferenceEngine:
    rng = np.random.default_rng(seed)
    weights = [rng.normal(scale=0.5, size=shape) for shape in network.weight_shapes]
    return ReferenceEngine(network, optimizer or SGD(), weights, dtype)


def finite_differences(engine: ReferenceEngine, x: np.ndarray, y: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """d(mean loss)/d(weights) as one vector, by central differences."""
    weights = engine._weights_vector
    differences = np.empty_like(weights)
    for i, weight in enumerate(weights.copy()):
        weights[i] = weight + step
        above = engine.evaluate(x, y)[0]
        weights[i] = weight - step
        below = engine.evaluate(x, y)[0]
        weights[i] = weight
        differences[i] = (above - below) / (2 * step)
    return differences


@pytest.mark.parametrize("targets", ["integer", "one-hot", "soft"])
@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_gradients_agree_with_finite_differences(activation: str, targets: str) -> None:
    network = Network((5, 4, 6, 3), (activation, activation, "softmax"))
    engine = random_engine(network)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(7, 5))
    labels = rng.integers(3, size=7)
    y = {"integer": labels, "one-hot": np.eye(3)[labels], "soft": rng.dirichlet(np.ones(3), size=7)}[targets]
    engine.gradients(x, y)
    gradients = engine._gradients_vector.copy()
    # The differences' own error: rounding 2^-53 * |loss| / step = 1e-10, curvature step^2.
    np.testing.assert_allclose(gradients, finite_differences(engine, x, y), rtol=0, atol=2e-9)
    assert np.abs(gradients).max() > 1e-2


@pytest.mark.parametrize("batch", [1, 4])
def test_gradients_of_layers_that_differ(batch: int) -> None:
    """Two different activations, and a batch of one: nothing may be taken from the wrong layer."""
    engine = random_engine(Network((4, 3, 5, 3), ("tanh", "sigmoid", "softmax")))
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(batch, 4)), rng.integers(3, size=batch)
    engine.gradients(x, y)
    gradients = engine._gradients_vector.copy()
    np.testing.assert_allclose(gradients, finite_differences(engine, x, y), rtol=0, atol=2e-9)


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_activations_in_float32_are_correct_far_from_zero(activation: str) -> None:
    z = np.array([-200, -90, -20, -1e-4, 1e-4, 20, 90, 200])
    wide = activate(z.copy(), activation)
    narrow = activate(z.astype(np.float32), activation)
    np.testing.assert_allclose(narrow, wide, rtol=1e-6, atol=1e-37)
    slopes = activation_derivative(narrow, activation)
    np.testing.assert_allclose(slopes, activation_derivative(narrow.astype(float), activation), rtol=1e-5, atol=1e-37)


def test_float64_is_float64_from_the_input_on() -> None:
    engine = random_engine(Network((3, 2), ("softmax",)))
    x = np.array([[0.1, 0.2, 0.3]])  # none of them a float32
    logits = x.astype(np.longdouble) @ engine.weights[0].astype(np.longdouble) + engine.weights[1]
    expected = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(engine.predict(x), expected.astype(float), rtol=1e-14)


def test_an_order_may_be_shorter_than_the_examples() -> None:
    engine, twin = random_engine(Network((3, 2), ("softmax",))), random_engine(Network((3, 2), ("softmax",)))
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(20, 3)), rng.integers(2, size=20)
    part = engine.train_epoch(x, y, np.array([7, 3, 11], np.int32), 2)
    whole = twin.train_epoch(x[[7, 3, 11]], y[[7, 3, 11]], np.arange(3, dtype=np.int32), 2)
    assert (part.loss, part.accuracy, part.updates) == (whole.loss, whole.accuracy, 2)


def test_getters_return_copies() -> None:
    engine = random_engine(Network((3, 2), ("softmax",)), Adam())
    for array in (*engine.weights, *engine.optimizer_state.slots["m"]):
        array += 1
    assert engine.weights[0][0, 0] == random_engine(Network((3, 2), ("softmax",))).weights[0][0, 0]
    assert not engine.optimizer_state.slots["m"][0].any()


def test_one_hot_loss_of_enormous_logits_is_the_integer_one() -> None:
    logits = np.array([[3e38, -3e38]], np.float32)
    for targets in (np.array([0]), np.array([[1, 0]], np.float32)):
        with np.errstate(over="ignore"):
            losses, correct, dz = softmax_cross_entropy(logits, targets)
        assert (losses[0], correct, dz.tolist()) == (0, 1, [[0, 0]])


@pytest.mark.parametrize("activation", HIDDEN_ACTIVATIONS)
def test_activation_formulas(activation: str) -> None:
    z = np.array([-200.0, -3.0, -1.0, -0.25, 0.0, 0.5, 1.0, 2.0, 4.0, 200.0])
    with np.errstate(over="ignore"):
        expected = {
            "linear": z,
            "sigmoid": 1 / (1 + np.exp(-z)),
            "tanh": np.expm1(2 * np.minimum(z, 300)) / (np.expm1(2 * np.minimum(z, 300)) + 2),
            "relu": np.where(z > 0, z, 0),
            "softplus": np.where(z > 30, z, np.log1p(np.exp(np.minimum(z, 30)))),
            "softsign": z / (1 + np.abs(z)),
            "hard_sigmoid": np.where(z < -2.5, 0, np.where(z > 2.5, 1, 0.2 * z + 0.5)),
        }[activation]
    np.testing.assert_allclose(activate(z.copy(), activation), expected, rtol=1e-14, atol=1e-300)
    assert np.isfinite(activation_derivative(activate(z.copy(), activation), activation)).all()


@pytest.mark.parametrize(("batch", "classes"), SHAPES)
@pytest.mark.parametrize("spread", [1, 50, 1e6], ids=["mild", "exp-overflows-unshifted", "huge"])
def test_softmax_cross_entropy_follows_its_definition(batch: int, classes: int, spread: float) -> None:
    rng = np.random.default_rng(2)
    logits = rng.normal(scale=spread, size=(batch, classes))
    labels = rng.integers(classes, size=batch)
    losses, correct, dz = softmax_cross_entropy(logits, labels)
    wide = logits.astype(np.longdouble)
    exponentials = np.exp(wide - wide.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    expected = np.log(exponentials.sum(axis=1)) - (wide - wide.max(axis=1, keepdims=True))[np.arange(batch), labels]
    np.testing.assert_allclose(losses, expected.astype(float), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(dz, ((probabilities - np.eye(classes)[labels]) / batch).astype(float), atol=1e-15)
    assert correct == sum(np.argmax(row) == label for row, label in zip(logits, labels, strict=True))
    np.testing.assert_allclose(softmax(logits), probabilities.astype(float), atol=1e-15)


def test_integer_and_one_hot_targets_give_the_same_bits() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(9, 5)).astype(np.float32)
    labels = rng.integers(5, size=9)
    for one, other in zip(
        softmax_cross_entropy(logits, labels), softmax_cross_entropy(logits, to_categorical(labels, 5)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def one_weight_engine(optimizer: Adam | SGD) -> tuple[ReferenceEngine, np.ndarray]:
    """An engine and its vector of weights, to be fed gradients by hand."""
    engine = random_engine(Network((1, 2), ("softmax",)), optimizer)
    engine._weights_vector[:] = 1
    return engine, engine._weights_vector


def feed(engine: ReferenceEngine, gradient: float, monkeypatch: pytest.MonkeyPatch) -> None:
    def gradients(images: object, labels: object, first: int) -> tuple[np.ndarray, int]:
        engine._gradients_vector[:] = gradient
        return np.zeros(1), 0

    monkeypatch.setattr(engine, "gradients", gradients)
    engine.update(np.zeros((1, 1)), np.zeros(1, int))


def test_adam_steps_agree_with_algorithm_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, from the paper's lines, alpha 0.1, beta 0.9 and 0.999, epsilon 0.01, gradients 0.5 and then -0.2.

    t=1: m=0.05, v=0.00025, m_hat=0.5, v_hat=0.25: step 0.1*0.5/0.51.
    t=2: m=0.025, v=0.00028975, m_hat=0.025/0.19, v_hat=0.00028975/0.001999: step 0.1*0.131578947/0.390719679.
    """
    engine, weights = one_weight_engine(Adam(0.1, epsilon=0.01))
    feed(engine, 0.5, monkeypatch)
    np.testing.assert_allclose(weights, 1 - 0.09803921568627451, rtol=1e-14)
    feed(engine, -0.2, monkeypatch)
    np.testing.assert_allclose(weights, 1 - 0.09803921568627451 - 0.03367604764, rtol=1e-9)
    state = engine.optimizer_state
    assert state.updates == 2
    np.testing.assert_allclose(np.concatenate([a.ravel() for a in state.slots["m"]]), 0.025, rtol=1e-14)
    np.testing.assert_allclose(np.concatenate([a.ravel() for a in state.slots["v"]]), 0.00028975, rtol=1e-14)


def test_adam_accepts_other_betas(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand, with beta 0.8 and 0.95, gradients 0.5 and -0.2.

    t=1: m=0.1, v=0.0125, m_hat=0.5, v_hat=0.25: step 0.1*0.5/0.51.
    t=2: m=0.04, v=0.013875, m_hat=0.04/0.36, v_hat=0.013875/0.0975: step 0.1*0.111111/(0.377237+0.01).
    """
    engine, weights = one_weight_engine(Adam(0.1, 0.8, 0.95, epsilon=0.01))
    feed(engine, 0.5, monkeypatch)
    feed(engine, -0.2, monkeypatch)
    second = 0.1 * (0.04 / 0.36) / ((0.013875 / 0.0975) ** 0.5 + 0.01)
    np.testing.assert_allclose(weights, 1 - 0.05 / 0.51 - second, rtol=1e-12)


def test_momentum_keeps_the_step_not_the_gradient_when_the_rate_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, weights = one_weight_engine(SGD(0.1, momentum=0.9))
    feed(engine, 0.5, monkeypatch)  # velocity -0.05
    engine.optimizer.learning_rate = 0.01
    feed(engine, -0.2, monkeypatch)  # velocity -0.045 + 0.002
    np.testing.assert_allclose(weights, 1 - 0.05 - 0.043, rtol=1e-14)


def test_sgd_and_momentum_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, weights = one_weight_engine(SGD(0.1))
    feed(engine, 0.5, monkeypatch)
    feed(engine, -0.2, monkeypatch)
    np.testing.assert_allclose(weights, 1 - 0.05 + 0.02, rtol=1e-14)
    engine, weights = one_weight_engine(SGD(0.1, momentum=0.9))
    feed(engine, 0.5, monkeypatch)  # velocity -0.05
    feed(engine, -0.2, monkeypatch)  # velocity -0.045 + 0.02
    np.testing.assert_allclose(weights, 1 - 0.05 - 0.025, rtol=1e-14)


def test_adamw_decays_the_weight_before_adams_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of Adam's test, with 0.1 * 0.5 of the weight taken away before each step."""
    engine, weights = one_weight_engine(AdamW(0.1, 0.5, 0.8, 0.95, epsilon=0.01))
    feed(engine, 0.5, monkeypatch)
    np.testing.assert_allclose(weights, 0.95 - 0.05 / 0.51, rtol=1e-12)
    feed(engine, -0.2, monkeypatch)
    second = 0.1 * (0.04 / 0.36) / ((0.013875 / 0.0975) ** 0.5 + 0.01)
    np.testing.assert_allclose(weights, 0.95 * (0.95 - 0.05 / 0.51) - second, rtol=1e-12)


def test_nesterov_looks_a_step_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, weights = one_weight_engine(SGD(0.1, momentum=0.9, nesterov=True))
    feed(engine, 0.5, monkeypatch)  # velocity -0.05
    np.testing.assert_allclose(weights, 1 - 0.045 - 0.05, rtol=1e-14)
    feed(engine, -0.2, monkeypatch)  # velocity -0.045 + 0.02
    np.testing.assert_allclose(weights, 1 - 0.045 - 0.05 - 0.0225 + 0.02, rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["AdamW", "SGD"])
def test_adamw_and_nesterov_step_as_pytorchs(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch", reason="compares with PyTorch's optimizers; pip install torch")
    ours = AdamW(0.01, 0.3) if optimizer == "AdamW" else SGD(0.01, 0.9, nesterov=True)
    engine, weights = one_weight_engine(ours)
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    options = {"weight_decay": 0.3} if optimizer == "AdamW" else {"momentum": 0.9, "nesterov": True}
    theirs = getattr(torch.optim, optimizer)([weight], lr=0.01, **options)
    for gradient in (0.5, -0.2, 0.1, 0.7):
        feed(engine, gradient, monkeypatch)
        weight.grad = torch.full((1,), gradient, dtype=torch.float64)
        theirs.step()
        np.testing.assert_allclose(weights[:1], weight.detach().numpy(), rtol=1e-12)


def test_every_engine_knows_every_rule() -> None:
    """By name: an optimizer whose rule an engine lacks would fail during training."""
    assert set(reference.STEPS) == set(RULES)
    text = (source_folder() / "optimizer.cuh").read_text()
    for rule, optimizer in RULES.items():
        (slots, constants) = re.search(rf"struct {rule} {{.*?SLOTS = (\d), CONSTANTS = (\d);", text, re.DOTALL).groups()
        assert int(slots) == len(optimizer.slots)
        assert int(constants) == optimizer.constants(np.ones(1, np.int64)).shape[1]


@pytest.mark.parametrize("optimizer", RULES.values(), ids=RULES)
def test_blocks_of_the_optimizer_do_not_change_the_result(optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network((6, 5, 3), ("tanh", "softmax"))
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(20, 6)).astype(np.float32), rng.integers(3, size=20)
    ends = []
    for size in (1, 7, 10**6):
        monkeypatch.setattr("gpunet.engines.reference.OPTIMIZER_BLOCK", size)
        engine = random_engine(network, optimizer, np.float32)
        engine.train_epoch(x, y, np.arange(20, dtype=np.int32), 3)
        ends.append(engine._weights_vector.copy())
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[0], ends[2])


def test_uint8_images_are_scaled_as_bytes() -> None:
    engine = random_engine(Network((4, 3), ("softmax",)))
    images = np.array([[0, 51, 102, 255], [1, 2, 3, 4]], np.uint8)
    np.testing.assert_allclose(engine.predict(images), engine.predict(images / 255), rtol=1e-12)


def test_epoch_statistics_weigh_every_example_alike_with_a_short_last_batch() -> None:
    network = Network((6, 3), ("softmax",))
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(10, 6)), rng.integers(3, size=10)
    order = rng.permutation(10).astype(np.int32)
    engine, twin = random_engine(network, SGD(0.5)), random_engine(network, SGD(0.5))
    statistics = engine.train_epoch(x, y, order, 4)
    total, correct = 0.0, 0.0
    for batch in (order[:4], order[4:8], order[8:]):
        loss, accuracy = twin.evaluate(x[batch], y[batch])
        total, correct = total + loss * len(batch), correct + accuracy * len(batch)
        twin.update(x[batch], y[batch])
    assert statistics.updates == 3
    assert statistics.loss == pytest.approx(total / 10, rel=1e-12)
    assert statistics.accuracy == pytest.approx(correct / 10)
    np.testing.assert_array_equal(engine._weights_vector, twin._weights_vector)


def test_state_moved_to_another_engine_continues_the_same_run() -> None:
    network = Network((6, 5, 3), ("sigmoid", "softmax"))
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(12, 6)).astype(np.float32), rng.integers(3, size=12)
    order = np.arange(12, dtype=np.int32)
    staying = random_engine(network, Adam(0.01), np.float32)
    staying.train_epoch(x, y, order, 5)
    moved = ReferenceEngine(network, Adam(0.01), staying.weights)
    moved.optimizer_state = staying.optimizer_state
    for engine in (staying, moved):
        engine.train_epoch(x, y, order, 5)
    np.testing.assert_array_equal(staying._weights_vector, moved._weights_vector)


def test_infinite_loss_stops_with_the_number_of_the_update() -> None:
    engine = random_engine(Network((2, 2), ("softmax",)), SGD(1e30), np.float32)
    x = np.array([[1, 2], [2, 1]], np.float32)
    with pytest.raises(TrainingDivergedError, match=r"update [23]") as caught:
        engine.train_epoch(np.tile(x, (10, 1)) * 1e8, np.array([0, 1] * 10), np.arange(20, dtype=np.int32), 1)
    assert caught.value.update in (2, 3)
