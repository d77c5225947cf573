"""The loop of a training: epoch by epoch, each a task for an engine, with callbacks in between.

`steps` yields the tasks and updates the model between them. `run_alone` is for `fit`; many.py runs the tasks of several
models side by side. So what happens to a model is written only once.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gpunet import seeds
from gpunet.arrays import is_finite
from gpunet.callbacks import Callback, Logs
from gpunet.engines import Engine
from gpunet.engines.base import Progress
from gpunet.engines.dropout import NO_KEY, Key
from gpunet.errors import DeviceError, TrainingDivergedError
from gpunet.fit_arguments import Training
from gpunet.regularizers import penalty
from gpunet.scale import Scale
from gpunet.session import Upload, as_engine_uploads

if TYPE_CHECKING:
    from gpunet.model import Sequential


class EpochTask:
    """An epoch for an engine to train, in any thread. It is complete or undone.

    uploaded: images and labels to train on, then those to evaluate, if any.
    After `run`, logs holds what the epoch reports, and weights the model's weights.
    """

    def __init__(
        self,
        engine: Engine,
        uploaded: Sequence[Any],
        order: NDArray[np.int32],
        batch_size: int,
        key: Key = NO_KEY,
    ) -> None:
        self._engine, self._uploaded, self._order, self._batch_size = engine, uploaded, order, batch_size
        self._key = key
        self.logs: Logs = {}
        self.weights: list[NDArray[np.floating]] = []
        engine.keep_epoch()  # earlier epochs are not this task's to undo

    def run(self, progress: Progress) -> None:
        """Raises TrainingDivergedError, with the engine as before the epoch, if loss or weights are not finite."""
        images, labels, *validation = self._uploaded
        try:
            # Inside: Ctrl-C may come when the engine is done, before anything here knows of it.
            statistics = self._engine.train_epoch(images, labels, self._order, self._batch_size, progress, self._key)
            self.logs = {
                "loss": statistics.loss,
                "accuracy": statistics.accuracy,
                "seconds": statistics.seconds,
                "updates": statistics.updates,
            }
            if validation:
                self.logs["val_loss"], self.logs["val_accuracy"] = self._engine.evaluate(*validation)
                if not np.isfinite(self.logs["val_loss"]):
                    raise TrainingDivergedError(statistics.updates)
            # Losses are taken before an update; what the last update of the epoch did shows in the weights alone.
            self.weights = self._engine.weights
            if not all(is_finite(array) for array in self.weights):
                raise TrainingDivergedError(statistics.updates)
            self._add_penalty()
        except BaseException:
            self.undo()
            raise

    def _add_penalty(self) -> None:
        """The losses include what the network's penalties are in the end; during the epoch nobody sums them up."""
        if self._engine.network.l2:
            added = penalty(self._engine.network, self.weights)
            self.logs |= {name: value + added for name, value in self.logs.items() if name in ("loss", "val_loss")}

    def undo(self) -> None:
        """May be called before or after `run`, and more than once."""
        self._engine.undo_epoch()


Steps = Generator[EpochTask, None, None]  # runs on after a task was done; its error is thrown in where it failed


def steps(
    model: Sequential, training: Training, hooks: Sequence[Callback], upload: Upload = as_engine_uploads
) -> Steps:
    """Go through a training of a model, and yield each epoch as a task to be done."""
    session = model._session
    model._build(training.network)
    model._class_names = training.class_names
    for hook in hooks:
        hook.set_model(model)
        hook.set_params(
            {
                "epochs": training.epochs.stop,
                "steps": training.epoch_updates,
                "do_validation": training.validation is not None,
            }
        )
    assert model.optimizer is not None
    arrays = *training.train, *(training.validation or ())
    engine, uploaded = session.engine_to_train(training.choice, model.optimizer, arrays, training.batch_size, upload)
    model.stop_training = False
    begun: list[Callback] = []
    try:
        for hook in hooks:
            hook.on_train_begin()
            begun.append(hook)
        for epoch in training.epochs:
            for hook in hooks:
                hook.on_epoch_begin(epoch)
            key = seeds.epoch_key(model.seed, model.epochs_trained)
            task = EpochTask(engine, uploaded, _next_order(model, training), training.batch_size, key)
            try:
                yield from _counted(model, task, training.scale)
                for hook in hooks:
                    hook.on_epoch_end(epoch, task.logs)
            except DeviceError as error:
                if engine.lost is None or session.engine is not engine:
                    raise
                session.leave_engine()
                raise DeviceError(f"{error}; the model keeps the weights of its last whole epoch") from error
            except TrainingDivergedError as error:
                model.stop_training = False
                diverged = TrainingDivergedError(error.update, epoch + 1)
                for hook in hooks:
                    hook.on_divergence(diverged)
                if not model.stop_training:
                    raise diverged from None
            if model.stop_training:
                break
    finally:
        try:
            for hook in begun:
                hook.on_train_end()
        finally:
            engine.release()  # what comes next, another fit perhaps, needs the memory


def _next_order(model: Sequential, training: Training) -> NDArray[np.int32]:
    """The order of the examples in the model's next epoch; a function of seed and epoch alone."""
    examples = len(training.train[0])
    if not training.shuffle:
        return np.arange(examples, dtype=np.int32)
    return seeds.epoch_order(model.seed, model.epochs_trained, examples)


def _counted(model: Sequential, task: EpochTask, scale: Scale) -> Steps:
    """Yield the task; the model counts it as a whole when it is done, and not at all if anything comes between."""
    before = model.epochs_trained
    model._turns.in_epoch = True
    try:
        yield task
        joined, session = scale.joined(model.scale), model._session
        session.kept_weights, model.scale, model.epochs_trained = task.weights, joined, model.epochs_trained + 1
    finally:
        model._turns.in_epoch = False
        if model.epochs_trained == before:
            task.undo()


def run_alone(steps: Steps, progress: Progress) -> None:
    """Do one task after the other."""
    try:
        task = next(steps, None)
        while task is not None:
            try:
                task.run(progress)
            except BaseException as error:
                task = thrown(steps, error)
            else:
                task = next(steps, None)
    finally:
        steps.close()  # Ctrl-C may have come between them


def thrown(steps: Steps, error: BaseException) -> EpochTask | None:
    """Go on with an error in the place of what a task did; the next task, None if there is none."""
    try:
        return steps.throw(error)
    except StopIteration:
        return None
