"""gpunet.sklearn.MLPClassifier: scikit-learn's own checks, and the tools that it is made for."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

from conftest import command_environment

pytest.importorskip("sklearn", reason="tests the scikit-learn classifier; pip install scikit-learn")

from sklearn.base import clone
from sklearn.ensemble import AdaBoostClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.neural_network import MLPClassifier as Original
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import gpunet
from gpunet.sklearn import MLPClassifier

ESTIMATORS = [
    MLPClassifier(max_iter=100),
    MLPClassifier((), solver="sgd", learning_rate_init=0.1, batch_size=20),
    MLPClassifier(10, "logistic", learning_rate_init=0.05, early_stopping=True, validation_fraction=0.3),
]


def expected_failures(estimator: MLPClassifier) -> dict[str, str]:
    """scikit-learn asks this of its own classifier only with a solver that uses all examples at once, in float64."""
    return {"check_sample_weight_equivalence_on_dense_data": "repeated examples come in other batches"}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_scikit_learn_takes_it_for_one_of_its_own(estimator, check) -> None:
    check(estimator)


def quick(**arguments) -> MLPClassifier:
    return MLPClassifier(**{"hidden_layer_sizes": 8, "learning_rate_init": 0.02, "random_state": 0, **arguments})


def test_parameters_have_the_names_and_defaults_of_scikit_learn() -> None:
    ours, theirs = MLPClassifier().get_params(), Original().get_params()
    assert ours.keys() - theirs.keys() == {"device", "engine"}
    assert theirs.keys() - ours.keys() <= {"loss"}  # of newer versions
    assert {name: theirs[name] for name in ours.keys() & theirs.keys()} == {
        name: ours[name] for name in ours.keys() & theirs.keys()
    }


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_default_of_scikit_learn_is_accepted_when_written_out(blobs) -> None:
    theirs = Original().get_params()
    theirs.pop("loss", None)
    classifier = MLPClassifier(**theirs | {"max_iter": 1}).fit(*blobs)
    assert classifier.model_.network.l2 == (0.0001 / 120, 0.0001 / 120)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_alpha_is_scikit_learns(blobs) -> None:
    """From the same weights, with all examples in one batch: the same loss before the step, the same weights after."""
    x, y = blobs
    arguments = {"solver": "sgd", "alpha": 3.0, "batch_size": 60, "max_iter": 1, "warm_start": True, "tol": 0}
    ours, theirs = quick(**arguments).fit(x, y), Original(8, learning_rate_init=0.02, **arguments, random_state=0)
    theirs.fit(x, y)
    theirs.coefs_ = [coef.astype(np.float64) for coef in ours.coefs_]
    theirs.intercepts_ = [intercept.astype(np.float64) for intercept in ours.intercepts_]
    theirs._optimizer = None
    del theirs._optimizer
    ours.model_.compile(ours.model_.optimizer, "sparse_categorical_crossentropy")
    before = ours.model_.evaluate(x, y)[0]
    ours.fit(x, y)
    theirs.fit(x, y)
    assert theirs.loss_ == pytest.approx(before, rel=1e-5)
    for one, other in zip(ours.coefs_ + ours.intercepts_, theirs.coefs_ + theirs.intercepts_, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_alpha_may_change_at_a_warm_start(blobs) -> None:
    kept, other = (quick(max_iter=2, warm_start=True).fit(*blobs) for _ in range(2))
    kept.fit(*blobs)
    other.set_params(alpha=50.0).fit(*blobs)
    assert np.abs(other.coefs_[0]).sum() < np.abs(kept.coefs_[0]).sum()
    assert other.model_.epochs_trained == kept.model_.epochs_trained == 4
    assert other.model_.optimizer_state.updates == kept.model_.optimizer_state.updates


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_weights_of_examples_count_by_their_proportions(blobs) -> None:
    """scikit-learn divides a batch's loss by the sum of its weights: with all examples in one batch, the same."""
    x, y = blobs
    weights = np.where(y == 0, 3.0, 1.0) * np.arange(60)
    one, tiny, plain = (
        quick(max_iter=4, batch_size=60).fit(x, y, sample_weight=w) for w in (weights, weights / weights.sum(), None)
    )
    np.testing.assert_allclose(one.coefs_[0], tiny.coefs_[0], atol=1e-6)
    assert not np.allclose(one.coefs_[0], plain.coefs_[0], atol=1e-4)
    counts = np.arange(60) // 7 % 3
    counted = quick(solver="sgd", max_iter=4, batch_size=60).fit(x, y, sample_weight=counts)
    repeated = quick(solver="sgd", max_iter=4, batch_size=200).fit(np.repeat(x, counts, axis=0), np.repeat(y, counts))
    np.testing.assert_allclose(counted.coefs_[0], repeated.coefs_[0], atol=1e-6)
    theirs = Original(8, learning_rate_init=0.02, alpha=0, batch_size=60, max_iter=1, random_state=0, shuffle=False)
    theirs.fit(x, y)
    ours = quick(batch_size=60, max_iter=1, shuffle=False, alpha=0)
    ours.fit(x, y)
    ours.model_.set_weights([a for pair in zip(theirs.coefs_, theirs.intercepts_, strict=True) for a in pair])
    theirs.set_params(warm_start=True)
    theirs.fit(x, y, sample_weight=weights)
    ours.set_params(warm_start=True).fit(x, y, sample_weight=weights)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-5)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_early_stopping_scores_by_weights(blobs) -> None:
    x, y = blobs
    scored, plain = (
        quick(max_iter=1, early_stopping=True, validation_fraction=0.4, learning_rate_init=1e-9).fit(x, y, weights)
        for weights in (np.where(y == 0, 1.0, 1e-9), None)
    )
    _, held = train_test_split(np.arange(60), test_size=0.4, random_state=scored.model_.seed, stratify=y)
    right = scored.predict(x[held]) == y[held]
    assert plain.validation_scores_ == [right.mean()]
    assert scored.validation_scores_ == [pytest.approx(right[y[held] == 0].mean(), abs=1e-6)]
    assert scored.validation_scores_ != plain.validation_scores_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_can_be_boosted(blobs) -> None:
    x, y = blobs
    boosted = AdaBoostClassifier(quick(max_iter=20), n_estimators=3, random_state=0).fit(x, y)
    assert boosted.score(x, y) > 0.9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_pipeline_grid_search_and_cross_validation(blobs) -> None:
    x, y = blobs
    names = np.array(["a", "b", "c"])[y]
    assert make_pipeline(StandardScaler(), quick()).fit(x * 1000, names).score(x * 1000, names) > 0.95
    assert cross_val_score(quick(max_iter=100), x, names, cv=3).min() > 0.9
    search = GridSearchCV(
        quick(max_iter=100), {"activation": ["relu", "tanh"], "hidden_layer_sizes": [4, (4, 4)]}, cv=2
    )
    search.fit(x, names)
    assert search.best_score_ > 0.9
    assert set(search.predict(x)) <= set(names)


