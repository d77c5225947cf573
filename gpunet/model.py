"""Sequential: the thin, Keras-like face of a network. It checks, shuffles and counts; an engine computes."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpunet import engines, losses, optimizers, saving, turns
from gpunet.arrays import as_images, as_optimizer_state, as_targets, as_weights
from gpunet.callbacks import Callback, History, ProgressDisplay
from gpunet.callbacks.base import check_callback
from gpunet.checks import require_count, require_positive_integer
from gpunet.engines import Choice, Engine, OptimizerState
from gpunet.engines.base import on_host
from gpunet.errors import ArgumentError, DeviceError, NotCompiledError, TrainingDivergedError, shown, warn
from gpunet.keras_names import explained, no_attribute
from gpunet.layers import Activation, Dense, Input, Layer, Network, network_of
from gpunet.optimizers import Optimizer
from gpunet.scale import Scale
from gpunet.training import Arrays, Checks, EpochTask, Steps, Training, Upload, as_engine_uploads, run_alone
from gpunet.turns import Turns

PREDICT_BATCH = 1000  # the batch size for which an engine is chosen where nothing was trained
DEFAULT_BATCH = 32  # Keras'
START, SHUFFLE = 0, 1  # what a seed is used for; the keys keep the two streams of random numbers apart


class Sequential:
    """A fully connected network: Dense layers with activations, the last one softmax.

    layers: the layers, or none and `add` them one by one.
    seed:   fixes the start and every epoch's shuffle; the same seed gives the same bits on the same engine and machine
            (on a CPU also: with the same number of threads of its linear algebra library). None draws one; it can be
            read back as `model.seed`.

    Several threads may use a model: they take turns. While one of them trains, the others are refused (ArgumentError),
    whether they call `fit` as well or `predict`: in the middle of an epoch there is no model to predict with. Only
    `stop_training` may be set from anywhere, at any time.
    """

    @explained
    def __init__(self, layers: Iterable[Layer] | None = None, *, seed: int | None = None) -> None:
        drawn = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        self.seed = require_count("seed", drawn)
        self.layers: list[Layer] = []
        self.loss: str | None = None
        self.optimizer: Optimizer | None = None
        self.stop_training = False
        self.epochs_trained = 0  # over all calls of fit; decides the next shuffle
        self.scale: Scale | None = None  # of the examples it was trained on; None if that is not known
        self._device, self._engine_name = "auto", "auto"
        self._network: Network | None = None
        # As the last whole epoch, or whoever set them, left them: up to date while there is no engine, and all that is
        # left where an engine is lost.
        self._weights: list[NDArray[np.floating]] = []
        self._optimizer_state: OptimizerState | None = None  # likewise; None if nothing was trained yet
        self._choice: Choice | None = None  # of the engine
        self._engine: Engine | None = None
        self._turns = Turns()
        if layers is not None and not isinstance(layers, Iterable):
            raise ArgumentError(f"layers: expected a list of layers, got {shown(layers)}")
        for layer in layers or ():
            self.add(layer)

    if not TYPE_CHECKING:  # for which it would be any attribute

        def __getattr__(self, name: str) -> Any:
            no_attribute(self, name)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: the weights and where the optimizer stands instead of the engine that holds them."""
        with self._turns.lock:
            self._turns.require("copy")
            state = self.__dict__ | {"_choice": None}  # an engine is chosen anew where the copy is used
            if self._engine is not None:
                held = {f"_{what}": self._held(what) for what in ("weights", "optimizer_state")}
                state |= {"_engine": None, **held}
        del state["_turns"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _turns=Turns())

    @turns.short
    def add(self, layer: Layer) -> None:
        """Append a layer; possible until the model has weights."""
        if not isinstance(layer, Input | Dense | Activation):
            raise ArgumentError(f"add: expected an Input, Dense or Activation layer, got {shown(layer)}")
        if any(layer is other for other in self.layers):
            raise ArgumentError(
                f"add: this {type(layer).__name__} layer is in the model already; layers do not share weights: make "
                "a new one"
            )
        if self._network is not None:
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
        """Say how to train. Keeps the weights; forgets an earlier optimizer's state.

        optimizer: "adam", "sgd", or an Adam or SGD object.
        loss:      "categorical_crossentropy" (one-hot targets) or "sparse_categorical_crossentropy" (class numbers).
        metrics:   ["accuracy"] or nothing; accuracy is always reported.
        device:    "auto", "cuda", "cuda:1" and so on, or "cpu"; "auto" and "cuda" mean the first GPU.
        engine:    "auto" or the name of one (gpunet.engines.ENGINES).
        Raises:    ArgumentError for an unknown name, or if the layers do not form a network.
        """
        if self._turns.training:
            raise ArgumentError("compile: not possible while fit is running")
        if metrics is not None and not isinstance(metrics, Sequence):
            raise ArgumentError(f"metrics: expected ['accuracy'] or nothing, got {shown(metrics)}")
        known = ("accuracy", "acc")
        unknown = [metric for metric in metrics or () if not isinstance(metric, str) or metric not in known]
        if isinstance(metrics, str) or unknown:
            raise ArgumentError(f"metrics: expected ['accuracy'] or nothing, got {shown(metrics)}")
        new_optimizer, new_loss = optimizers.get(optimizer), losses.get(loss)
        engines.check_device(device, engine)
        network_of(self.layers, inputs=1 if self._inputs is None else self._inputs)
        self._weights, self._engine = self._held("weights"), None
        self._choice = self._optimizer_state = None
        self.optimizer, self.loss = new_optimizer, new_loss
        self._device, self._engine_name = device, engine

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
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        shuffle: bool = True,
        *,
        initial_epoch: int = 0,
        nb_epoch: int | None = None,
    ) -> History:
        """Train for a number of epochs; call it again to continue.

        x:                (examples, inputs), or images (examples, height, width). uint8 counts as bytes of an image
                          and is scaled to x / 255 when a batch is used; everything else is taken as float32. What
                          NumPy takes, PyTorch's tensors, and arrays on the GPU, which stay there.
        y:                targets as the loss expects them, one per example.
        batch_size:       examples per update, up to their number; the last batch of an epoch may be smaller. 32 if not
                          given, or all if there are fewer.
        epochs:           number of the epoch to end with, counted from 1; 1 if not given. `nb_epoch` was its name in
                          2016.
        verbose:          0 silent, 1 or "auto" with progress bar, 2 a line an epoch.
        validation_split: share of the examples, cut off the end, that is not trained on but evaluated.
        validation_data:  (x, y) to evaluate after every epoch.
        shuffle:          False keeps the examples in the order given.
        initial_epoch:    how many epochs count as done: `epochs=20, initial_epoch=15` trains five. For callbacks,
                          schedules and displays; the shuffle depends on `epochs_trained`.
        Returns:          History: loss (nats) and accuracy, means over the epoch's examples, each taken before the
                          example's update; val_loss and val_accuracy after the epoch; seconds (of training), updates.
        Raises:           ArgumentError before anything has changed; TrainingDivergedError if the loss is not finite,
                          with the model as it was before that epoch; DeviceError if the GPU fails, with the
                          weights of the last whole epoch.
        """
        check_verbose(verbose)
        training = self.planned(
            Checks(), x, y, batch_size, epochs, callbacks, validation_split, validation_data, shuffle, initial_epoch,
            nb_epoch,
        )  # fmt: skip
        if self.epochs_trained == 0:
            hint_at_class_0(training.train[1], training.network.classes)
        history = History()
        display = [ProgressDisplay(bars=None if verbose != 2 else False)] if verbose else []
        hooks: list[Callback] = [*display, *training.callbacks, history]

        def progress(updates: int) -> None:
            for hook in hooks:
                hook.on_progress(updates)

        run_alone(self.steps(training, hooks), progress)
        return history

    @explained
    @turns.short
    def evaluate(
        self, x: ArrayLike, y: ArrayLike | None = None, batch_size: int | None = None, verbose: str | int = "auto"
    ) -> list[float]:
        """[loss, accuracy]: mean loss in nats and share of examples whose most probable class is the target's.

        batch_size, verbose: taken for the sake of Keras' spelling; the engine takes as many examples at a time as suit
        it, and nothing is printed.
        """
        self._require_compiled("evaluate")
        images, scale = as_images("x", x, self._inputs)
        scale.require("x", self.scale)
        network = network_of(self.layers, images.shape[1])
        targets = as_targets("y", y, str(self.loss), network.classes, len(images))
        self._build(network)
        engine, (uploaded_images, uploaded_targets) = self._engine_with(self._present_choice(), images, targets)
        return list(engine.evaluate(uploaded_images, uploaded_targets))

    @explained
    @turns.short
    def predict(self, x: ArrayLike, batch_size: int | None = None, verbose: str | int = "auto") -> NDArray[np.floating]:
        """Probabilities (examples, classes) float32. batch_size, verbose: as in `evaluate`."""
        images, scale = as_images("x", x, self._inputs)
        scale.require("x", self.scale)
        self._build(network_of(self.layers, images.shape[1]))
        engine, (uploaded,) = self._engine_with(self._present_choice(), images)
        return engine.predict(uploaded)

    @turns.short
    def get_weights(self) -> list[NDArray[np.floating]]:
        """Copies of weights (inputs, units) and bias (units,), layer after layer."""
        self._build(self.network)
        return [array.copy() for array in self._held("weights")]

    @turns.short
    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Replace the weights, given as `get_weights` gives them; the optimizer's state stays.

        What the model was trained on (`scale`) counts no longer, except where a callback brings back weights of before.
        """
        network = self.network
        arrays = as_weights(weights, network.weight_shapes)
        self._build(network)
        if not self._turns.training:
            self.scale = None
        self._weights = arrays
        if (engine := self._present_engine()) is not None:
            engine.weights = arrays

    @property
    @turns.short
    def optimizer_state(self) -> OptimizerState:
        """Where the optimizer stands: updates made, and for each of its slots an array for each array of weights.

        A copy. With weights, optimizer and `epochs_trained` it is all that is needed to go on elsewhere.
        Setting it raises ArgumentError unless it is a state of this optimizer for this network.
        """
        self._require_compiled("optimizer_state")
        assert self.optimizer is not None
        state = self._held("optimizer_state")
        return copy.deepcopy(state) or OptimizerState.at_start(self.optimizer, self.network)

    @optimizer_state.setter
    @turns.short
    def optimizer_state(self, state: OptimizerState) -> None:
        self._require_compiled("optimizer_state")
        assert self.optimizer is not None
        checked = as_optimizer_state(state, self.optimizer, self.network)
        self._build(self.network)
        if (engine := self._present_engine()) is not None:
            engine.optimizer_state = checked
        else:
            self._optimizer_state = checked

    @explained
    def save(self, path: str | os.PathLike[str], *, include_optimizer: bool = False) -> None:
        """Write the model to a file, `.safetensors` or `.npz`, for `gpunet.load`; an old one is replaced as a whole.

        include_optimizer: also where the optimizer stands, so that training goes on as if it had not stopped. The
                           file is then three times as large (Adam), and PyTorch's load_state_dict refuses it.
        Raises:            OutputError if the file cannot be written; an old one then stays as it was.
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
        )

    @explained
    @turns.short
    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Replace the weights by a file's: one that `save` wrote, or a PyTorch state_dict as `.safetensors`.

        Raises ModelFileError, before anything has changed, if the file is damaged or belongs to another network.
        """
        network, weights, scale = saving.read_weights(path, self.layers, self._inputs)
        self._build(network)
        self.set_weights(weights)
        self.scale = scale

    @explained
    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print the layers with their output shapes and numbers of parameters."""
        network = self.network
        print_fn(f"{'layer':<10}{'activation':<14}{'output':<14}{'parameters':>12}")
        for (inputs, units), activation in zip(network.sizes, network.activations, strict=True):
            print_fn(f"{'Dense':<10}{activation:<14}{f'(None, {units})':<14}{inputs * units + units:>12,}")
        print_fn(f"{'total':<38}{network.parameters:>12,}")

    @property
    def network(self) -> Network:
        """The network that the layers describe; ArgumentError if they do not say the number of inputs."""
        return self._network or network_of(self.layers)

    def planned(
        self,
        checks: Checks,
        x: ArrayLike,
        y: ArrayLike | None,
        batch_size: int | None,
        epochs: int | None,
        callbacks: Sequence[Callback] | None,
        validation_split: float,
        validation_data: tuple[ArrayLike, ArrayLike] | None,
        shuffle: bool,
        initial_epoch: int,
        nb_epoch: int | None = None,
    ) -> Training:
        """The arguments of `fit`, checked. For this package; changes nothing."""
        self._require_compiled("fit")
        if epochs is not None and nb_epoch is not None:
            raise ArgumentError(f"epochs={epochs!r} and nb_epoch={nb_epoch!r} mean the same; give one")
        last = require_positive_integer("epochs", next((e for e in (epochs, nb_epoch) if e is not None), 1))
        first = require_count("initial_epoch", initial_epoch)
        checked_callbacks = _check_callbacks(callbacks)
        train, validation, network, scale = self._check_examples(checks, x, y, validation_split, validation_data)
        size = _check_batch_size(batch_size, len(train[0]))
        assert self.optimizer is not None
        optimizers.get(self.optimizer).check()  # it may have been replaced since `compile`
        choice = engines.choose(network, size, self._device, self._engine_name, self.optimizer)
        return Training(range(first, last), size, train, validation, network, scale, choice, shuffle, checked_callbacks)

    def steps(self, training: Training, hooks: Sequence[Callback], upload: Upload = as_engine_uploads) -> Steps:
        """Go through a training, and yield each epoch as a task to be done. For this package."""
        self._build(training.network)
        for hook in hooks:
            hook.set_model(self)
            hook.set_params(
                {
                    "epochs": training.epochs.stop,
                    "steps": training.epoch_updates,
                    "do_validation": training.validation is not None,
                }
            )
        arrays = *training.train, *(training.validation or ())
        engine, uploaded = self._engine_with(training.choice, *arrays, batch_size=training.batch_size, upload=upload)
        self.stop_training = False
        begun: list[Callback] = []
        try:
            for hook in hooks:
                hook.on_train_begin()
                begun.append(hook)
            for epoch in training.epochs:
                for hook in hooks:
                    hook.on_epoch_begin(epoch)
                order = self._next_order(len(training.train[0]), training.shuffle)
                task = EpochTask(engine, uploaded, order, training.batch_size)
                try:
                    yield from self._counted(task, training.scale)
                    for hook in hooks:
                        hook.on_epoch_end(epoch, task.logs)
                except DeviceError as error:
                    if engine.lost is None or self._engine is not engine:
                        raise
                    self._leave_engine()
                    raise DeviceError(f"{error}; the model keeps the weights of its last whole epoch") from error
                except TrainingDivergedError as error:
                    self.stop_training = False
                    diverged = TrainingDivergedError(error.update, epoch + 1)
                    for hook in hooks:
                        hook.on_divergence(diverged)
                    if not self.stop_training:
                        raise diverged from None
                if self.stop_training:
                    break
        finally:
            try:
                for hook in begun:
                    hook.on_train_end()
            finally:
                engine.release()  # what comes next, another fit perhaps, needs the memory

    def _counted(self, task: EpochTask, scale: Scale) -> Steps:
        """Yield the task; the model counts it as a whole when it is done, and not at all if anything comes between."""
        counted = False
        self._turns.in_epoch = True
        try:
            yield task
            joined = scale.joined(self.scale)
            self._weights, self.scale, self.epochs_trained = task.weights, joined, self.epochs_trained + 1
            counted = True
        finally:
            self._turns.in_epoch = False
            if task.done and not counted:
                task.undo()

    def _next_order(self, examples: int, shuffle: bool) -> NDArray[np.int32]:
        """The order of the examples in the next epoch; a function of seed and epoch alone."""
        if not shuffle:
            return np.arange(examples, dtype=np.int32)
        return self._random(SHUFFLE, self.epochs_trained).permutation(examples).astype(np.int32)

    def _random(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    @property
    def _inputs(self) -> int | None:
        """The number of inputs, as far as it is known before any data."""
        if self._network is not None:
            return self._network.inputs
        return getattr(self.layers[0], "inputs", None) if self.layers else None

    def _check_examples(
        self,
        checks: Checks,
        x: ArrayLike,
        y: ArrayLike | None,
        validation_split: float,
        validation_data: tuple[ArrayLike, ArrayLike] | None,
    ) -> tuple[Arrays, Arrays | None, Network, Scale]:
        """(training, validation, network, scale of all that is trained on), checked and in the engines' form.

        Changes nothing.
        """
        images, scale = checks.images("x", x, self._inputs)
        scale.require("x", self.scale)
        network = network_of(self.layers, images.shape[1])
        targets = checks.targets("y", y, str(self.loss), network.classes, len(images))
        if validation_data is not None:
            pair: Any = validation_data
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                several = f" of {len(pair)}" if isinstance(pair, tuple | list) else ""
                raise ArgumentError(f"validation_data: expected a pair (x, y), got {type(pair).__name__}{several}")
            val_images, val_scale = checks.images("validation_data x", validation_data[0], network.inputs)
            val_scale.require("validation_data x", scale, whose="x is")
            val_targets = checks.targets(
                "validation_data y", validation_data[1], str(self.loss), network.classes, len(val_images)
            )
            return (images, targets), (val_images, val_targets), network, scale
        first = int(len(images) * (1 - _check_share("validation_split", validation_split)))  # as Keras rounds it
        if first == 0:
            raise ArgumentError(
                f"validation_split: {validation_split!r} leaves nothing of {len(images)} examples to train on"
            )
        if first == len(images):
            return (images, targets), None, network, scale
        return (images[:first], targets[:first]), (images[first:], targets[first:]), network, scale

    def _require_compiled(self, method: str) -> None:
        if self.loss is None:
            raise NotCompiledError(f"{method}: the model is not compiled; call model.compile(loss=...) first")

    def _build(self, network: Network) -> None:
        """Give the model its first weights, if it has none: Glorot uniform, biases zero.

        Source: Glorot & Bengio, Understanding the difficulty of training deep feedforward neural networks (2010),
        equation 16: uniform in +-sqrt(6 / (inputs + units)).
        """
        if self._network is not None:
            return
        weights: list[NDArray[np.floating]] = []
        for layer, (inputs, units) in enumerate(network.sizes):
            limit = np.sqrt(6 / (inputs + units))
            start = self._random(START, layer).uniform(-limit, limit, (inputs, units))
            weights += [start.astype(np.float32), np.zeros(units, np.float32)]
        self._weights = weights  # when all are there: memory may run out on the way
        self._network = network

    def _present_choice(self) -> Choice:
        """For predict and evaluate: the engine that trains, if there is one; moving to another would be for nothing."""
        self._present_engine()
        if self._choice is None:
            self._choice = engines.choose(self.network, PREDICT_BATCH, self._device, self._engine_name)
        return self._choice

    def _engine_with(
        self, choice: Choice, *arrays: NDArray[Any], batch_size: int | None = None, upload: Upload = as_engine_uploads
    ) -> tuple[Engine, list[Any]]:
        """The engine of a choice, and arrays where it wants them; with a batch size, ready to train on the first two.

        Where a GPU refuses (it may lack the memory) what was not asked for by name, the next best engine serves, with a
        warning. Not once `fit` has its engine, which holds the weights that it trains.
        """
        while True:
            try:
                return self._prepared(choice, arrays, batch_size, upload)
            except DeviceError as error:
                other = engines.instead_of(choice, self.network, self._device, self._engine_name)
                if self._turns.training and batch_size is None:
                    raise
                if self._engine is not None:
                    self._engine.release()
                if other is None:
                    raise
                line = f"device {engines.DEVICE_OF[other.engine]}, engine {other.engine}: {error}"
            # Out of the handler, so that nothing of the failed attempt holds memory any more.
            warn(line)
            choice = other

    def _prepared(
        self, choice: Choice, arrays: Sequence[NDArray[Any]], batch_size: int | None, upload: Upload
    ) -> tuple[Engine, list[Any]]:
        engine = self._use(choice)
        uploaded = [upload(engine, array) for array in arrays]
        if batch_size is not None:
            validation = (uploaded[2], uploaded[3]) if len(uploaded) > 2 else None
            engine.prepare(uploaded[0], uploaded[1], len(arrays[0]), batch_size, validation)
        return engine, uploaded

    def _present_engine(self) -> Engine | None:
        """The engine, if there is one; one that is lost is left, with a warning."""
        if self._engine is not None and (why := self._engine.lost):
            warn(f"{why}: the model continues from the weights of its last whole epoch")
            self._leave_engine()
        return self._engine

    def _leave_engine(self) -> None:
        """Do without an engine that is lost. Weights are kept at every epoch's end; the optimizer starts anew."""
        self._engine = self._choice = self._optimizer_state = None

    def _held(self, what: str) -> Any:
        """`weights` or `optimizer_state`, from the engine if there is one."""
        engine = self._present_engine()
        if engine is not None:
            try:
                return getattr(engine, what)
            except DeviceError:
                if engine.lost is None:
                    raise
                self._present_engine()
        return getattr(self, f"_{what}")

    def _use(self, choice: Choice) -> Engine:
        """The engine, made at first use; weights and optimizer state move if it is another one than before."""
        if self._engine is not None and self._engine.name != choice.engine:
            self._weights, self._optimizer_state = self._held("weights"), self._held("optimizer_state")
            self._engine = None  # frees its memory before the next one takes some
        if self._engine is None:
            self._engine = choice.make(self.network, self.optimizer or optimizers.SGD(), self._weights)
            if self._optimizer_state is not None:
                self._engine.optimizer_state = self._optimizer_state
        self._choice = choice
        return self._engine


@explained
def load(path: str | os.PathLike[str], *, device: str = "auto", engine: str = "auto") -> Sequential:
    """The model in a file that `model.save`, `ModelCheckpoint` or `gpunet.train --checkpoint` wrote.

    It is compiled if it was; what is not in a file is where to compute (device, engine: as in `compile`).
    Raises ModelFileError, in one line that names the file, if it is damaged, cut short, no such file, or from a newer
    version of gpunet.
    """
    return restore(saving.read(path), device, engine)


def restore(saved: saving.Saved, device: str = "auto", engine: str = "auto") -> Sequential:
    """The model that was saved."""
    inputs, *widths = saved.network.widths
    layers = [Dense(units, activation) for units, activation in zip(widths, saved.network.activations, strict=True)]
    layers[0].inputs = inputs
    model = Sequential(layers, seed=saved.seed)
    if saved.loss is not None and saved.optimizer is not None:
        model.compile(saved.optimizer, saved.loss, device=device, engine=engine)
    engines.check_device(device, engine)
    model._device, model._engine_name = device, engine
    model._network, model._weights = saved.network, saved.weights
    model.epochs_trained, model.scale = saved.epochs_trained, saved.scale
    if saved.optimizer_state is not None:
        model.optimizer_state = saved.optimizer_state
    return model


def hint_at_class_0(targets: NDArray[Any], classes: int) -> None:
    """Warn where labels seem to be counted from 1: there is the last class, and never the first."""
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


def check_verbose(verbose: object) -> None:
    if not isinstance(verbose, str | int) or verbose not in ("auto", 0, 1, 2):
        raise ArgumentError(f"verbose: expected 'auto', 0, 1 or 2; got {shown(verbose)}")


def _check_batch_size(batch_size: object, examples: int) -> int:
    if batch_size is None:
        return min(DEFAULT_BATCH, examples)
    size = require_positive_integer("batch_size", batch_size)
    if size > examples:
        raise ArgumentError(f"batch_size: expected at most the {examples} training examples, got {size}")
    return size


def _check_share(name: str, value: object) -> float:
    if not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise ArgumentError(f"{name}: expected a share in [0, 1), got {shown(value)}")
    return float(value)


def _check_callbacks(callbacks: object) -> list[Callback]:
    if callbacks is None:
        return []
    if not isinstance(callbacks, Iterable):
        raise ArgumentError(f"callbacks: expected a list of gpunet.Callback objects, got {shown(callbacks)}")
    return [check_callback(callback) for callback in callbacks]
