"""scikit-learn with many networks: its MLPClassifier in joblib processes, as GridSearchCV(n_jobs=-1) runs it.

It draws its own weights, so its losses cannot be compared, and starts again with every call.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import joblib
import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.neural_network import MLPClassifier

from many_peer import BETA_1, BETA_2, EPSILON, Job, Trainer, run


def versions() -> dict[str, str]:
    return {"scikit-learn": sklearn.__version__, "joblib": joblib.__version__}


class ProcessesTrainer(Trainer):
    given_start = False

    def __init__(self, job: Job) -> None:
        self.job, self.floats = job, job.floats
        classes = np.arange(job.widths[-1])
        self.rows = [int(np.argmax(job.labels == c)) for c in classes]  # every class must occur

    def train(self, updates: int) -> Sequence[float]:
        examples = updates * self.job.batch_size
        x, y = self.floats[:examples], self.job.labels[:examples].copy()
        y[: len(self.rows)] = self.job.labels[self.rows]
        hidden = self.job.widths[1:-1]
        fits = (joblib.delayed(_fit)(hidden, self.job.batch_size, float(rate), x, y) for rate in self.job.rates)
        losses: list[float] = joblib.Parallel(n_jobs=-1)(fits)
        return losses


def _fit(hidden: Sequence[int], batch_size: int, rate: float, x: NDArray[np.float32], y: NDArray[np.int32]) -> float:
    classifier = MLPClassifier(
        hidden, "logistic", solver="adam", alpha=0, batch_size=batch_size, learning_rate_init=rate, max_iter=1,
        shuffle=False, beta_1=BETA_1, beta_2=BETA_2, epsilon=EPSILON, random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that one epoch is not enough
        return float(classifier.fit(x, y).loss_)


if __name__ == "__main__":
    run("scikit-learn MLPClassifier, joblib processes", versions, ProcessesTrainer)
