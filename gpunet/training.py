"""How a training goes on: epoch by epoch, each a task that an engine does, with callbacks in between.

Sequential yields the tasks and looks after the model between them; `run_alone` is `fit`, and many.py does the tasks of
several models side by side. So what a model goes through is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpunet.arrays import as_images, as_targets, is_finite
from gpunet.callbacks import Callback, Logs
from gpunet.engines import Choice, Engine
from gpunet.engines.base import Progress
from gpunet.errors import TrainingDivergedError
from gpunet.layers import Network
from gpunet.scale import Scale

Arrays = tuple[NDArray[Any], NDArray[Any]]  # examples in the engines' form: images and targets
Upload = Callable[[Engine, NDArray[Any]], Any]  # an array where an engine wants it


def as_engine_uploads(engine: Engine, array: NDArray[Any]) -> Any:
    return engine.upload(array)


class Training(NamedTuple):
    """What a call of `fit` is to do, checked. epochs: by number, from 0."""

    epochs: range
    batch_size: int
    train: Arrays
    validation: Arrays | None
    network: Network
    scale: Scale
    choice: Choice
    shuffle: bool
    callbacks: list[Callback]

    @property
    def epoch_updates(self) -> int:
        return -(-len(self.train[0]) // self.batch_size)


class EpochTask:
    """An epoch for an engine to make, by whichever thread. It is whole, or undone.

    uploaded: images and labels to train on, then those to evaluate, if any.
    After `run`, logs are what the epoch reports, and weights the model's.
    """

    def __init__(self, engine: Engine, uploaded: Sequence[Any], order: NDArray[np.int32], batch_size: int) -> None:
        self._engine, self._uploaded, self._order, self._batch_size = engine, uploaded, order, batch_size
        self.logs: Logs = {}
        self.weights: list[NDArray[np.floating]] = []
        self.done = False

    def run(self, progress: Progress) -> None:
        """Raises TrainingDivergedError, with the engine as before the epoch, if loss or weights are not finite."""
        images, labels, *validation = self._uploaded
        statistics = self._engine.train_epoch(images, labels, self._order, self._batch_size, progress)
        try:
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
            self.done = True
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        if self._engine.lost is None:
            self._engine.undo_epoch()


Steps = Generator[EpochTask, None, None]  # runs on after a task was done; its error is thrown in where it failed


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


class Checks:
    """Users' arrays, checked: once, for however many models they are."""

    def __init__(self) -> None:
        self._images: dict[str, tuple[NDArray[Any], Scale]] = {}
        self._targets: dict[tuple[str, str, int], NDArray[Any]] = {}

    def images(self, name: str, x: ArrayLike, inputs: int | None) -> tuple[NDArray[Any], Scale]:
        """As `as_images`."""
        known = self._images.get(name)
        if known is None or inputs not in (None, known[0].shape[1]):
            known = self._images[name] = as_images(name, x, inputs)
        return known

    def targets(self, name: str, y: ArrayLike | None, loss: str, classes: int, examples: int) -> NDArray[Any]:
        """As `as_targets`."""
        key = name, loss, classes
        if key not in self._targets:
            self._targets[key] = as_targets(name, y, loss, classes, examples)
        return self._targets[key]
