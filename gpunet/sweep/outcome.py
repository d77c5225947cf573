"""The outcome of a trial: how each seed's training went, and what that says about the configuration."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gpunet.callbacks import Logs
from gpunet.sweep.space import Configuration

CURVES = ("loss", "accuracy", "val_loss", "val_accuracy")


class State(str, enum.Enum):
    """State of a trial. `failed`: the configuration cannot be trained, for example because the network is too large."""

    COMPLETE, PRUNED, DIVERGED, FAILED = "complete", "pruned", "diverged", "failed"
    RUNNING, WAITING = "running", "waiting"

    @property
    def is_end(self) -> bool:
        return self not in (State.RUNNING, State.WAITING)


@dataclass
class Record:
    """One training: values for each epoch, losses in nats; seconds of training and updates, over all epochs."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: float = 0.0
    updates: int = 0

    def add(self, logs: Logs) -> None:
        """Add an epoch's logs."""
        for name in CURVES:
            getattr(self, name).append(float(logs[name]))
        self.seconds += logs["seconds"]
        self.updates += int(logs["updates"])

    def as_attribute(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_attribute(cls, value: dict[str, Any]) -> Record:
        return cls(**value)


@dataclass(frozen=True)
class Outcome:
    """A trial so far. records: of the seeds that are done, by seed. reason: why it diverged or failed."""

    number: int
    configuration: Configuration
    state: State
    records: dict[int, Record]
    reason: str = ""

    @property
    def accuracy(self) -> float:
        """Mean over the seeds of the validation accuracy after the last epoch."""
        return self._mean(lambda record: record.val_accuracy[-1])

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of the same accuracy over the seeds; None for a single seed."""
        values = [record.val_accuracy[-1] for record in self.records.values()]
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def loss(self) -> float:
        return self._mean(lambda record: record.val_loss[-1])

    @property
    def seconds(self) -> float:
        """Mean seconds of training per seed."""
        return self._mean(lambda record: record.seconds)

    @property
    def us_per_update(self) -> float:
        return self._mean(lambda record: 1e6 * record.seconds / record.updates)

    @property
    def best_seed(self) -> int:
        """The seed with the best validation accuracy, then loss."""
        return min(self.records, key=lambda seed: _rank(self.records[seed].val_accuracy, self.records[seed].val_loss))

    def _mean(self, value: Callable[[Record], float]) -> float:
        return statistics.fmean(value(record) for record in self.records.values())


def ranked(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The complete trials, best first: by validation accuracy, then loss, then number."""
    complete = [outcome for outcome in outcomes if outcome.state == State.COMPLETE]
    return sorted(complete, key=lambda outcome: (-outcome.accuracy, outcome.loss, outcome.number))


def best_of(outcomes: Iterable[Outcome]) -> Outcome | None:
    return next(iter(ranked(outcomes)), None)


def _rank(accuracies: Sequence[float], losses: Sequence[float]) -> tuple[float, float]:
    return -accuracies[-1], losses[-1]
