"""fit_many: many networks at once, each trained as `fit` trains it.

The calling thread runs all the Python code: it goes through each model's steps (epoch_loop.py), including callbacks,
and gives each epoch to another thread, in which the engine trains it. A model that has started continues to its end
before another one takes its place, so that its arrays stay in the processor's cache.
"""

from __future__ import annotations

import _thread
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from numpy.typing import ArrayLike, NDArray

from gpunet import engines, threads
from gpunet.callbacks import Callback, History
from gpunet.engines import Choice, Engine
from gpunet.engines.cuda.engine import CudaEngine
from gpunet.engines.weighted import Weighted
from gpunet.epoch_loop import EpochTask, Steps, steps, thrown
from gpunet.errors import ArgumentError, DeviceError, NotCompiledError, first_line, shown, warn
from gpunet.fit_arguments import Checks, FitArguments, Training, check_verbose, hint_at_class_0
from gpunet.keras_names import explained
from gpunet.model import Sequential
from gpunet.places import Places, places_of
from gpunet.progress_of_many import ProgressOfMany

AIR_SECONDS = 0.05  # how often the calling thread looks at the progress, and for Ctrl-C
MOST_TOLD = 3  # errors in the one warning

Each = int | Sequence[int] | None  # one for all models, or one for each


@explained
def fit_many(
    models: Sequence[Sequential],
    x: ArrayLike,
    y: ArrayLike | None = None,
    batch_size: Each = None,
    epochs: Each = None,
    verbose: str | int = "auto",
    callbacks: Sequence[Sequence[Callback] | None] | None = None,
    validation_split: float = 0.0,
    validation_data: Sequence[ArrayLike] | None = None,
    shuffle: bool = True,
    class_weight: Mapping[int, float] | str | None = None,
    sample_weight: ArrayLike | None = None,
    *,
    initial_epoch: Each = 0,
) -> list[History]:
    """Train compiled models at the same time on the same data. Each ends with the same bits as with `fit` alone.

    models:        any number, each with its own layers, optimizer, learning rate, loss, seed, device and engine.
    batch_size, epochs, initial_epoch: as in `fit`; a number for all models, or a list with one for each.
    callbacks:     a list of callbacks for each model, or None for a model without any. They run in the calling thread,
                   never two at once. A callback belongs to one model.
    verbose:       0: silent; 1 or "auto": a progress bar over all models, and a line for each at its end; 2: a line for
                   each epoch of each model.
    The other arguments are those of `fit`. The data is checked once, and all models of a device share one copy.

    On a CPU, as many models train at a time as there are cores (or threads, see `fit`), with one thread each; when
    fewer models than cores are left, each gets more threads. On a GPU, models with the `persistent` engine share the
    multiprocessors, as many at a time as an estimate says is fastest overall; models with the `tiled` engine take turns
    with the whole GPU.

    Returns:       a History for each model. A model that diverges, or whose callback or engine fails, stops alone, as
                   `fit` would leave it; the others continue. `error` of its History is the exception, and one warning
                   at the end names these models.
    Raises:        ArgumentError, NotCompiledError or DeviceError, naming the model, before anything changes. Ctrl-C
                   stops all models; each is then in its state after its last complete epoch.
    """
    checked = _check_models(models)
    running = threading.Lock()
    with running:  # held for the trainings of all models: see turns.py
        for number, model in enumerate(checked):
            with model._turns.lock, _named(number):
                model._turns.begin_training(running)
        check_verbose(verbose)
        trainings = _planned(
            checked, x, y, batch_size, epochs, callbacks, validation_split, validation_data, shuffle, class_weight,
            sample_weight, initial_epoch,
        )  # fmt: skip
        _hint_once(checked, trainings)
        display = ProgressOfMany(trainings, verbose)
        uploads = _Uploads()
        members = [
            _Member(number, model, training, display.of(number), uploads)
            for number, (model, training) in enumerate(zip(checked, trainings, strict=True))
        ]
        _SideBySide(members, display).run()
    _warn_of_errors(members)
    return [member.history for member in members]


# Arguments


def _check_models(models: object) -> list[Sequential]:
    if not isinstance(models, Iterable) or isinstance(models, Sequential):
        raise ArgumentError(f"models: expected a list of models, got {shown(models)}")
    found: list[Sequential] = []
    for number, model in enumerate(models):
        if not isinstance(model, Sequential):
            raise ArgumentError(f"models[{number}]: expected a Sequential, got {shown(model)}")
        if any(model is other for other in found):
            first = next(place for place, other in enumerate(found) if model is other)
            raise ArgumentError(
                f"models[{number}]: the same model as models[{first}]; pass a copy (copy.deepcopy) to train both"
            )
        found.append(model)
    if not found:
        raise ArgumentError("models: expected at least one model, got none")
    return found


