"""A worker: takes trials from the study and trains them side by side, until all are done."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpunet import engines, training_options
from gpunet.callbacks import Callback
from gpunet.callbacks.linear_decay import LinearDecay
from gpunet.data import Dataset
from gpunet.engines import Choice
from gpunet.errors import DeviceError, OutputError
from gpunet.many import fit_many
from gpunet.model import Sequential
from gpunet.places import most_at_a_time
from gpunet.sweep.outcome import Outcome, best_of
from gpunet.sweep.progress import Progress
from gpunet.sweep.seed_training import AbandonedError, Heeding, SeedTraining
from gpunet.sweep.space import Configuration, Space, options_of
from gpunet.sweep.study import Claim, Study

UPDATE_WORK = 100_000  # cost of an update apart from its examples, in parameters of one example
ROUNDS = 8  # the least for a search: each learns from those before
AHEAD = 4  # trials claimed for each that runs, so that no core is idle before the last trial
POLL = 0.2  # seconds between checks for trials that other workers gave up
ENDED = r"\d+ of \d+ trainings ended with an error"  # fit_many's warning: the study has the reasons


@dataclass(frozen=True)
class Bench:
    """What this worker trains on: data, device and engine."""

    dataset: Dataset
    device: str
    engine: str

    def model(self, configuration: Configuration, seed: int) -> Sequential:
        """A new model. Raises ArgumentError for a configuration that cannot be trained on the data."""
        return training_options.model_of(options_of(configuration, seed, self.device, self.engine), self.dataset)

    def work(self, training: tuple[Sequential, Configuration, Callback]) -> float:
        """About how long the training takes, in arbitrary units."""
        model, configuration, _ = training
        options = options_of(configuration, 0, "", "")
        return float(options.epochs * (model.network.parameters + UPDATE_WORK / options.batch_size))

    def choice(self, space: Space) -> Choice:
        """The engine for the first configuration; others may get a different one."""
        configuration = space.pick(lambda _, choice: choice.checked[0])
        model = self.model(configuration, 0)
        batch = options_of(configuration, 0, "", "").batch_size
        return engines.choose(model.network, batch, self.device, self.engine, model.optimizer)


class Worker:
    """heed: called regularly; raises KeyboardInterrupt when it is time to end."""

    def __init__(self, study: Study, bench: Bench, prune: bool, progress: Progress, heed: Callable[[], object]) -> None:
        self._study, self._bench, self._progress, self._heed = study, bench, progress, heed
        self._prune, self._seeds = prune, study.plan.seeds
        self._places = most_at_a_time(bench.choice(study.plan.space))
        self._kept: tuple[int, dict[int, Sequential]] = -1, {}  # the best trial so far, and its networks by seed

    def run(self) -> None:
        """Train until every trial of the study is done, by this worker or another.

        Raises OutputError if the database is unreachable for too long, DeviceError if the device fails, and
        KeyboardInterrupt. Unfinished trials are then left to other workers, if the database can be reached.
        """
        while True:
            self._heed()
            claims, elsewhere = self._study.claim(self._most())
            if claims:
                self._train(claims)
            elif elsewhere:
                self._progress.wait(self._study.outcomes(), elsewhere)
                time.sleep(POLL)
            else:
                return

    def networks(self, outcome: Outcome) -> dict[int, Sequential]:
        """The trained networks of a complete trial, by seed: as kept, or retrained to the same bits."""
        number, kept = self._kept
        networks = dict(kept) if number == outcome.number else {}
        missing = [seed for seed in self._seeds if seed not in networks]
        models = [self._bench.model(outcome.configuration, seed) for seed in missing]
        for error in self._fit([(model, outcome.configuration, Heeding(self._heed)) for model in models]):
            if error is not None:
                raise error
        networks.update(zip(missing, models, strict=True))
        self._kept = outcome.number, networks
        return networks

    def _most(self) -> int:
        """Trials to claim at a time: enough that no core is idle, and fewer when few are left to share."""
        trials = math.ceil(self._places / len(self._seeds))
        if self._study.plan.search:  # the next trials learn from these
            return min(trials, max(2, self._study.trials // ROUNDS))
        left = self._study.trials - self._progress.ended
        return max(trials, min(AHEAD * trials, left // 2))

    def _train(self, claims: Sequence[Claim]) -> None:
        networks: dict[int, dict[int, Sequential]] = {claim.number: {} for claim in claims}
        trainings: list[tuple[Sequential, Configuration, SeedTraining]] = []
        try:
            for claim in claims:
                missing = [seed for seed in self._seeds if seed not in claim.records]
                for seed in missing:
                    model = networks[claim.number][seed] = self._bench.model(claim.configuration, seed)
                    hook = SeedTraining(self._study, claim, seed, self._prune, self._heed, self._progress)
                    trainings.append((model, claim.configuration, hook))
                if not missing:
                    self._complete(claim)
            trainings.sort(key=self._bench.work, reverse=True)  # so that no long training runs alone at the end
            for (_, _, hook), error in zip(trainings, self._fit(trainings), strict=True):
                if isinstance(error, DeviceError):
                    raise error
                if error is not None:
                    hook.failed(error)
        finally:
            with contextlib.suppress(OutputError):  # an unreachable database is already being reported
                self._study.release(claims)
        best = best_of(self._study.outcomes())
        if best is not None and best.number in networks:
            self._kept = best.number, networks[best.number]

    def _complete(self, claim: Claim) -> None:
        """Complete a trial that the search proposed again, or whose worker died just before marking it complete."""
        for seed in claim.records:
            self._study.keep(claim, seed)
        self._study.complete(claim)
        self._progress.show(self._study.outcomes(), claim.number)

    def _fit(self, trainings: Sequence[tuple[Sequential, Configuration, Callback]]) -> list[Exception | None]:
        """Train side by side, as `gpunet train` does; returns the error, or None, that ended each training."""
        if not trainings:
            return []
        options = [options_of(configuration, 0, "", "") for _, configuration, _ in trainings]
        decays = [[LinearDecay()] if option.schedule == "linear" else [] for option in options]
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ENDED)
                histories = fit_many(
                    [model for model, _, _ in trainings],
                    *self._bench.dataset.train,
                    batch_size=[option.batch_size for option in options],
                    epochs=[option.epochs for option in options],
                    verbose=0,
                    callbacks=[[*decay, hook] for decay, (_, _, hook) in zip(decays, trainings, strict=True)],
                    validation_data=self._bench.dataset.validation,
                )
        except AbandonedError as abandoned:
            raise abandoned.error from None
        return [history.error for history in histories]
