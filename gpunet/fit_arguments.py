"""The arguments of `fit`, and of `fit_many` for each of its models: checked, and in the form that engines take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, NamedTuple

from numpy.typing import ArrayLike, NDArray

from gpunet import losses, normalization
from gpunet.arrays import as_class_names, as_images, as_targets
from gpunet.callbacks import Callback
from gpunet.callbacks.base import check_callback
from gpunet.checks import require_count, require_positive_integer
from gpunet.engines import Choice
from gpunet.engines.base import on_host
from gpunet.engines.weighted import Weighted, without_weights
from gpunet.errors import ArgumentError, shown, warn
from gpunet.example_weights import as_sample_weights, require_some, with_class_weights
from gpunet.layers import Layer, Network, network_of
from gpunet.normalization import Normalization
from gpunet.scale import Scale

DEFAULT_BATCH = 32  # Keras'

Arrays = tuple[NDArray[Any], Any]  # examples in the engines' form: images and targets, which may be Weighted


class Examples(NamedTuple):
    """What is trained on and evaluated, the network for it, the scale of all that is trained on, and the names of the
    classes, if they have some.
    """

    train: Arrays
    validation: Arrays | None
    network: Network
    scale: Scale
    class_names: tuple[str, ...] | None


class Training(NamedTuple):
    """What a call of `fit` is to do, checked. epochs: by number, from 0."""

    epochs: range
    batch_size: int
    train: Arrays
    validation: Arrays | None
    network: Network
    scale: Scale
    class_names: tuple[str, ...] | None
    choice: Choice
    shuffle: bool
    callbacks: list[Callback]

    @property
    def epoch_updates(self) -> int:
        return -(-len(self.train[0]) // self.batch_size)


class Checks:
    """Users' arrays, checked: once, for however many models they are."""

    def __init__(self) -> None:
        self._images: dict[str, tuple[NDArray[Any], Scale]] = {}
        self._normalized: dict[tuple[str, Any], NDArray[Any]] = {}
        self._targets: dict[tuple[str, str, int, tuple[str, ...] | None], NDArray[Any]] = {}
        self._names: dict[tuple[str, int], tuple[str, ...] | None] = {}
        self._weights: dict[str, NDArray[Any]] = {}
        self._by_class: dict[tuple[str, int, tuple[str, ...] | None], Any] = {}

    def images(self, name: str, x: ArrayLike, inputs: int | None) -> tuple[NDArray[Any], Scale]:
        """As `as_images`."""
        known = self._images.get(name)
        if known is None or inputs not in (None, known[0].shape[1]):
            known = self._images[name] = as_images(name, x, inputs)
        return known

    def normalized(self, name: str, images: NDArray[Any], normalization: Normalization | None) -> NDArray[Any]:
        """The images, as the model's normalization makes them, if it has one; once for all with the same numbers."""
        if normalization is None:
            return images
        key = name, normalization.key
        if key not in self._normalized:
            self._normalized[key] = normalization.apply(images)
        return self._normalized[key]

    def targets(
        self,
        name: str,
        y: ArrayLike | None,
        loss: str,
        classes: int,
        examples: int,
        names: tuple[str, ...] | None,
    ) -> NDArray[Any]:
        """As `as_targets`."""
        key = name, loss, classes, names
        if key not in self._targets:
            self._targets[key] = as_targets(name, y, loss, classes, examples, names)
        return self._targets[key]

    def weighted(self, name: str, sample_weight: ArrayLike | None, targets: Any) -> Any:
        """As `with_sample_weights`."""
        if sample_weight is None:
            return targets
        if name not in self._weights:
            self._weights[name] = as_sample_weights(name, sample_weight, len(targets))
        return Weighted(targets, self._weights[name])

    def weighted_by_class(
        self, class_weight: object, targets: Any, loss: str, classes: int, names: tuple[str, ...] | None
    ) -> Any:
        """As `with_class_weights`. loss: which decides the targets' form."""
        key = loss, classes, names
        if key not in self._by_class:
            self._by_class[key] = with_class_weights(class_weight, targets, classes, names)
        return self._by_class[key]

    def class_names(self, name: str, y: ArrayLike | None, classes: int) -> tuple[str, ...] | None:
        """As `as_class_names`."""
        key = name, classes
        if key not in self._names:
            self._names[key] = as_class_names(name, y, classes)
        return self._names[key]