def _planned(
    models: Sequence[Sequential],
    x: ArrayLike,
    y: ArrayLike | None,
    batch_size: Each,
    epochs: Each,
    callbacks: Sequence[Sequence[Callback] | None] | None,
    validation_split: float,
    validation_data: Sequence[ArrayLike] | None,
    shuffle: bool,
    class_weight: object,
    sample_weight: ArrayLike | None,
    initial_epoch: Each,
) -> list[Training]:
    count, checks = len(models), Checks()
    trainings: list[Training] = []
    each = zip(
        models,
        _one_each("batch_size", batch_size, count),
        _one_each("epochs", epochs, count),
        _callbacks_of_each(callbacks, count),
        _one_each("initial_epoch", initial_epoch, count),
        strict=True,
    )
    for number, (model, size, last, hooks, first) in enumerate(each):
        with _named(number):
            arguments = FitArguments(
                x, y, size, last, hooks, validation_split, validation_data, shuffle, class_weight, sample_weight, first
            )
            training = model.planned(arguments, checks)
        for hook in training.callbacks:
            for other, earlier in enumerate(trainings):
                if any(hook is known for known in earlier.callbacks):
                    raise ArgumentError(
                        f"callbacks[{number}]: the same {type(hook).__name__} as in callbacks[{other}]; a callback "
                        "belongs to one model: make one for each"
                    )
        trainings.append(training)
    return trainings


@contextlib.contextmanager
def _named(number: int) -> Iterator[None]:
    """Around a check: which model an error is about."""
    try:
        yield
    except (ArgumentError, NotCompiledError, DeviceError) as error:
        raise type(error)(f"models[{number}]: {error}") from None


def _one_each(name: str, value: Any, models: int) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value] * models
    values = list(value)
    if len(values) != models:
        raise ArgumentError(f"{name}: expected one number, or one for each of the {models} models; got {len(values)}")
    return values


def _callbacks_of_each(callbacks: Any, models: int) -> list[Any]:
    if callbacks is None:
        return [None] * models
    expected = f"callbacks: expected a list of callbacks for each of the {models} models"
    if not isinstance(callbacks, Iterable):
        raise ArgumentError(f"{expected}, got {shown(callbacks)}")
    lists = list(callbacks)
    for number, one in enumerate(lists):
        if isinstance(one, Callback):
            raise ArgumentError(f"{expected}, got a single {type(one).__name__} at {number}: put it into a list")
    if len(lists) != models:
        raise ArgumentError(f"{expected}, got {len(lists)}")
    return lists


def _hint_once(models: Sequence[Sequential], trainings: Sequence[Training]) -> None:
    """As `fit` hints at labels that are counted from 1, but not for every model."""
    hinted: list[tuple[object, int]] = []
    for model, training in zip(models, trainings, strict=True):
        kind = model.loss, training.network.classes
        if model.epochs_trained == 0 and kind not in hinted:
            hint_at_class_0(training.train[1], training.network.classes)
            hinted.append(kind)


def _warn_of_errors(members: Sequence[_Member]) -> None:
    failed = [member for member in members if member.history.error is not None]
    if failed:
        told = "; ".join(f"models[{member.number}]: {member.told}" for member in failed[:MOST_TOLD])
        more = f"; and {len(failed) - MOST_TOLD} more" if len(failed) > MOST_TOLD else ""
        warn(
            f"{len(failed)} of {len(members)} trainings ended with an error (see `error` of each History): {told}{more}"
        )


# Trainings side by side