def test_it_is_the_gpunet_model_that_was_trained(blobs) -> None:
    x, y = blobs
    classifier = quick(max_iter=3, batch_size=20, tol=0, n_iter_no_change=99)
    with pytest.warns(ConvergenceWarning, match="did not converge in 3 epochs"):
        classifier.fit(x, y)
    l2 = gpunet.L2(0.0001 / 40)
    layers = [gpunet.Dense(8, "relu", kernel_regularizer=l2), gpunet.Dense(3, "softmax", kernel_regularizer=l2)]
    model = gpunet.Sequential(layers, seed=classifier.model_.seed)
    model.compile(gpunet.Adam(0.02), "sparse_categorical_crossentropy")
    history = model.fit(x, y, 20, 3, verbose=0)
    np.testing.assert_array_equal(classifier.predict_proba(x), model.predict(x))
    assert classifier.loss_curve_ == history.history["loss"]
    assert (classifier.n_iter_, classifier.t_, classifier.n_layers_, classifier.n_outputs_) == (3, 180, 3, 3)
    assert [w.shape for w in classifier.coefs_] == [(8, 8), (8, 3)]
    np.testing.assert_array_equal(classifier.intercepts_[1], model.get_weights()[3])


@pytest.mark.parametrize("early_stopping", [False, True])
def test_training_ends_as_in_scikit_learn(blobs, early_stopping: bool) -> None:
    """The rule is tried on the curve that came out: one more epoch than n_iter_no_change without an improvement."""
    x, y = blobs
    classifier = quick(tol=1e-2, n_iter_no_change=4, early_stopping=early_stopping, max_iter=2000).fit(x, y)
    values = classifier.validation_scores_ if early_stopping else [-loss for loss in classifier.loss_curve_]
    best, waited = -np.inf, 0
    for epoch, value in enumerate(values):
        assert waited <= 4, epoch
        waited = waited + 1 if value < best + 1e-2 else 0
        best = max(best, value)
    assert waited == 5
    if early_stopping:
        assert classifier.best_validation_score_ == best
        assert classifier.best_loss_ is None
    else:
        assert classifier.best_loss_ == -best


