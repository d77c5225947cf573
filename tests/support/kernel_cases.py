"""One launch of one operation: arguments made at random, run on a device, with the truth in float64 beside it.

Error bounds are derived, not guessed. U is float32's unit roundoff. A sum of k products of float32 numbers, in any
order, is off by at most gamma(k) times the sum of the products' magnitudes (Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., section 3.1), plus what is lost where denormal numbers are flushed to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpunet.engines import reference
from gpunet.engines.cuda.configuration import padded
from gpunet.engines.cuda.device import Array, Device
from gpunet.engines.cuda.engine import pad_columns
from gpunet.engines.cuda.tiled_launches import Batches, DeviceLayer, Launches
from gpunet.optimizers import SGD, Adam, AdamW, Optimizer

U = 2.0**-24
SMALLEST = 2.0**-126
ACTIVATION_ROUNDINGS = 8  # of an activation or its derivative: exp, log or tanh (2 ulp each), and a few sums
Floats = NDArray[np.floating]


def gamma(terms: int) -> float:
    return terms * U / (1 - terms * U)


def sum_bound(terms: int, magnitudes: Floats) -> Floats:
    """The most by which a float32 sum may be off; magnitudes: the sums of its terms' magnitudes, in float64."""
    return gamma(terms) * magnitudes + (terms + 1) * SMALLEST


def assert_within(got: Floats, truth: Floats, bound: Floats, what: str) -> None:
    excess = np.abs(got - truth) - bound
    worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
    ok = bool((excess <= 0).all())  # written so that NaN fails
    assert ok, f"{what}{list(map(int, worst))}: got {got[worst]}, expected {truth[worst]} +- {bound[worst]:.3g}"


@dataclass
class Case:
    """A batch within an epoch: the second of two, which may be smaller, in a shuffled order."""

    batch: int
    inputs: int
    units: int
    rows: int  # of the batch that is looked at: batch, or fewer
    gather: bool
    input_bytes: bool
    rng: np.random.Generator

    @classmethod
    def of(cls, batch: int, inputs: int, units: int, *, input_bytes: bool = False, gather: bool = False, seed: int = 0):
        rng = np.random.default_rng([seed, batch, inputs, units])
        rows = batch if seed % 2 == 0 or batch == 1 else int(rng.integers(1, batch))
        return cls(batch, inputs, units, rows, gather or input_bytes, input_bytes, rng)

    def __post_init__(self) -> None:
        self.examples = self.batch + self.rows
        self.order = self.rng.permutation(self.examples).astype(np.int32)
        shape = (self.examples if self.gather else self.batch, self.inputs)
        self.x = (
            self.rng.integers(256, size=shape, dtype=np.uint8)
            if self.input_bytes
            else self.rng.normal(size=shape).astype(np.float32)
        )
        self.weights = (self.rng.normal(size=(self.inputs, self.units)) / np.sqrt(self.inputs)).astype(np.float32)
        self.bias = self.rng.normal(size=self.units).astype(np.float32)

    @property
    def picked(self) -> NDArray[np.intp]:
        """Which examples the batch holds."""
        return self.order[self.batch :] if self.gather else np.arange(self.rows)

    @property
    def batch_x(self) -> Floats:
        """The batch's input in float64."""
        x = self.x[self.picked].astype(np.float64)
        return x / 255 if self.input_bytes else x

    def batches(self, device: Device) -> Batches:
        """With the cursors at the second batch of two."""
        return Batches(
            device.upload(self.order), self.gather, device.upload(np.ones(2, np.int32)), self.batch, self.examples
        )

    def layer(self, device: Device, activation: str = "linear", state: Floats | None = None) -> DeviceLayer:
        joined = pad_columns(np.vstack([self.weights, self.bias]))
        if state is None:
            state = np.zeros((1, *joined.shape), np.float32)
        return DeviceLayer(self.inputs, self.units, activation, device.upload(joined), device.upload(state))

    def upper(self, units: int) -> Case:
        """The case of the layer above, with this many units: the same batch, with the rows of its input in place."""
        return Case(self.batch, self.units, units, self.rows, False, False, self.rng)

    def zeros(self, device: Device, columns: int) -> Array:
        return device.zeros((self.batch, padded(columns)), np.float32)

    def result(self, device: Device, array: Array, columns: int) -> Floats:
        """The batch's rows of a result. Checks that padding and rows beyond the batch were not touched."""
        values = device.download(array)
        assert not values[:, columns:].any(), "padding must stay 0"
        assert not values[self.rows :].any(), "rows beyond the batch must stay untouched"
        return values[: self.rows, :columns]


