"""Reads studies and their trials from Optuna's attributes, whose names are defined here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from gpunet.errors import ArgumentError
from gpunet.sweep.outcome import Outcome, Record, State
from gpunet.sweep.space import Configuration, Space
from gpunet.sweep.storage import Storage

DESCRIPTION, TEST = "gpunet", "test"  # attributes of a study
WORKER, END, SEED = "worker", "end", "seed {}"  # of a trial: its worker, how it ended, each seed's record


def outcomes(study: optuna.Study, space: Space) -> list[Outcome]:
    """The outcomes of all trials of a study, in order."""
    found = []
    for trial in study.get_trials(deepcopy=False):
        end = trial.user_attrs.get(END, {})
        if not counts(trial):
            continue
        state = State(end.get("state", trial.state.name.lower()))
        configuration = _configuration(trial, space)
        records = records_of(trial.user_attrs)
        found.append(Outcome(trial.number, configuration, state, records, end.get("reason", "")))
    return found


def _configuration(trial: FrozenTrial, space: Space) -> Configuration:
    return space.pick(lambda name, choice: trial.params.get(name, choice.checked[0]))


def test_result(study: optuna.Study, number: int) -> dict[str, Any] | None:
    """The test result of a trial's networks, if they were tested."""
    found: Any = study.user_attrs.get(TEST)
    return found if isinstance(found, dict) and found.get("trial") == number else None


def names(storage: Storage) -> list[str]:
    """The names of all studies in a storage that are gpunet sweeps."""
    return [study.study_name for study in storage.optuna.get_all_studies() if DESCRIPTION in study.user_attrs]


def load(storage: Storage, name: str) -> tuple[optuna.Study, dict[str, Any]]:
    """A study in its present state, and its description. Raises ArgumentError if there is none."""
    known = names(storage)
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "there are none"
        raise ArgumentError(f"--study: no study {name} in {storage.name}; {there}")
    study = optuna.load_study(study_name=name, storage=storage.optuna)
    description: dict[str, Any] = study.user_attrs[DESCRIPTION]
    return study, description


def counts(trial: FrozenTrial) -> bool:
    """Whether the trial counts: not if some other program has set it to failed, which frees its place."""
    return trial.state != TrialState.FAIL or END in trial.user_attrs


def records_of(attributes: dict[str, Any], seeds: Sequence[int] | None = None) -> dict[int, Record]:
    prefix = SEED.format("")
    found = {
        int(name.removeprefix(prefix)): Record.of_attribute(value)
        for name, value in attributes.items()
        if name.startswith(prefix)
    }
    return {seed: found[seed] for seed in sorted(found) if seeds is None or seed in seeds}
