"""Sequential: the thin, Keras-like face of a network. It checks and counts; an engine computes."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpunet import class_names, engines, losses, metrics, normalization, optimizers, saving, seeds, turns
from gpunet.arrays import all_arrays, as_images, as_optimizer_state, as_targets, as_weights, own_arrays
from gpunet.callbacks import Callback, History, ProgressDisplay
from gpunet.checks import require_count
from gpunet.engines import Engine, OptimizerState
from gpunet.engines.base import on_host
from gpunet.engines.weighted import without_weights
from gpunet.epoch_loop import run_alone, steps
from gpunet.errors import ArgumentError, NotCompiledError, shown
from gpunet.example_weights import with_sample_weights
from gpunet.fit_arguments import Checks, FitArguments, Training, check_verbose, hint_at_class_0
from gpunet.keras_names import explained, no_attribute, not_callable
from gpunet.layers import Activation, Dense, Dropout, Layer, Network, Preparation, network_of
from gpunet.metrics import checked as check_metrics
from gpunet.optimizers import Optimizer
from gpunet.regularizers import L2, penalty
from gpunet.scale import Scale
from gpunet.session import Session
from gpunet.turns import Turns

UNKNOWN = 1  # inputs of a network whose number is not known


class Sequential:
    """A fully connected network: Dense layers with activations, the last one softmax.

    layers: the layers; or none, to `add` them one by one.
    seed:   determines the initial weights and every epoch's shuffle; the same seed gives the same bits on the same
            engine and machine. None draws a seed, which can be read as `model.seed`.

    Several threads may use a model: they take turns. While one of them trains it, the others are refused
    (ArgumentError), for `predict` as well as `fit`: in the middle of an epoch there is no model to predict with. Only
    `stop_training` may be set by any thread at any time.
    """

    @explained
    def __init__(self, layers: Iterable[Layer] | None = None, *, seed: int | None = None) -> None:
        self.seed = require_count("seed", seeds.drawn_seed() if seed is None else seed)
        self.layers: list[Layer] = []
        self.loss: str | None = None
        self.optimizer: Optimizer | None = None
        self.stop_training = False
        self.epochs_trained = 0  # over all calls of fit; decides the next shuffle
        self.scale: Scale | None = None  # of the examples it was trained on; None if that is not known
        self._class_names: tuple[str, ...] | None = None
        self._metrics: tuple[str, ...] = ()
        self._session = Session()
        self._turns = Turns()
        if layers is not None and not isinstance(layers, Iterable):
            raise ArgumentError(f"layers: expected a list of layers, got {shown(layers)}")
        for layer in layers or ():
            self.add(layer)

    if not TYPE_CHECKING:  # for which it would be any attribute, or any call
        __call__ = not_callable

        def __getattr__(self, name: str) -> Any:
            no_attribute(self, name)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: weights and optimizer state instead of the engine that holds them."""
        with self._turns.lock:
            self._turns.require("copy")
            state = self.__dict__ | {"_session": copy.copy(self._session)}
        del state["_turns"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _turns=Turns())

    def __repr__(self) -> str:
        """The network in one line, with question marks for what is not known yet."""
        try:
            network = network_of(self.layers, inputs=self._inputs or UNKNOWN)
        except ArgumentError:
            return f"<Sequential of {len(self.layers)} layers, no network yet>"
        known = self._inputs is not None
        widths = str(network) if known else f"?-{'-'.join(map(str, network.widths[1:]))}"
        parameters = f", {network.parameters:,} parameters" if known else ""
        trained = f", {self.epochs_trained} epoch{'s' * (self.epochs_trained != 1)} trained"
        return f"<Sequential {widths}, {' '.join(network.activations)}{parameters}{trained}>"

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, in the order of `predict`'s columns; None if the labels were numbers.

        `fit` takes them from labels that are text. They can also be set, even to None.
        """
        return self._class_names

    @class_names.setter
    @turns.short
    def class_names(self, names: Iterable[str] | None) -> None:
        classes = network_of(self.layers, inputs=self._inputs or UNKNOWN).classes
        self._class_names = None if names is None else class_names.checked("class_names", names, classes)

    @turns.short
    def add(self, layer: Layer) -> None:
        """Append a layer; possible until the model has weights."""
        if not isinstance(layer, Layer):
            raise ArgumentError(f"add: expected an Input, Dense, Activation or Dropout layer, got {shown(layer)}")
        if any(layer is other for other in self.layers):
            raise ArgumentError(
                f"add: this {type(layer).__name__} layer is in the model already; layers do not share weights: make "
                "a new one"
            )
        if self._session.network is not None:
            raise ArgumentError("add: the model already has its weights; make a new Sequential to change its layers")
        self.layers.append(layer)

    @explained
    @turns.short
    def compile(
        self,
        optimizer: str | Optimizer = "adam",
        loss: str | None = None,
        metrics: Sequence[str] | None = None,
        *,
        device: str = "auto",
        engine: str = "auto",
    ) -> None:
        """Choose how to train. Keeps the weights, and discards an earlier optimizer's state.

        optimizer: "adam", "sgd", or an Adam or SGD object.
        loss:      "categorical_crossentropy" (one-hot targets) or "sparse_categorical_crossentropy" (class numbers).
        metrics:   what `evaluate` returns besides loss and accuracy, which it always returns: "precision", "recall",
                   "f1" (means over the classes), "top_5_accuracy" and so on. During `fit` they are not computed.
        device:    "auto", "cuda", "cuda:1" and so on, or "cpu"; "auto" and "cuda" mean the first GPU.
        engine:    "auto" or the name of one (gpunet.engines.ENGINES).
        Raises:    ArgumentError for an unknown name, or if the layers do not form a network.
        """
        if self._turns.training:
            raise ArgumentError("compile: not possible while fit is running")
        more_metrics = check_metrics(metrics)
        new_optimizer, new_loss = optimizers.get(optimizer), losses.get(loss)
        engines.check_device(device, engine)
        network_of(self.layers, inputs=self._inputs or UNKNOWN)
        self._session.restart(device, engine)
        self.optimizer, self.loss, self._metrics = new_optimizer, new_loss, more_metrics

    @explained
    @turns.training
    def fit(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        verbose: str | int = "auto",
        callbacks: Sequence[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Sequence[ArrayLike] | None = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | str | None = None,
        sample_weight: ArrayLike | None = None,
        *,
        initial_epoch: int = 0,
        nb_epoch: int | None = None,
    ) -> History:
        """Train for a number of epochs; call it again to continue.

        x:                (examples, inputs), or images (examples, height, width). uint8 is treated as bytes of images
                          and scaled to x / 255 when a batch is used; everything else becomes float32. Anything that
                          NumPy accepts, PyTorch tensors, and arrays on the GPU, which stay there.
        y:                targets as the loss expects them, one per example. Names may replace class numbers; see
                          `class_names`.
        batch_size:       examples per update; the last batch of an epoch may be smaller. Default: 32, or all examples
                          if there are fewer.
        epochs:           number of the last epoch, counted from 1. Default: 1; 0 trains nothing. `nb_epoch` was its
                          name in Keras in 2016.
        verbose:          0: silent; 1 or "auto": a progress bar; 2: one line per epoch.
        validation_split: share of the examples, from the end, that is evaluated and not trained on.
        validation_data:  (x, y) or (x, y, sample_weight) to evaluate after every epoch.
        shuffle:          False keeps the examples in the order given.
        class_weight:     weights of classes, by number or name; others have the weight 1. "balanced": every class has
                          the same total weight. Does not apply to validation.
        sample_weight:    a weight for each example, not negative; multiplied by that of its class.
        initial_epoch:    how many epochs count as done: `epochs=20, initial_epoch=15` trains five. For callbacks,
                          schedules and displays; the shuffle depends on `epochs_trained`.
        Returns:          History: loss (nats) and accuracy, means over the epoch's examples, each computed before the
                          example's update; val_loss and val_accuracy after the epoch; seconds (of training); updates.
                          Weights only affect the loss, as in Keras: the sum of weight times loss, divided by the
                          number of examples. loss and val_loss include the layers' penalties, for the weights at the
                          end of the epoch.
        Raises:           ArgumentError before anything changes; TrainingDivergedError if the loss is not finite, with
                          the model reset to before that epoch; DeviceError if the GPU fails, with the weights of the
                          last complete epoch.
        """
        check_verbose(verbose)
        arguments = FitArguments(
            x, y, batch_size, epochs, callbacks, validation_split, validation_data, shuffle, class_weight,
            sample_weight, initial_epoch, nb_epoch,
        )  # fmt: skip
        training = self.planned(arguments, Checks())
        if self.epochs_trained == 0:
            hint_at_class_0(training.train[1], training.network.classes)
        history = History()
        display = [ProgressDisplay(bars=None if verbose != 2 else False)] if verbose else []
        hooks: list[Callback] = [*display, *training.callbacks, history]

        def progress(updates: int) -> None:
            for hook in hooks:
                hook.on_progress(updates)

        run_alone(steps(self, training, hooks), progress)
        return history

    @explained
    @turns.short
    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike | None = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: ArrayLike | None = None,
    ) -> list[float]:
        """[loss, accuracy]: mean loss in nats and share of examples whose most probable class is the target's.

        Then the other metrics that `compile` was given, in order. The loss includes the layers' penalties.
        sample_weight: weights for the loss, as in `fit`; the metrics count each example once.
        batch_size, verbose: accepted for compatibility with Keras and ignored.
        """
        self._require_compiled("evaluate")
        images, scale = as_images("x", x, self._inputs)
        scale.require("x", self.scale)
        network = network_of(self.layers, images.shape[1])
        targets = as_targets("y", y, str(self.loss), network.classes, len(images), self._class_names)
        targets = with_sample_weights("sample_weight", sample_weight, targets)
        images = self._normalized(images)
        engine, (uploaded_images, uploaded_targets) = self._engine_for(network, images, targets)
        loss, accuracy = engine.evaluate(uploaded_images, uploaded_targets)
        if network.l2:  # a GPU's weights would have to be copied
            loss += penalty(network, self._session.weights)
        result = [loss, accuracy]
        if not self._metrics:
            return result
        labels = on_host(without_weights(targets))
        classes = labels if labels.ndim == 1 else labels.argmax(axis=1)
        probabilities = engine.predict(uploaded_images)
        return [*result, *(metrics.value(metric, classes, probabilities) for metric in self._metrics)]

    @explained
    @turns.short
    def predict(self, x: ArrayLike, batch_size: int | None = None, verbose: str | int = "auto") -> NDArray[np.floating]:
        """Probabilities (examples, classes) float32. batch_size, verbose: as in `evaluate`."""
        images, scale = as_images("x", x, self._inputs)
        scale.require("x", self.scale)
        network = network_of(self.layers, images.shape[1])
        engine, (uploaded,) = self._engine_for(network, self._normalized(images))
        return engine.predict(uploaded)

    @turns.short
    def get_weights(self) -> list[NDArray[np.floating]]:
        """Copies of weights (inputs, units) and bias (units,), if it has one, layer after layer."""
        self._build(self.network)
        return [array.copy() for array in own_arrays(self.network, self._session.weights)]

    @turns.short
    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Replace the weights, in the form that `get_weights` returns; the optimizer's state stays.

        The range that the model was trained on (`scale`) is forgotten, unless a callback restores earlier weights.
        """
        network = self.network
        arrays = as_weights(weights, network.own_shapes)
        self._build(network)
        if not self._turns.training:
            self.scale = None
        self._session.weights = all_arrays(network, arrays)

    @property
    @turns.short
    def optimizer_state(self) -> OptimizerState:
        """A copy of the optimizer's state: the updates made, and for each slot one array per array of weights.

        With weights, optimizer and `epochs_trained`, it is all that is needed to continue elsewhere.
        Setting it raises ArgumentError unless it is a state of this optimizer for this network.
        """
        self._require_compiled("optimizer_state")
        assert self.optimizer is not None
        state = self._session.optimizer_state or OptimizerState.at_start(self.optimizer, self.network)
        own = {slot: own_arrays(self.network, arrays) for slot, arrays in state.slots.items()}
        return copy.deepcopy(OptimizerState(state.updates, own))

    @optimizer_state.setter
    @turns.short
    def optimizer_state(self, state: OptimizerState) -> None:
        self._require_compiled("optimizer_state")
        assert self.optimizer is not None
        checked = as_optimizer_state(state, self.optimizer, self.network)
        self._build(self.network)
        slots = {slot: all_arrays(self.network, arrays) for slot, arrays in checked.slots.items()}
        self._session.optimizer_state = OptimizerState(checked.updates, slots)

    @explained
    def save(self, path: str | os.PathLike[str], *, include_optimizer: bool = False) -> None:
        """Write the model to a file, `.safetensors` or `.npz`, for `gpunet.load`; an old file is replaced atomically.

        include_optimizer: include the optimizer's state, so that training continues as if it had never stopped. The
                           file is then three times as large (Adam), and PyTorch's load_state_dict refuses it.
        Raises:            OutputError if the file cannot be written; an old file is then not changed.
        """
        saving.write(path, self.saved(include_optimizer=include_optimizer))

    @turns.short
    def saved(self, *, include_optimizer: bool = False) -> saving.Saved:
        """What `save` writes."""
        state = self.optimizer_state if include_optimizer else None
        return saving.Saved(
            self.network,
            self.get_weights(),
            self.seed,
            self.epochs_trained,
            self.loss,
            self.optimizer,
            state,
            scale=self.scale,
            class_names=self._class_names,
            normalization=normalization.of(self.layers),
        )

    @explained
    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the weights to a file, `.safetensors` or `.npz`, for `load_weights` of a model with the same layers."""
        saving.write(path, dataclasses.replace(self.saved(), loss=None, optimizer=None))

    @explained
    @turns.short
    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Replace the weights by those of a file that `save` wrote, or of a PyTorch state_dict as `.safetensors`.

        Raises ModelFileError, before anything has changed, if the file is damaged or belongs to another network.
        """
        found = saving.read_weights(path, self.layers, self._inputs)
        own = normalization.of(self.layers)
        if own is not None and found.normalization is not None:
            own.take(found.normalization)
        self._build(found.network)
        self.set_weights(found.arrays)
        self.scale, self._class_names = found.scale, found.class_names or self._class_names

    @explained
    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print the layers with their output shapes and numbers of parameters."""
        network = self.network
        print_fn(f"{'layer':<10}{'activation':<14}{'output':<14}{'parameters':>12}")
        rates = network.dropout or (0.0,) * network.layers
        rows = zip(network.sizes, network.activations, network.biases, rates, strict=True)
        for (inputs, units), activation, bias, rate in rows:
            print_fn(f"{'Dense':<10}{activation:<14}{f'(None, {units})':<14}{(inputs + bias) * units:>12,}")
            if rate:
                print_fn(f"{'Dropout':<10}{rate:<14g}{f'(None, {units})':<14}{0:>12}")
        print_fn(f"{'total':<38}{network.parameters:>12,}")

    def count_params(self) -> int:
        """The number of weights and biases."""
        return self.network.parameters

    @property
    def network(self) -> Network:
        """The network that the layers describe. Raises ArgumentError if they do not give the number of inputs."""
        return self._session.network or network_of(self.layers)

    def planned(self, arguments: FitArguments, checks: Checks) -> Training:
        """The checked arguments of `fit`. Internal; changes nothing."""
        self._require_compiled("fit")
        numbers, callbacks = arguments.epoch_numbers(), arguments.callback_list()
        examples = arguments.examples(checks, self.layers, self._inputs, str(self.loss), self.scale, self._class_names)
        size = arguments.size_of_batches(len(examples.train[0]))
        assert self.optimizer is not None
        optimizers.get(self.optimizer).check()  # it may have been replaced since `compile`
        device, engine_name = self._session.device, self._session.engine_name
        choice = engines.choose(examples.network, size, device, engine_name, self.optimizer)
        return Training(numbers, size, *examples, choice, arguments.shuffle, callbacks)

    @property
    def _inputs(self) -> int | None:
        """The number of inputs, if it is known before any data."""
        if self._session.network is not None:
            return self._session.network.inputs
        first = itertools.takewhile(lambda layer: not isinstance(layer, Activation), self.layers)
        known = (layer.inputs for layer in first if isinstance(layer, Preparation | Dense))
        return next((inputs for inputs in known if inputs is not None), None)

    def _normalized(self, images: NDArray[Any]) -> NDArray[Any]:
        own = normalization.of(self.layers)
        return images if own is None else own.apply(images)

    def _build(self, network: Network) -> None:
        """Give the model its initial weights if it has none."""
        dense = [layer for layer in self.layers if isinstance(layer, Dense)]
        names = [(layer.kernel_initializer, layer.bias_initializer) for layer in dense]
        self._session.build(network, self.seed, names)

    def _require_compiled(self, method: str) -> None:
        if self.loss is None:
            raise NotCompiledError(f"{method}: the model is not compiled; call model.compile(loss=...) first")

    def _engine_for(self, network: Network, *arrays: NDArray[Any]) -> tuple[Engine, list[Any]]:
        """The engine that predicts and evaluates, and the arrays uploaded to it."""
        self._build(network)
        return self._session.engine_to_compute(self.optimizer, arrays, may_move=not self._turns.training)


@explained
def load(path: str | os.PathLike[str], *, device: str = "auto", engine: str = "auto") -> Sequential:
    """Load a model from a file that `model.save`, `ModelCheckpoint` or `gpunet train --checkpoint` wrote.

    It is compiled if the saved model was. The file does not say where to compute (device, engine: as in `compile`).
    Raises ModelFileError, one line that names the file, if it is missing, damaged, truncated, or from a newer gpunet.
    """
    return restore(saving.read(path), device, engine)


def restore(saved: saving.Saved, device: str = "auto", engine: str = "auto") -> Sequential:
    """The model that was saved."""
    network = saved.network
    model = Sequential(layers_of(saved), seed=saved.seed)
    if saved.loss is not None and saved.optimizer is not None:
        model.compile(saved.optimizer, saved.loss, device=device, engine=engine)
    engines.check_device(device, engine)
    model._session.restart(device, engine)
    model._session.start(network, all_arrays(network, saved.weights))
    model.epochs_trained, model.scale = saved.epochs_trained, saved.scale
    model.class_names = saved.class_names
    if saved.optimizer_state is not None:
        model.optimizer_state = saved.optimizer_state
    return model


def layers_of(saved: saving.Saved) -> list[Layer]:
    """New layers for the network that was saved."""
    inputs, *widths = saved.network.widths
    network = saved.network
    penalties = [L2(factor) if factor else None for factor in network.l2] or [None] * len(widths)
    layers = [
        Dense(units, activation, bias, kernel_regularizer=penalty)
        for units, activation, bias, penalty in zip(widths, network.activations, network.biases, penalties, strict=True)
    ]
    layers[0].inputs = inputs
    made: list[Layer] = [] if saved.normalization is None else [saved.normalization]
    for layer, rate in zip(layers, network.dropout or [0.0] * len(widths), strict=True):
        made += [layer, Dropout(rate)] if rate else [layer]
    return made