def run_twice(launches: Launches, result: Array) -> Array:
    """The result of the second of two runs, which must find the split's counters in the same state as the first."""
    launches.run()
    first = launches.device.download(result)
    launches.device.write(result, np.zeros(result.shape, np.float32))
    launches.run()
    np.testing.assert_array_equal(launches.device.download(result), first)
    return result


def dense_forward(device: Device, case: Case, activation: str) -> Floats:
    """y (rows, units), checked against float64."""
    launches, y = Launches(device), case.zeros(device, case.units)
    layer, x = case.layer(device, activation), device.upload(pad_columns(case.x))
    launches.dense_forward(layer, x, y, case.batches(device), case.gather)
    got = case.result(device, run_twice(launches, y), case.units)

    wide, bias = case.weights.astype(np.float64), case.bias.astype(np.float64)
    truth = reference.dense_forward(case.batch_x, wide, bias, activation)
    magnitudes = np.abs(case.batch_x) @ np.abs(wide) + np.abs(bias)
    # Every activation's slope is at most 1, so z's error bounds y's; hard_sigmoid's own terms may be larger than y.
    own = np.abs(truth) + (0.2 * magnitudes + 0.5 if activation == "hard_sigmoid" else 0)
    bound = sum_bound(case.inputs + 3, magnitudes) + ACTIVATION_ROUNDINGS * (U * own + SMALLEST)
    assert_within(got, truth, bound, "y")
    return got


def softmax_cross_entropy(device: Device, case: Case, kind: str, spread: float) -> tuple[Floats, Floats, Floats]:
    """(losses, correct, dz) of logits (rows, units), compared with float64. kind: integer, one-hot or soft targets."""
    classes, rng = case.units, case.rng
    logits = (rng.normal(size=(case.batch, classes)) * spread).astype(np.float32)
    labels = rng.integers(classes, size=case.examples).astype(np.int32)
    if spread == 0:
        labels %= 2  # with equal logits the guess is class 0: right for one half
    targets = labels if kind == "integer" else np.eye(classes, dtype=np.float32)[labels]
    if kind == "soft":
        targets = rng.dirichlet(np.ones(classes), size=case.examples).astype(np.float32)
    case.gather = True
    launches, batches = Launches(device), case.batches(device)
    losses, correct = device.zeros(case.examples, np.float32), device.zeros(case.examples, np.uint8)
    dz = device.upload(pad_columns(np.zeros((case.batch, classes), np.float32)))
    launches.softmax_cross_entropy(
        device.upload(pad_columns(logits)), device.upload(pad_columns(targets)), dz, losses, correct, classes, batches
    )
    launches.run()

    picked = targets[case.order[case.batch :]]
    wide_targets = picked if kind == "integer" else picked.astype(np.float64)
    wide = logits[: case.rows].astype(np.float64)
    true_losses, _, true_dz = reference.softmax_cross_entropy(wide, wide_targets)
    got_losses, got_correct = device.download(losses)[case.batch :], device.download(correct)[case.batch :]
    assert not device.download(losses)[: case.batch].any(), "other examples' losses must stay untouched"
    # exp(d) of a rounded d <= 0 is off by |d| U exp(d) <= U / e, and by 2 ulp; so the sum, at least 1, is off by less
    # than (2 classes + 3) U of itself, and so are the probabilities and the logarithm; the rest is a few roundings.
    shares = (2 * classes + 8) * U
    distance = (wide.max(axis=1, keepdims=True) - wide).max(axis=1)
    assert_within(got_losses, true_losses, shares + 4 * U * (true_losses + distance), "loss")
    got_dz = case.result(device, dz, classes)
    scale = 1 / case.rows
    assert_within(got_dz, true_dz, scale * (shares + 4 * U) + np.zeros_like(true_dz), "dz")
    target_classes = picked if kind == "integer" else picked.argmax(axis=1)
    np.testing.assert_array_equal(got_correct, logits[: case.rows].argmax(axis=1) == target_classes)
    assert device.download(batches.cursors).tolist() == [1, 1]
    return got_losses, got_correct, got_dz