def test_warm_start_continues(blobs) -> None:
    x, y = blobs
    whole, parts = quick(max_iter=6, warm_start=True), quick(max_iter=3, warm_start=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole.fit(x, y)
        parts.fit(x, y).fit(x, y)
    np.testing.assert_array_equal(whole.predict_proba(x), parts.predict_proba(x))
    assert parts.n_iter_ == 6
    assert parts.loss_curve_ == whole.loss_curve_
    with pytest.raises(gpunet.ArgumentError, match=r"warm_start: y has the classes \[0 1\]"):
        parts.fit(x, y % 2)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_warm_start_uses_the_current_parameters(blobs) -> None:
    x, y = blobs
    kept, slower = (quick(max_iter=2, warm_start=True).fit(x, y) for _ in range(2))
    kept.fit(x, y)
    slower.set_params(learning_rate_init=1e-5).fit(x, y)
    assert slower.model_.optimizer.learning_rate == 1e-5
    assert not np.array_equal(kept.coefs_[0], slower.coefs_[0])
    assert slower.model_.optimizer_state.updates == kept.model_.optimizer_state.updates
    slower.set_params(solver="sgd").fit(x, y)
    assert slower.model_.optimizer == gpunet.SGD(1e-5, 0.9, nesterov=True)
    for change in ({"hidden_layer_sizes": 9}, {"activation": "tanh"}):
        with pytest.raises(gpunet.ArgumentError, match=r"^the network was 8-8-3 with relu, softmax"):
            clone_fitted(slower).set_params(**change).fit(x, y)


def clone_fitted(classifier: MLPClassifier) -> MLPClassifier:
    return pickle.loads(pickle.dumps(classifier))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_partial_fit_makes_one_epoch_of_fit_at_a_time(blobs) -> None:
    x, y = blobs
    names = np.array(["cat", "dog", "eel"])[y]
    whole, parts = quick(max_iter=3, batch_size=7), quick(batch_size=7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole.fit(x, names)
    assert parts.partial_fit(x, names, classes=["eel", "dog", "cat", "cat"]) is parts
    parts.partial_fit(x, names).partial_fit(x, names, classes=["cat", "dog", "eel"])
    assert (parts.n_iter_, parts.loss_curve_, parts.t_) == (3, whole.loss_curve_, whole.t_)
    np.testing.assert_array_equal(parts.predict_proba(x), whole.predict_proba(x))
    parts.partial_fit(x[:5], names[:5], sample_weight=np.arange(1, 6))  # other examples, not of all classes
    whole.partial_fit(x[:5], names[:5], sample_weight=np.arange(1, 6))
    assert parts.t_ == 3 * 60 + 5  # examples seen, as in scikit-learn
    np.testing.assert_array_equal(parts.predict_proba(x), whole.predict_proba(x))


def test_partial_fit_learns_from_data_that_comes_in_parts(blobs) -> None:
    x, y = blobs
    classifier = quick(learning_rate_init=0.05)
    for _ in range(20):
        for rows in np.array_split(np.arange(60), 4):
            classifier.partial_fit(x[rows], y[rows], classes=range(3))
    assert classifier.score(x, y) > 0.95


def test_what_partial_fit_cannot_do_is_one_line(blobs) -> None:
    x, y = blobs
    begun = quick().partial_fit(x, y, classes=[0, 1, 2])
    before = begun.predict_proba(x)
    for call, words in (
        (lambda: quick().partial_fit(x, y), "classes: expected at the first call of partial_fit"),
        (lambda: quick().partial_fit(x, y, classes=[0, 1]), r"y has the classes \[2\], which are not among \[0 1\]"),
        (lambda: begun.partial_fit(x, y, classes=[0, 1]), r"classes: expected those of the first call, \[0 1 2\]"),
        (lambda: begun.partial_fit(x, y + 1), r"y has the classes \[3\]"),
        (lambda: begun.partial_fit(x[:, :3], y), "X has 3 features"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    np.testing.assert_array_equal(begun.predict_proba(x), before)
    assert not hasattr(quick(early_stopping=True), "partial_fit")


def test_random_state_fixes_the_result_and_decides_it(blobs) -> None:
    one, same, other = (quick(max_iter=2, random_state=n).fit(*blobs).coefs_[0] for n in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_early_stopping_ends_with_the_best_weights(blobs) -> None:
    """Here those of the first epoch: every later one is too far off."""
    x, y = blobs
    classifier = quick(early_stopping=True, solver="sgd", momentum=0.99, learning_rate_init=0.5, max_iter=30).fit(x, y)
    best = int(np.argmax(classifier.validation_scores_))
    assert best < classifier.n_iter_ - 1
    until = quick(early_stopping=True, solver="sgd", momentum=0.99, learning_rate_init=0.5, max_iter=best + 1).fit(x, y)
    np.testing.assert_array_equal(classifier.coefs_[0], until.coefs_[0])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("change", [{"shuffle": False}, {"momentum": 0.5}], ids=str)
def test_parameters_reach_the_training(blobs, change) -> None:
    plain, changed = (quick(solver="sgd", max_iter=2, batch_size=10, **c).fit(*blobs) for c in ({}, change))
    assert not np.array_equal(plain.coefs_[0], changed.coefs_[0])


def test_bytes_are_numbers_here(blobs) -> None:
    x = (np.abs(blobs[0]) * 50).astype(np.uint8)
    one, other = (quick(max_iter=50).fit(data, blobs[1]) for data in (x, x.astype(float)))
    np.testing.assert_array_equal(one.predict_proba(x), other.predict_proba(x))


def test_clone_and_pickle(blobs) -> None:
    classifier = quick().fit(*blobs)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.predict_proba(blobs[0]), classifier.predict_proba(blobs[0]))
    with pytest.raises(NotFittedError):
        clone(classifier).predict(blobs[0])


def test_nesterovs_momentum_changes_the_training(blobs) -> None:
    x, y = blobs
    curves = [quick(solver="sgd", max_iter=3, nesterovs_momentum=on).fit(x, y).loss_curve_ for on in (True, False)]
    assert curves[0] != curves[1]


FAULTS = {
    "alpha": ({"alpha": -1e-4}, r"alpha: expected a number from 0 to 1e\+30, got -0\.0001"),
    "learning-rate": ({"learning_rate": "adaptive"}, "learning_rate: gpunet supports learning_rate='constant' only"),
    "nesterov": (
        {"solver": "sgd", "nesterovs_momentum": "yes"},
        "SGD: nesterov: expected True or False, got 'yes'",
    ),
    "solver": ({"solver": "lbfgs"}, "solver: expected 'adam' or 'sgd', got 'lbfgs'"),
    "activation": ({"activation": "swish"}, "activation: expected one of identity, logistic"),
    "sizes": ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes: expected a whole number above 0, got 0"),
    "sizes-text": ({"hidden_layer_sizes": "10"}, "hidden_layer_sizes: expected a whole number above 0, got '10'"),
    "batch": ({"batch_size": 0}, "batch_size: expected a whole number above 0, got 0"),
    "max-iter": ({"max_iter": 0}, "max_iter: expected a whole number above 0, got 0"),
    "device": ({"device": "tpu"}, "device: expected one of auto"),
    "rate": ({"learning_rate_init": -1}, "Adam: learning_rate: expected a number from 0 on, got -1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_unsupported_parameters_are_one_clear_line(blobs, fault: str) -> None:
    arguments, message = FAULTS[fault]
    classifier = quick(**arguments)
    with pytest.raises(gpunet.ArgumentError, match=message):
        classifier.fit(*blobs)
    assert not hasattr(classifier, "model_")


def test_without_scikit_learn_the_import_says_what_to_do() -> None:
    code = "import sys; sys.modules['sklearn'] = None; import gpunet.sklearn"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=command_environment(), check=False
    )
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ImportError: gpunet.sklearn needs scikit-learn 1.6 or newer")
    assert last.endswith("pip install 'gpunet[sklearn]'")
