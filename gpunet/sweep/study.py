"""A study: what to try, who tries what, and the outcomes, for all workers that share it.

A trial is a configuration, trained once for each seed. It is Optuna's trial: its parameters are the options that vary,
its value is the mean validation accuracy after the last epoch, its intermediate values are those after each epoch. Each
seed's record is one of its attributes. If a worker gives a trial up or dies, the trial waits for another worker and
keeps the seeds that are done. So there is one trial per configuration, whoever trains it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import socket
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from gpunet.sweep import reading
from gpunet.sweep.heartbeats import Heartbeats
from gpunet.sweep.outcome import Outcome, Record, State
from gpunet.sweep.plan import Plan, require_same
from gpunet.sweep.reading import DESCRIPTION, END, SEED, TEST, WORKER, counts, records_of
from gpunet.sweep.space import Choice, Configuration, Value, Values
from gpunet.sweep.storage import Storage

FIRST_BEFORE_PRUNING = 5  # trials that run to the end, however unpromising


@dataclass
class Claim:
    """A trial that this worker has claimed.

    trial:   Optuna's id of it.
    records: of the trainings that are done, by seed; begun: of those that are not.
    over:    whether nothing is left to do for it.
    """

    trial: int
    number: int
    configuration: Configuration
    records: dict[int, Record]
    begun: dict[int, Record] = field(default_factory=dict)
    over: bool = False


class Study:
    """An open study and its plan.

    trials: how many there will be in the end, or None for one per combination; never fewer than there are now.
    Raises ArgumentError if the study belongs to another plan.
    """

    def __init__(self, storage: Storage, name: str, plan: Plan, trials: int | None) -> None:
        self.storage, self.name, self.plan = storage, name, plan
        self._me = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"
        self._combinations = [] if plan.search else plan.space.combinations()
        self._study = storage.patiently(self._opened)
        wanted = len(self._combinations) if trials is None else trials
        self.trials = max(wanted, len(self.outcomes()))
        self._beats = Heartbeats(storage.optuna)

    def _opened(self) -> optuna.Study:
        with self.storage.turn(self.name):
            study = optuna.create_study(
                study_name=self.name,
                storage=self.storage.optuna,
                sampler=optuna.samplers.RandomSampler(),
                pruner=optuna.pruners.MedianPruner(FIRST_BEFORE_PRUNING),
                direction="maximize",
                load_if_exists=True,
            )
            described = study.user_attrs.get(DESCRIPTION)
            if described is None and not study.trials:
                about = {"options": self.plan.described, "path": self.plan.path, "target": self.plan.target}
                study.set_user_attr(DESCRIPTION, about)
            else:
                require_same(self.name, described, self.plan)
        return study

    # What is known

    def outcomes(self) -> list[Outcome]:
        """The outcomes of all trials, in order."""
        return self.storage.patiently(lambda: reading.outcomes(self._study, self.plan.space))

    def test_result(self, number: int) -> dict[str, Any] | None:
        """The test result of a trial's networks, if they were tested."""
        return self.storage.patiently(lambda: reading.test_result(self._study, number))

    def keep_test(self, result: dict[str, Any]) -> None:
        self.storage.patiently(lambda: self._study.set_user_attr(TEST, result))

    # Who tries what

    def claim(self, most: int) -> tuple[list[Claim], int]:
        """Claim up to this many trials for this worker; also returns how many are running on other workers."""

        def claim() -> tuple[list[Claim], int]:
            with self.storage.turn(self.name), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Optuna warns that heartbeats are for its own loop
                self._take_back_from_the_dead()
                before = set(self._beats.trials)
                try:
                    return self._claim(most)
                except BaseException:
                    self._beats.trials = before
                    raise

        return self.storage.patiently(claim)

    def release(self, claims: Sequence[Claim]) -> None:
        """Leave the trials that are not over to other workers, unless one of these has taken them over already."""
        for claim in claims:
            if not claim.over:
                self._beats.stop(claim.trial)
                if self._worker_of(claim) == self._me:
                    self._set_state(claim, TrialState.WAITING)

    # Outcomes

    def report(self, claim: Claim, epoch: int, accuracy: float) -> None:
        """Record the mean validation accuracy, over the seeds that have come this far, after an epoch (from 1)."""
        self._write(lambda: self.storage.optuna.set_trial_intermediate_value(claim.trial, epoch, accuracy))

    def is_hopeless(self, claim: Claim) -> bool:
        """Whether the trial is worse than the median of the complete trials after the same epoch."""

        def judged() -> bool:
            return self._study.pruner.prune(self._study, self.storage.optuna.get_trial(claim.trial))

        return self.storage.patiently(judged)

    def keep(self, claim: Claim, seed: int) -> None:
        """Keep the record of a seed whose training is complete."""
        record = claim.records[seed].as_attribute()
        self._write(lambda: self.storage.optuna.set_trial_user_attr(claim.trial, SEED.format(seed), record))

    def complete(self, claim: Claim) -> None:
        """End a trial whose seeds are all done and kept."""
        accuracy = statistics.fmean(record.val_accuracy[-1] for record in claim.records.values())
        self._end(claim, TrialState.COMPLETE, [accuracy])

    def prune(self, claim: Claim) -> None:
        self._end(claim, TrialState.PRUNED, None, {"state": State.PRUNED})

    def diverge(self, claim: Claim, reason: str) -> None:
        """Divergence is a result, not a failure to be repeated; to Optuna, it is a worthless trial."""
        self._end(claim, TrialState.PRUNED, None, {"state": State.DIVERGED, "reason": reason})

    def fail(self, claim: Claim, reason: str) -> None:
        self._end(claim, TrialState.FAIL, None, {"state": State.FAILED, "reason": reason})

    def close(self) -> None:
        self._beats.close()

    def _claim(self, most: int) -> tuple[list[Claim], int]:
        everything = self._study.get_trials(deepcopy=False)
        trials = [trial for trial in everything if counts(trial)]
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        waiting = sum(trial.state == TrialState.WAITING for trial in trials)
        fresh = max(0, self.trials - len(trials))
        tried = {_key(trial.params) for trial in trials}
        untried = (each for each in self._combinations if _key(self._varied(each)) not in tried)
        done = {_key(trial.params): trial for trial in trials if trial.state == TrialState.COMPLETE}
        claims = []
        for number in range(min(most, waiting + fresh)):
            if waiting:
                waiting -= 1
            elif not self.plan.search:
                self._study.add_trial(self._waiting(next(untried)))
            claims.append(self._begin(len(everything) + number, done))
        return claims, running

    def _begin(self, number: int, done: dict[str, FrozenTrial]) -> Claim:
        """Claim the next waiting trial, or a new one.

        done:   complete trials by their parameters. If the search proposes one again, its records are reused.
        number: a different one each time. A sampler seeded by the study's seed alone would propose the same
                configurations again after a restart.
        """
        seed = int.from_bytes(hashlib.sha256(f"{self.plan.seeds[0]} {number}".encode()).digest()[:4], "big")
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        trial = self._study.ask()
        configuration = self.plan.space.pick(lambda name, choice: _suggest(trial, name, choice))
        claim = Claim(trial._trial_id, trial.number, configuration, records_of(trial.user_attrs, self.plan.seeds))
        if same := done.get(_key(trial.params)):
            claim.records.update(records_of(same.user_attrs, self.plan.seeds))
        self._beats.start(claim.trial)
        trial.set_user_attr(WORKER, self._me)
        return claim

    def _take_back_from_the_dead(self) -> None:
        """Set trials back to waiting if their worker has shown no sign of life for long, or died while claiming them.

        Likewise those that this worker was claiming when the database became unreachable.
        """
        storage, mine = self.storage.optuna, self._beats.trials
        lost = set(storage._get_stale_trial_ids(self._study._study_id))
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if trial._trial_id in mine:
                continue
            if trial._trial_id in lost or trial.user_attrs.get(WORKER, self._me) == self._me:
                with contextlib.suppress(UpdateFinishedTrialError):
                    storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)

    def _varied(self, configuration: Configuration) -> dict[str, Value]:
        return {name: configuration[name] for name in self.plan.space.varied if name in configuration}

    def _waiting(self, configuration: Configuration) -> FrozenTrial:
        params = self._varied(configuration)
        distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(self.plan.space.choices[name].checked) for name in params
        }
        return optuna.create_trial(state=TrialState.WAITING, params=params, distributions=distributions)

    def _end(
        self, claim: Claim, state: TrialState, values: list[float] | None, end: dict[str, str] | None = None
    ) -> None:
        claim.over = True
        self._beats.stop(claim.trial)
        if end is not None:
            self._write(lambda: self.storage.optuna.set_trial_user_attr(claim.trial, END, end))
        self._set_state(claim, state, values)

    def _worker_of(self, claim: Claim) -> object:
        return self.storage.patiently(lambda: self.storage.optuna.get_trial(claim.trial).user_attrs.get(WORKER))

    def _set_state(self, claim: Claim, state: TrialState, values: list[float] | None = None) -> None:
        self._write(lambda: self.storage.optuna.set_trial_state_values(claim.trial, state, values))

    def _write(self, action: Callable[[], object]) -> None:
        """Write to the study. If another worker has taken the trial over and finished it, its result counts."""

        def write() -> None:
            with contextlib.suppress(UpdateFinishedTrialError):
                action()

        self.storage.patiently(write)


def _key(params: dict[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def _suggest(trial: optuna.Trial, name: str, choice: Choice) -> Value:
    if isinstance(choice, Values):
        value = trial.suggest_categorical(name, choice.values)
        assert value is not None
        return value
    if isinstance(choice.low, int) and isinstance(choice.high, int):
        return trial.suggest_int(name, choice.low, choice.high, log=choice.logarithmic)
    return trial.suggest_float(name, choice.low, choice.high, log=choice.logarithmic)
