"""The end of a sweep: the best configuration's networks are tested once, and the best of them is saved."""

from __future__ import annotations

import math
import statistics
from typing import Any

from gpunet.data import Examples
from gpunet.errors import TrainingDivergedError
from gpunet.sweep.outcome import Outcome
from gpunet.sweep.study import Study
from gpunet.sweep.worker import Worker


def tested(study: Study, worker: Worker, best: Outcome, examples: Examples) -> dict[str, Any]:
    """The test result of the best trial's networks; read from the study if a worker has already tested them.

    If several workers reach the end at the same time, one tests and the others wait for it.
    """
    made: list[dict[str, Any]] = []

    def test() -> dict[str, Any]:
        with study.storage.turn(study.name):
            known = study.test_result(best.number)
            if known is None:
                known = made.pop() if made else _test(worker, best, examples)
                made.append(known)  # so that it is not repeated if the database becomes unreachable
                study.keep_test(known)
            return known

    return study.storage.patiently(test)


def sentence(result: dict[str, Any]) -> str:
    """The result as a sentence."""
    accuracies = result["test_accuracies"]
    deviation = f" +- {100 * statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    return f"test accuracy {100 * result['test_accuracy']:.2f} %{deviation}, loss {result['test_loss']:.4f}"


def _test(worker: Worker, best: Outcome, examples: Examples) -> dict[str, Any]:
    seeds, losses, accuracies = [], [], []
    for seed, model in worker.networks(best).items():
        loss, accuracy = model.evaluate(*examples)
        if not math.isfinite(loss):
            raise TrainingDivergedError(best.records[seed].updates)
        seeds.append(seed)
        losses.append(loss)
        accuracies.append(accuracy)
    return {
        "trial": best.number,
        "test_accuracy": statistics.fmean(accuracies),
        "test_accuracy_deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "test_loss": statistics.fmean(losses),
        "seeds": seeds,
        "test_accuracies": accuracies,
    }