class WayBack:
    """The backward pass through a case's layer, for any kernel that computes it: its arrays, and the check."""

    def __init__(self, device: Device, case: Case, activation: str) -> None:
        self.case, self.activation, self.device = case, activation, device
        self.dz = case.rng.normal(size=(case.batch, case.units)).astype(np.float32)
        outputs = reference.activate(case.rng.normal(size=(case.batch, case.inputs)), activation)
        self.y_previous = outputs.astype(np.float32)
        self.layer, self.dz_previous = case.layer(device), case.zeros(device, case.inputs)
        self.on_device_dz = device.upload(pad_columns(self.dz))
        self.on_device_y = device.upload(pad_columns(self.y_previous))

    def check(self) -> Floats:
        """dz_previous (rows, inputs), checked against float64."""
        case = self.case
        got = case.result(self.device, self.dz_previous, case.inputs)
        dz, y = (a[: case.rows].astype(np.float64) for a in (self.dz, self.y_previous))
        weights = case.weights.astype(np.float64)
        truth = reference.dense_backward(dz, weights, y, self.activation)
        magnitudes = np.abs(dz) @ np.abs(weights).T  # derivatives are at most 1, and made of numbers of at most 1
        bound = sum_bound(case.units + 1, magnitudes) + ACTIVATION_ROUNDINGS * (U * magnitudes + SMALLEST)
        assert_within(got, truth, bound, "dz_previous")
        return got


def dense_backward(device: Device, case: Case, activation: str) -> Floats:
    """dz_previous (rows, inputs), checked against float64."""
    way, launches = WayBack(device, case, activation), Launches(device)
    launches.dense_backward(
        way.layer, activation, way.on_device_dz, way.on_device_y, way.dz_previous, case.batches(device)
    )
    run_twice(launches, way.dz_previous)
    return way.check()


def dense_output(
    device: Device, case: Case, activation: str, kind: str, first_layer: bool = False
) -> tuple[Floats, Floats, Floats]:
    """(losses, dz, dz_previous) of a case's layer as the last one, checked against float64. kind: of targets."""
    classes, rng = case.units, case.rng
    gathers_x = case.gather
    labels = rng.integers(classes, size=case.examples).astype(np.int32)
    targets = labels if kind == "integer" else rng.dirichlet(np.ones(classes), size=case.examples).astype(np.float32)
    x = case.x if first_layer else reference.activate(case.x, activation).astype(np.float32)
    assert gathers_x == first_layer
    case.gather = True  # targets always are
    layer, batches, launches = case.layer(device), case.batches(device), Launches(device)
    losses, correct = device.zeros(case.examples, np.float32), device.zeros(case.examples, np.uint8)
    dz, dz_previous = case.zeros(device, classes), case.zeros(device, case.inputs)
    device.write(batches.cursors, np.array([1, 0], np.int32))
    launches.dense_output(
        layer, activation, device.upload(pad_columns(x)), device.upload(pad_columns(targets)), dz, dz_previous, losses,
        correct, batches, first_layer,
    )  # fmt: skip
    launches.run()
    assert device.download(batches.cursors).tolist() == [1, 1]

    wide_x = case.batch_x if first_layer else x[: case.rows].astype(np.float64)
    weights, picked = case.weights.astype(np.float64), targets[case.order[case.batch :]]
    logits = reference.dense_forward(wide_x, weights, case.bias.astype(np.float64), "linear")
    magnitudes = np.abs(wide_x) @ np.abs(weights) + np.abs(case.bias.astype(np.float64))
    off = sum_bound(case.inputs + 3, magnitudes).max(axis=1)  # of each row's logits
    true_losses, _, true_dz = reference.softmax_cross_entropy(
        logits, picked if kind == "integer" else picked.astype(np.float64)
    )
    # As in softmax_cross_entropy; and logits that are off by `off` change probabilities and losses by twice that.
    shares = (2 * classes + 8) * U
    distance = (logits.max(axis=1, keepdims=True) - logits).max(axis=1)
    got_losses, got_correct = device.download(losses)[case.batch :], device.download(correct)[case.batch :]
    assert not device.download(losses)[: case.batch].any(), "other examples' losses must stay untouched"
    assert_within(got_losses, true_losses, shares + 4 * U * (true_losses + distance) + 2 * off, "loss")
    got_dz = case.result(device, dz, classes)
    dz_bound = (shares + 4 * U + 2 * off[:, np.newaxis]) / case.rows + np.zeros_like(true_dz)
    assert_within(got_dz, true_dz, dz_bound, "dz")
    ordered = np.sort(logits, axis=1)
    clear = np.ones(case.rows, bool) if classes == 1 else ordered[:, -1] - ordered[:, -2] > 2 * off
    target_classes = picked if kind == "integer" else picked.argmax(axis=1)
    np.testing.assert_array_equal(got_correct[clear], (logits.argmax(axis=1) == target_classes)[clear])
    if first_layer:
        assert not device.download(dz_previous).any(), "images have no gradient"
        return got_losses, got_dz, np.zeros((0, 0))
    # From the dz that the kernel used, whose own error is accounted for above.
    got = case.result(device, dz_previous, case.inputs)
    wide_dz = got_dz.astype(np.float64)
    truth = reference.dense_backward(wide_dz, weights, wide_x, activation)
    sizes = np.abs(wide_dz) @ np.abs(weights).T
    bound = sum_bound(classes + 1, sizes) + ACTIVATION_ROUNDINGS * (U * sizes + SMALLEST)
    assert_within(got, truth, bound, "dz_previous")
    return got_losses, got_dz, got