class _Uploads:
    """Puts arrays where engines want them: once for all engines of a GPU, and all engines of a kind on the CPU."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[Any, Any]] = {}

    def __call__(self, engine: Engine, array: NDArray[Any]) -> Any:
        if isinstance(array, Weighted):
            return array.moved(lambda part: self(engine, part))
        memory: Any = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
        key = _where(engine), memory["data"][0], array.shape, array.dtype
        if key not in self._known:
            self._known[key] = array, engine.upload(array)  # the array itself too, or its memory might be another's
        return self._known[key][1]


def _where(engine: Engine) -> tuple[str, int]:
    """What two engines have in common that can read the same arrays."""
    return ("cuda", engine.device.index) if isinstance(engine, CudaEngine) else (engine.name, 0)


class _StopError(BaseException):
    """Ends an epoch that is not wanted any more."""


class _Errand:
    """An epoch in the hands of another thread. over: it will not touch the model any more."""

    def __init__(self, task: EpochTask) -> None:
        self.task, self.updates, self.stop = task, 0, False
        self.error: BaseException | None = None
        self._over = False
        self._tickets = [None]  # taken by the thread when it begins, or before that by who does not want it any more

    def run(self, most_threads: int) -> None:
        if not self._claimed():
            return
        try:
            with threads.at_most(most_threads):
                self.task.run(self._note)
        except BaseException as error:
            self.error = error
        self._over = True

    @property
    def over(self) -> bool:
        return self._over

    def call_off(self) -> bool:
        """Let it end soon; whether it is over."""
        self.stop = True
        if self._claimed():
            self._over = True
        return self._over

    def _claimed(self) -> bool:
        try:
            self._tickets.pop()  # one operation for Python: only one thread gets it
        except IndexError:
            return False
        return True

    def _note(self, updates: int) -> None:
        self.updates = updates
        if self.stop:
            raise _StopError


class _Member:
    """One of the models: its steps, and how far it is."""

    def __init__(
        self, number: int, model: Sequential, training: Training, display: Callback, uploads: _Uploads
    ) -> None:
        self.number, self.history = number, History()
        self.device = (engines.DEVICE_OF[training.choice.engine], training.choice.gpu)  # where it takes a place
        self.training, self._model, self._uploads = training, model, uploads
        self.hooks: list[Callback] = [display, *training.callbacks, self.history]
        self.place: Choice | None = None  # once it has one
        self.steps: Steps | None = None  # from then on
        self.errand: _Errand | None = None
        self._reported = 0
        self._error: Exception | None = None  # of a callback while the epoch goes on

    @property
    def told(self) -> str:
        """Its error in a line."""
        error = self.history.error
        return f"{type(error).__name__}: {first_line(error)}" if error is not None else ""

    def take_place(self, places: Places, trainings: int) -> bool:
        """Whether there is one now; then the training begins there. trainings: on this device, not yet ended."""
        assert self._model.optimizer is not None
        self.place = places.take(self.training, self._model.optimizer.rule, trainings)
        if self.place is None:
            return False
        there = self.training._replace(choice=self.place)
        self.steps = steps(self._model, there, self.hooks, self._uploads)
        return True

    def begin_errand(self, task: EpochTask) -> _Errand:
        self.errand, self._reported, self._error = _Errand(task), 0, None
        return self.errand

    def report(self) -> None:
        """Tell the callbacks how far the epoch is. What they raise ends the epoch."""
        if self.errand is None or self._error is not None or self.errand.updates == self._reported:
            return
        self._reported = self.errand.updates
        try:
            for hook in self.hooks:
                hook.on_progress(self._reported)
        except Exception as error:
            self._error, self.errand.stop = error, True

    def next_task(self) -> EpochTask | None:
        """Go on to the next epoch; None if there is none. Raises what ends this training."""
        assert self.steps is not None
        if self.errand is None:
            return next(self.steps, None)
        if self.errand.error is None:
            self.report()
        error = self._error or self.errand.error
        return next(self.steps, None) if error is None else thrown(self.steps, error)

    def end(self, error: Exception | None) -> None:
        assert self.steps is not None
        try:
            self.steps.close()
        except Exception as late:
            error = error or late
        self.history.error = error


class _SideBySide:
    """Goes through the trainings of many models, as many at a time as there are places for."""

    def __init__(self, members: Sequence[_Member], display: ProgressOfMany) -> None:
        self._waiting, self._running = list(members), list[_Member]()
        self._display = display
        self._cores = threads.count()
        self._places = {member.device: places_of(member.training.choice) for member in members}
        self._left = Counter(member.device for member in members)  # on each device, not yet ended
        self._bell: SimpleQueue[_Member] = SimpleQueue()
        self._looked = time.monotonic()

    def run(self) -> None:
        try:
            while self._waiting or self._running:
                for member in list(self._waiting):
                    if member.take_place(self._places[member.device], self._left[member.device]):
                        self._running.append(member)
                        self._waiting.remove(member)
                        self._go_on(member)
                if self._running:
                    self._wait()
        except BaseException:
            self._stop()
            raise
        finally:
            self._display.close()

    def _wait(self) -> None:
        """Until an epoch is over, or it is time to look at the progress."""
        try:
            over = self._bell.get(timeout=AIR_SECONDS)
        except Empty:
            over = None
        if time.monotonic() - self._looked >= AIR_SECONDS:
            for member in self._running:
                member.report()
            self._looked = time.monotonic()
        if over is not None:
            self._go_on(over)

    def _go_on(self, member: _Member) -> None:
        """Hand a model's next epoch to a thread, or end its training."""
        error: Exception | None = None
        try:
            if (task := member.next_task()) is not None:
                errand = member.begin_errand(task)
                _thread.start_new_thread(self._run, (member, errand, self._threads_of(member)))
                return
        except Exception as ending:
            error = ending
        member.end(error)
        self._running.remove(member)
        assert member.place is not None
        self._places[member.device].give_back(member.place)
        self._left[member.device] -= 1
        self._display.ended(member.number, member.history, member.told)

    def _run(self, member: _Member, errand: _Errand, most_threads: int) -> None:
        errand.run(most_threads)
        self._bell.put(member)

    def _threads_of(self, member: _Member) -> int:
        """One, and more where fewer models are left than cores: results do not depend on it."""
        return max(1, self._cores // self._left[member.device])

    def _stop(self) -> None:
        """End all, when no thread touches a model any more; a second Ctrl-C does not change that."""
        while True:
            with contextlib.suppress(KeyboardInterrupt):
                while not all(member.errand is None or member.errand.call_off() for member in self._running):
                    time.sleep(0.001)
                break
        for member in self._running:
            with contextlib.suppress(BaseException):  # of callbacks at the end; what ended all is raised
                if member.steps is not None:
                    member.steps.close()