class FitArguments(NamedTuple):
    """What `fit` was given. The methods check it, change nothing, and raise ArgumentError in one line."""

    x: ArrayLike
    y: ArrayLike | None
    batch_size: int | None
    epochs: int | None
    callbacks: Sequence[Callback] | None
    validation_split: float
    validation_data: Sequence[ArrayLike] | None
    shuffle: bool
    class_weight: object = None
    sample_weight: ArrayLike | None = None
    initial_epoch: int = 0
    nb_epoch: int | None = None

    def epoch_numbers(self) -> range:
        if self.epochs is not None and self.nb_epoch is not None:
            raise ArgumentError(f"epochs={self.epochs!r} and nb_epoch={self.nb_epoch!r} mean the same; give one")
        last = require_count("epochs", next((e for e in (self.epochs, self.nb_epoch) if e is not None), 1))
        return range(require_count("initial_epoch", self.initial_epoch), last)

    def callback_list(self) -> list[Callback]:
        callbacks: Any = self.callbacks
        if callbacks is None:
            return []
        if not isinstance(callbacks, Iterable):
            raise ArgumentError(f"callbacks: expected a list of gpunet.Callback objects, got {shown(callbacks)}")
        return [check_callback(callback) for callback in callbacks]

    def examples(
        self,
        checks: Checks,
        layers: Sequence[Layer],
        inputs: int | None,
        loss: str,
        known: Scale | None,
        names: tuple[str, ...] | None,
    ) -> Examples:
        """inputs, known, names: of the model, as far as they are known; loss: as compiled."""
        images, scale = checks.images("x", self.x, inputs)
        scale.require("x", known)
        network = network_of(layers, images.shape[1])
        if names is None and loss == losses.INTEGER:
            names = checks.class_names("y", self.y, network.classes)
        targets = checks.targets("y", self.y, loss, network.classes, len(images), names)
        targets = checks.weighted("sample_weight", self.sample_weight, targets)
        own = normalization.of(layers)
        images = checks.normalized("x", images, own)
        if self.validation_data is not None:
            val_images, val_targets = self._validation(checks, network, loss, scale, names)
            train: Arrays = images, targets
            validation: Arrays | None = checks.normalized("validation_data x", val_images, own), val_targets
        else:
            train, validation = self._split(images, targets)
        # Classes' weights are for what is trained on; what is evaluated counts as it is.
        by_class = checks.weighted_by_class(self.class_weight, train[1], loss, network.classes, names)
        return Examples((train[0], by_class), validation, network, scale, names)

    def _split(self, images: NDArray[Any], targets: Any) -> tuple[Arrays, Arrays | None]:
        """What is trained on, and what is evaluated."""
        first = int(len(images) * (1 - _share("validation_split", self.validation_split)))  # as Keras rounds it
        if first == 0:
            raise ArgumentError(
                f"validation_split: {self.validation_split!r} leaves nothing of {len(images)} examples to train on"
            )
        if first == len(images):
            return (images, targets), None
        if isinstance(targets, Weighted):
            require_some("examples to train on", targets.weights[:first])
            require_some("validation examples", targets.weights[first:])
        return (images[:first], targets[:first]), (images[first:], targets[first:])

    def _validation(
        self, checks: Checks, network: Network, loss: str, scale: Scale, names: tuple[str, ...] | None
    ) -> Arrays:
        given: Any = self.validation_data
        if not isinstance(given, tuple | list) or len(given) not in (2, 3):
            several = f" of {len(given)}" if isinstance(given, tuple | list) else ""
            raise ArgumentError(
                f"validation_data: expected (x, y) or (x, y, sample_weight), got {type(given).__name__}{several}"
            )
        images, own_scale = checks.images("validation_data x", given[0], network.inputs)
        own_scale.require("validation_data x", scale, whose="x is")
        targets = checks.targets("validation_data y", given[1], loss, network.classes, len(images), names)
        weights = given[2] if len(given) == 3 else None
        return images, checks.weighted("validation_data sample_weight", weights, targets)

    def size_of_batches(self, examples: int) -> int:
        if self.batch_size is None:
            return min(DEFAULT_BATCH, examples)
        return min(require_positive_integer("batch_size", self.batch_size), examples)


def check_verbose(verbose: object) -> None:
    if not isinstance(verbose, str | int) or verbose not in ("auto", 0, 1, 2):
        raise ArgumentError(f"verbose: expected 'auto', 0, 1 or 2; got {shown(verbose)}")


def hint_at_class_0(targets: Any, classes: int) -> None:
    """Warn where labels seem to be counted from 1: there is the last class, and never the first."""
    targets = without_weights(targets)
    if targets.ndim == 1:
        counted_from_1 = (int(targets.min()), int(targets.max())) == (1, classes - 1)
    else:
        most = on_host(targets).max(axis=0)
        counted_from_1 = classes > 1 and float(most[0]) == 0 < float(most[-1])
    if counted_from_1:
        warn(
            f"y: class 0 has no example, and class {classes - 1} has: classes count from 0; if yours count from 1, "
            f"subtract 1 from the labels, and there are {classes - 1} classes"
        )


def _share(name: str, value: object) -> float:
    if not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise ArgumentError(f"{name}: expected a share in [0, 1), got {shown(value)}")
    return float(value)
