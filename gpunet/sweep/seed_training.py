"""SeedTraining: connects the training of one seed with the study."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator

from gpunet.callbacks import Callback, Logs
from gpunet.errors import OutputError, TrainingDivergedError, first_line
from gpunet.sweep.outcome import Record
from gpunet.sweep.progress import Progress
from gpunet.sweep.study import Claim, Study


class AbandonedError(BaseException):
    """Ends the trainings of all models; an Exception would end only one. error: the reason."""

    def __init__(self, error: OutputError) -> None:
        self.error = error
        super().__init__(str(error))


class NotNeededError(Exception):
    """The trial ended before this seed began."""


class Heeding(Callback):
    """Lets a signal end the training."""

    def __init__(self, heed: Callable[[], object]) -> None:
        self._heed = heed

    def on_progress(self, updates: int) -> None:
        self._heed()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._heed()


class SeedTraining(Heeding):
    """Records a seed's figures in its trial, and ends the training when the trial ends.

    prune: whether to end a hopeless trial.
    """

    def __init__(
        self, study: Study, claim: Claim, seed: int, prune: bool, heed: Callable[[], object], progress: Progress
    ) -> None:
        super().__init__(heed)
        self._study, self._claim, self._seed, self._prune, self._progress = study, claim, seed, prune, progress
        self._record = Record()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if self._claim.over:
            raise NotNeededError
        self._claim.begun[self._seed] = self._record

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        self._record.add(logs or {})
        if not self._claim.over:
            with _abandoning():
                self._tell(epoch + 1)
        if self._claim.over:
            self.model.stop_training = True

    def on_divergence(self, error: TrainingDivergedError) -> None:
        self.model.stop_training = True  # it is a result, not an error
        if not self._claim.over:
            with _abandoning():
                self._study.diverge(self._claim, str(error))
                self._progress.show(self._study.outcomes(), self._claim.number)

    def failed(self, error: Exception) -> None:
        """Record any other error that ended the training. It would end every other attempt as well."""
        if not self._claim.over:
            self._study.fail(self._claim, f"{type(error).__name__}: {first_line(error)}")
            self._progress.show(self._study.outcomes(), self._claim.number)

    def _tell(self, epoch: int) -> None:
        claim = self._claim
        curves = [record.val_accuracy for record in (*claim.records.values(), *claim.begun.values())]
        self._study.report(claim, epoch, statistics.fmean(curve[epoch - 1] for curve in curves if len(curve) >= epoch))
        self._progress.advance(1 / (self.params["epochs"] * len(self._study.plan.seeds)))
        if epoch == self.params["epochs"]:
            claim.records[self._seed] = claim.begun.pop(self._seed)
            self._study.keep(claim, self._seed)
            if len(claim.records) == len(self._study.plan.seeds):
                self._study.complete(claim)
        elif self._prune and self._study.is_hopeless(claim):
            self._study.prune(claim)
        if claim.over:
            self._progress.show(self._study.outcomes(), claim.number)


@contextlib.contextmanager
def _abandoning() -> Iterator[None]:
    """Abandon all trainings if the study is lost: without it, none is worth continuing."""
    try:
        yield
    except OutputError as error:
        raise AbandonedError(error) from None
