"""MLPClassifier: a gpunet network as a scikit-learn classifier, for pipelines, grid searches and cross-validation.

Its parameters have the names, meanings and defaults of sklearn.neural_network.MLPClassifier; what gpunet lacks (other
solvers, other learning rates) is refused. Needs scikit-learn: pip install 'gpunet[sklearn]'.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

try:
    import joblib
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.utils import check_random_state
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"gpunet.sklearn needs scikit-learn 1.6 or newer ({error}); pip install 'gpunet[sklearn]'"
    ) from None

from gpunet import losses, regularizers, threads
from gpunet.callbacks import Callback, Logs
from gpunet.checks import require_positive_integer
from gpunet.errors import ArgumentError, shown
from gpunet.example_weights import as_sample_weights, require_some
from gpunet.layers import HIDDEN_ACTIVATIONS, Dense, network_of
from gpunet.model import Sequential
from gpunet.optimizers import SGD, Adam, Optimizer
from gpunet.regularizers import L2

ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", **{name: name for name in HIDDEN_ACTIVATIONS}}
LARGEST_AUTO_BATCH = 200  # scikit-learn's

# Parameters of scikit-learn's classifier of which gpunet supports one value only.
ONLY = {"learning_rate": "constant"}


def _trains_without_an_early_end(classifier: MLPClassifier) -> bool:
    return not classifier.early_stopping


class MLPClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A fully connected network with softmax output.

    hidden_layer_sizes: widths of the hidden layers.  activation: "identity", "logistic", "tanh", "relu", or another of
    gpunet's names.  solver: "adam" or "sgd".  alpha: alpha / (2 batch_size) times the sum of the squared weights is
    added to the loss.  learning_rate: "constant" only.  power_t, max_fun: without effect, as with these solvers there.
    batch_size: "auto" is min(200, examples).
    tol, n_iter_no_change: training ends when the loss (with early_stopping: the accuracy on a share validation_fraction
    of the examples) has not improved by more than tol for n_iter_no_change epochs; else after max_iter epochs.
    random_state: fixes initial weights, shuffling and validation share.  warm_start: another fit continues from the
    weights, with the current parameters; the solver's state is kept if the solver is the same.
    device, engine: as in gpunet's Sequential.compile.

    All data is used as float32, bytes as well: they are not scaled to 0..1.
    As one of several jobs of joblib (GridSearchCV(n_jobs=...) and so on) or Dask, it computes with one thread on a CPU;
    the other jobs have the other cores. Results do not depend on it.
    After fit: classes_, n_iter_, loss_, loss_curve_, best_loss_, validation_scores_, best_validation_score_, coefs_,
    intercepts_, n_layers_, n_outputs_, out_activation_, and model_, the gpunet model.
    """

    classes_: NDArray[Any]
    model_: Sequential
    n_iter_: int
    t_: int
    loss_curve_: list[float]

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        device: str = "auto",
        engine: str = "auto",
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.device = device
        self.engine = engine

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> MLPClassifier:  # noqa: N803
        """Train on X (examples, features) and y (examples,), class labels of any type. Returns itself.

        sample_weight: (examples,), what each example counts, from 0 on. Only their proportions count: AdaBoost's, whose
        sum is 1, train as fast as none.
        """
        goes_on = self.warm_start and hasattr(self, "model_")
        x, y = validate_data(self, X, y, dtype=np.float32, order="C", reset=not goes_on)
        check_classification_targets(y)
        weights = None if sample_weight is None else as_sample_weights("sample_weight", sample_weight, len(x))
        classes, targets = np.unique(y, return_inverse=True)
        if goes_on and not np.array_equal(classes, self.classes_):
            raise ArgumentError(
                f"warm_start: y has the classes {classes}, but fit was called with {self.classes_} before"
            )
        self._layers(len(classes), 1)  # what is refused is refused before anything is drawn
        optimizer = self._optimizer()
        max_iter = require_positive_integer("max_iter", self.max_iter)
        random = check_random_state(self.random_state)
        seed = int(random.randint(np.iinfo(np.int32).max))
        validation = validation_weights = None
        if self.early_stopping:
            rows = np.arange(len(x))
            rows, held = train_test_split(rows, test_size=self.validation_fraction, random_state=seed, stratify=targets)
            validation = (x[held], targets[held])
            x, targets = x[rows], targets[rows]
            if weights is not None:
                weights, validation_weights = weights[rows], _with_mean_1("validation examples", weights[held])
        if weights is not None:
            weights = _with_mean_1("examples to train on", weights)
        convergence = _Convergence(self.tol, self.n_iter_no_change, self.early_stopping, self.verbose)
        if validation is not None and validation_weights is not None:
            convergence.score_with(*validation, validation_weights)
        begin = None if goes_on else seed
        self._train((x, targets, weights), classes, optimizer, max_iter, begin, convergence, validation)
        if not convergence.converged:
            warnings.warn(
                f"training did not converge in {max_iter} epochs; try a larger max_iter or tol",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    @available_if(_trains_without_an_early_end)  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def partial_fit(
        self,
        X: ArrayLike,  # noqa: N803
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> MLPClassifier:
        """Train for one epoch on these examples, from where the last call, or `fit`, has ended. Returns itself.

        Not with early_stopping, which holds examples back.
        classes: all that there are, at the first call. sample_weight: as in `fit`.
        """
        goes_on = hasattr(self, "model_")
        if classes is None and not goes_on:
            raise ArgumentError("classes: expected at the first call of partial_fit: all that there are")
        x, y = validate_data(self, X, y, dtype=np.float32, order="C", reset=not goes_on)
        check_classification_targets(y)
        known = self.classes_ if goes_on else np.unique(np.asarray(classes))
        if goes_on and classes is not None and not np.array_equal(np.unique(np.asarray(classes)), known):
            raise ArgumentError(f"classes: expected those of the first call, {known}, got {shown(classes)}")
        if not np.isin(y, known).all():
            raise ArgumentError(f"y has the classes {np.setdiff1d(y, known)}, which are not among {known}")
        weights = None if sample_weight is None else as_sample_weights("sample_weight", sample_weight, len(x))
        if weights is not None:
            weights = _with_mean_1("examples to train on", weights)
        self._layers(len(known), 1)  # what is refused is refused before anything is drawn
        optimizer = self._optimizer()
        seed = None if goes_on else int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        convergence = _Convergence(self.tol, self.n_iter_no_change, False, self.verbose)
        self._train((x, np.searchsorted(known, y), weights), known, optimizer, 1, seed, convergence)
        return self

    def _train(
        self,
        examples: tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None],
        classes: NDArray[Any],
        optimizer: Optimizer,
        epochs: int,
        seed: int | None,
        convergence: _Convergence,
        validation: tuple[NDArray[Any], NDArray[Any]] | None = None,
    ) -> None:
        """Train for so many epochs at most. examples: x, class numbers and weights. seed: None to go on."""
        x, targets, weights = examples
        goes_on = seed is None
        batch_size = min(LARGEST_AUTO_BATCH, len(x)) if self.batch_size == "auto" else self.batch_size
        batch_size = min(require_positive_integer("batch_size", batch_size), len(x))
        layers = self._layers(len(classes), batch_size)
        initial_epoch = self.n_iter_ if goes_on else 0
        model = self._continued(layers, x.shape[1]) if goes_on else Sequential(layers, seed=seed)
        state = self.model_.optimizer_state if goes_on else None
        model.compile(optimizer, losses.INTEGER, device=self.device, engine=self.engine)
        if state is not None and tuple(state.slots) == tuple(optimizer.slots):
            model.optimizer_state = state
        with _one_thread_in_a_job():
            model.fit(
                x, targets, batch_size, initial_epoch + epochs, 0, [convergence],
                validation_data=validation, shuffle=self.shuffle, sample_weight=weights, initial_epoch=initial_epoch,
            )  # fmt: skip
        self.classes_, self.model_ = classes, model
        self._keep(convergence, len(x), goes_on)

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803
        """The most probable class of each example."""
        probabilities = self.predict_proba(X)
        predicted: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return predicted

    def predict_proba(self, X: ArrayLike) -> NDArray[np.floating]:  # noqa: N803
        """Probabilities (examples, classes) float32, the classes in the order of `classes_`."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float32, order="C", reset=False)
        with _one_thread_in_a_job():
            probabilities: NDArray[np.floating] = self.model_.predict(x)
        return probabilities

    def predict_log_proba(self, X: ArrayLike) -> NDArray[np.floating]:  # noqa: N803
        """Logarithms of the probabilities."""
        with np.errstate(divide="ignore"):
            logarithms: NDArray[np.floating] = np.log(self.predict_proba(X))
        return logarithms

    def _continued(self, layers: list[Dense], inputs: int) -> Sequential:
        """The model of the last fit, with the penalty that the layers have."""
        model, network = self.model_, network_of(layers, inputs)
        if network.shape != model.network.shape:
            raise ArgumentError(
                f"the network was {model.network} with {', '.join(model.network.activations)}; "
                "hidden_layer_sizes and activation cannot be changed"
            )
        if network == model.network:
            return model
        layers[0].inputs = inputs
        continued = Sequential(layers, seed=model.seed)
        continued.set_weights(model.get_weights())
        continued.scale, continued.epochs_trained = model.scale, model.epochs_trained
        return continued

    def _layers(self, classes: int, batch_size: int) -> list[Dense]:
        sizes: Any = self.hidden_layer_sizes
        widths = list(sizes) if isinstance(sizes, Iterable) and not isinstance(sizes, str) else [sizes]
        if self.activation not in ACTIVATIONS:
            raise ArgumentError(f"activation: expected one of {', '.join(ACTIVATIONS)}; got {self.activation!r}")
        factor = regularizers.checked("alpha", self.alpha) / (2 * batch_size)
        penalty = L2(factor) if factor else None
        hidden = [
            Dense(
                require_positive_integer("hidden_layer_sizes", n),
                ACTIVATIONS[self.activation],
                kernel_regularizer=penalty,
            )
            for n in widths
        ]
        return [*hidden, Dense(classes, "softmax", kernel_regularizer=penalty)]

    def _optimizer(self) -> Optimizer:
        for name, only in ONLY.items():
            if getattr(self, name) != only:
                raise ArgumentError(f"{name}: gpunet supports {name}={only!r} only, got {getattr(self, name)!r}")
        if self.solver == "adam":
            return Adam(self.learning_rate_init, self.beta_1, self.beta_2, self.epsilon)
        if self.solver == "sgd":
            return SGD(self.learning_rate_init, self.momentum, self.nesterovs_momentum)
        raise ArgumentError(f"solver: expected 'adam' or 'sgd', got {self.solver!r}")

    def _keep(self, convergence: _Convergence, examples: int, goes_on: bool) -> None:
        """Set the attributes that scikit-learn's classifier has after fit."""
        self.loss_curve_ = [*self.loss_curve_, *convergence.losses] if goes_on else convergence.losses
        self.n_iter_, self.loss_ = len(self.loss_curve_), self.loss_curve_[-1]
        self.t_ = (self.t_ if goes_on else 0) + len(convergence.losses) * examples
        scores = convergence.scores
        self.validation_scores_ = scores if self.early_stopping else None
        self.best_validation_score_ = max(scores) if self.early_stopping else None
        self.best_loss_ = None if self.early_stopping else min(self.loss_curve_)
        weights = self.model_.get_weights()
        self.coefs_, self.intercepts_ = weights[::2], weights[1::2]
        self.n_layers_, self.n_outputs_, self.out_activation_ = len(self.coefs_) + 1, len(self.classes_), "softmax"


def _with_mean_1(whose: str, weights: NDArray[np.float32]) -> NDArray[np.float32]:
    require_some(whose, weights)
    scaled: NDArray[np.float32] = (weights / weights.mean(dtype=np.float64)).astype(np.float32)
    return scaled


class _Convergence(Callback):
    """Ends training by scikit-learn's rule: more than `patience` epochs without an improvement by more than tol.

    by_score: watches the validation accuracy instead of the loss, and ends with the best weights.
    """

    def __init__(self, tol: float, patience: int, by_score: bool, verbose: bool) -> None:
        self._tol, self._patience, self._by_score, self._verbose = tol, patience, by_score, verbose
        self.losses: list[float] = []
        self.scores: list[float] = []
        self.converged = False
        self._best, self._waited = -np.inf, 0
        self._best_weights: list[NDArray[np.floating]] | None = None
        self._scored: tuple[NDArray[Any], ...] = ()

    def score_with(self, x: NDArray[Any], targets: NDArray[Any], weights: NDArray[Any]) -> None:
        """Watch the accuracy in which each of these examples counts its weight."""
        self._scored = x, targets, weights

    def _score(self, logs: Logs) -> float:
        if not self._scored:
            return logs["val_accuracy"]
        x, targets, weights = self._scored
        return float(np.average(self.model.predict(x).argmax(axis=1) == targets, weights=weights))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        self.losses.append(logs["loss"])
        if self._verbose:
            print(f"Iteration {epoch + 1}, loss = {logs['loss']:.8f}")
        value = -logs["loss"]
        if self._by_score:
            value = self._score(logs)
            self.scores.append(value)
        self._waited = self._waited + 1 if value < self._best + self._tol else 0
        if value > self._best:
            self._best = value
            self._best_weights = self.model.get_weights() if self._by_score else None
        if self._waited > self._patience:
            self.converged = self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._best_weights is not None:
            self.model.set_weights(self._best_weights)


@contextlib.contextmanager
def _one_thread_in_a_job() -> Iterator[None]:
    """Around a computation: with one thread where it is one job among several."""
    if not _is_a_job():
        yield
        return
    with threads.at_most(1):
        yield


def _is_a_job() -> bool:
    """Whether joblib or Dask calls this, as a job that it may run beside others."""
    backend, _ = joblib.parallel.get_active_backend()
    if getattr(backend, "nesting_level", 0):  # of what a job itself would start: joblib sets it in each of its workers
        return True
    distributed = sys.modules.get("distributed")  # if it is not even imported, this is no task of its
    if distributed is None:
        return False
    try:
        distributed.get_worker()
    except ValueError:
        return False
    return True
