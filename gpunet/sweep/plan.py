"""Plan: what a study is about, and whether two plans are the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from gpunet.data import MNIST
from gpunet.errors import ArgumentError
from gpunet.sweep.space import Space

DATA, SEEDS, TRIALS = "--data", "--seeds", "--trials"  # in the description, next to the options


@dataclass(frozen=True)
class Plan:
    """What a study is about.

    seeds:  those with which each configuration is trained.
    search: whether to search for configurations; if not, every combination is tried.
    data:   the data set's fingerprint.
    path:   as given to `--data`, or None for the bundled MNIST. target: the value of `--target`, if any.
    """

    space: Space
    seeds: tuple[int, ...]
    search: bool
    data: str
    path: str | None
    target: str | None = None

    @property
    def described(self) -> dict[str, str]:
        """What all workers of a study must agree on."""
        seeds = f"{len(self.seeds)} from {self.seeds[0]} on"
        search = "given" if self.search else "not given"
        return {**self.space.described, SEEDS: seeds, TRIALS: search, DATA: self.data}

    @property
    def name(self) -> str:
        """The name of a study without one: the same for the same plan, even in a version with more options."""
        plain = Space({}).described
        special = {option: value for option, value in self.described.items() if plain.get(option) != value}
        return f"sweep-{hashlib.sha256(json.dumps(special).encode()).hexdigest()[:6]}"


def require_same(name: str, known: Any, plan: Plan) -> None:
    """ArgumentError if a study is about something else."""
    if not isinstance(known, dict) or not isinstance(known.get("options"), dict):
        raise ArgumentError(f"--study: {name} is not a sweep's study; choose another name")
    mine = plan.described
    before = (
        Plan(Space({}), (0,), False, "", None).described | known["options"]
    )  # an older study did not have newer options
    for option, value in mine.items():
        if before.get(option) == value:
            continue
        if option == DATA:
            raise ArgumentError(
                f"--study: {name} was begun with other data ({known.get('path') or MNIST}) than {plan.path or MNIST}; "
                "choose another name, or give its data as --data"
            )
        was = before.get(option)
        raise ArgumentError(
            f"{option}: {value or 'its default'} contradicts the study {name}, which was begun with "
            f"{was or 'its default'}; choose another name with --study"
        )
