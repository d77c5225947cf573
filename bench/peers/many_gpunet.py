"""gpunet with many networks: `fit_many`, or `fit` one after another with all threads. The first argument chooses."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import gpunet
from gpunet import Adam, Dense, Sequential
from many_peer import BETA_1, BETA_2, EPSILON, Job, Trainer, run


class GpunetTrainer(Trainer):
    def __init__(self, job: Job, at_once: bool) -> None:
        self.job, self.at_once = job, at_once
        inputs, *hidden, classes = job.widths
        self.models = []
        for number, rate in enumerate(job.rates):
            layers = [*(Dense(units, "sigmoid") for units in hidden), Dense(classes, "softmax")]
            layers[0].inputs = inputs
            model = Sequential(layers, seed=number)
            model.set_weights([array[number] for array in job.weights])
            adam = Adam(float(rate), BETA_1, BETA_2, EPSILON)
            model.compile(adam, "sparse_categorical_crossentropy", device="cpu")
            self.models.append(model)

    def train(self, updates: int) -> Sequence[float]:
        examples = updates * self.job.batch_size
        arguments = (self.job.images[:examples], self.job.labels[:examples], self.job.batch_size, 1, 0)
        if self.at_once:
            histories = gpunet.fit_many(self.models, *arguments, shuffle=False)
        else:
            histories = [model.fit(*arguments, shuffle=False) for model in self.models]
        return [history.history["loss"][-1] for history in histories]


if __name__ == "__main__":
    how, *rest = sys.argv[1:]
    names = {"many": "gpunet fit_many", "alone": "gpunet fit, one after another"}
    run(names[how], lambda: {"gpunet": gpunet.__version__}, lambda job: GpunetTrainer(job, how == "many"), rest)