class Step:
    """An optimizer step of a case's weights, for any kernel that makes one: its arrays, and the check of its result."""

    def __init__(self, device: Device, case: Case, optimizer: Optimizer, update: int = 7) -> None:
        self.case, self.optimizer, self.update, self.device = case, optimizer, update, device
        shape = (case.inputs + 1, case.units)
        self.dz = case.rng.normal(size=(case.batch, case.units)).astype(np.float32) / np.float32(case.rows)
        self.before = [case.rng.normal(size=shape).astype(np.float32) * np.float32(0.01) for _ in optimizer.slots]
        if "v" in optimizer.slots:
            self.before[1] = np.abs(self.before[1])
        constants = pad_columns(optimizer.constants(np.array([update])))
        state = np.stack([pad_columns(slot) for slot in self.before]) if self.before else None
        self.layer = case.layer(device, state=state)
        self.x, self.on_device_dz = device.upload(pad_columns(case.x)), device.upload(pad_columns(self.dz))
        # The batch is the second update of the epoch.
        self.constants = device.upload(np.concatenate([np.full_like(constants, np.nan), constants]))

    def check(self) -> Floats:
        """The weights (inputs + 1, units), checked against float64; so is the optimizer's state."""
        case, optimizer = self.case, self.optimizer
        got, got_state = self.device.download(self.layer.weights), self.device.download(self.layer.state)
        assert not got[:, case.units :].any(), "padding must stay 0"
        assert not got_state[..., case.units :].any(), "padding must stay 0"
        got = got[:, : case.units]

        x = np.hstack([case.batch_x, np.ones((case.rows, 1))])
        wide_dz = self.dz[: case.rows].astype(np.float64)
        g, g_bound = x.T @ wide_dz, sum_bound(case.rows + 2, np.abs(x).T @ np.abs(wide_dz))
        w = np.vstack([case.weights, case.bias]).astype(np.float64)
        slots = [slot.astype(np.float64) for slot in self.before]
        after = [values[:, : case.units].astype(np.float64) for values in got_state]
        step, step_bound = STEPS[optimizer.rule](optimizer, self.update, g, g_bound, slots, after)
        if isinstance(optimizer, AdamW):
            step = step + optimizer.learning_rate * optimizer.weight_decay * w
        assert_within(got, w - step, step_bound + 8 * U * (np.abs(w) + np.abs(step)) + SMALLEST, "weights")
        return got


def dense_update(device: Device, case: Case, optimizer: Optimizer, update: int = 7) -> Floats:
    """The weights (inputs + 1, units) after a step, checked against float64; so is the optimizer's state."""
    step, batches, launches = Step(device, case, optimizer, update), case.batches(device), Launches(device)
    launches.dense_update(
        step.layer, optimizer.rule, step.x, step.on_device_dz, step.constants, batches, case.gather,
        last_of_update=True,
    )  # fmt: skip
    launches.run()
    assert device.download(batches.cursors).tolist() == [2, 1]
    return step.check()


def dense_update_pair(device: Device, case: Case, units: int, optimizer: Optimizer) -> tuple[Floats, Floats]:
    """The weights of a case's layer and of a second one with this many units, each checked against float64."""
    assert case.gather
    second = case.upper(units)
    first_step, second_step = Step(device, case, optimizer), Step(device, second, optimizer)
    batches, launches = case.batches(device), Launches(device)
    launches.dense_update_pair(
        first_step.layer, second_step.layer, optimizer.rule, first_step.x, first_step.on_device_dz, second_step.x,
        second_step.on_device_dz, first_step.constants, batches,
    )  # fmt: skip
    assert len(launches) == 1
    launches.run()
    assert device.download(batches.cursors).tolist() == [2, 1]
    return first_step.check(), second_step.check()


def dense_backward_update(
    device: Device, case: Case, units: int, activation: str, optimizer: Optimizer
) -> tuple[Floats, Floats]:
    """dz_previous (rows, inputs) of a case's layer, and the weights of one above it, each checked against float64."""
    way, step = WayBack(device, case, activation), Step(device, case.upper(units), optimizer)
    batches, launches = case.batches(device), Launches(device)
    launches.dense_backward_update(
        way.layer, step.layer, activation, optimizer.rule, way.on_device_dz, way.on_device_y, way.dz_previous, step.x,
        step.on_device_dz, step.constants, batches,
    )  # fmt: skip
    assert len(launches) == 1
    launches.run()
    assert device.download(batches.cursors).tolist() == [1, 1]
    return way.check(), step.check()


# For each rule: checks the slots after the step against those before it, and returns (step, bound of its error) of what
# is subtracted from the weights. The slots' own error is covered by their check: the step starts from their values.


def _adam(adam: Adam, update: int, g: Floats, g_bound: Floats, before: list[Floats], after: list[Floats]):
    rest_1, rest_2 = 1 - adam.beta_1, 1 - adam.beta_2
    _check_slot(after[0], before[0], adam.beta_1, rest_1 * g, rest_1 * g_bound, "m")
    square_bound = 2 * np.abs(g) * g_bound + g_bound**2
    _check_slot(after[1], before[1], adam.beta_2, rest_2 * g * g, rest_2 * square_bound, "v")
    alpha, epsilon = (float(size) for size in adam.step_sizes(np.array(float(update))))
    step = alpha * after[0] / (np.sqrt(after[1]) + epsilon)
    return step, np.zeros_like(step)


def _momentum(sgd: SGD, update: int, g: Floats, g_bound: Floats, before: list[Floats], after: list[Floats]):
    rate = sgd.learning_rate
    _check_slot(after[0], before[0], sgd.momentum, -rate * g, rate * g_bound, "velocity")
    return -after[0], np.zeros_like(g)


def _nesterov(sgd: SGD, update: int, g: Floats, g_bound: Floats, before: list[Floats], after: list[Floats]):
    _momentum(sgd, update, g, g_bound, before, after)
    return sgd.learning_rate * g - sgd.momentum * after[0], sgd.learning_rate * g_bound


def _sgd(sgd: SGD, update: int, g: Floats, g_bound: Floats, before: list[Floats], after: list[Floats]):
    return sgd.learning_rate * g, sgd.learning_rate * g_bound


STEPS = {"adam": _adam, "adamw": _adam, "momentum": _momentum, "nesterov": _nesterov, "sgd": _sgd}


def _check_slot(got: Floats, before: Floats, keep: float, added: Floats, added_bound: Floats, name: str) -> None:
    truth = keep * before + added
    assert_within(got, truth, added_bound + 6 * U * (np.abs(keep * before) + np.abs(added)) + SMALLEST, name)
