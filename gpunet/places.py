"""Places for trainings that run side by side: one core each on a CPU, a share of the multiprocessors each on a GPU."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from gpunet import engines, threads
from gpunet.engines import Choice, Share
from gpunet.engines.cuda.persistent_plan import DoesNotFitError
from gpunet.engines.cuda.shares import MOST_AT_ONCE, Workload, best_share
from gpunet.engines.weighted import Weighted
from gpunet.fit_arguments import Training


class Places(Protocol):
    """The places of one device."""

    def take(self, training: Training, rule: str, trainings: int) -> Choice | None:
        """What to train with, at a place that was free; None if there is no place for this training now.

        rule: the optimizer's. trainings: how many on this device have not ended, including this one.
        """

    def give_back(self, choice: Choice) -> None:
        """Called when the training has ended."""


def places_of(choice: Choice) -> Places:
    """The places of a choice's device, all free."""
    return Cores() if engines.DEVICE_OF[choice.engine] == "cpu" else Multiprocessors(choice.gpu)


def most_at_a_time(choice: Choice) -> int:
    """How many trainings like the one a choice is for can run side by side on its device."""
    if engines.DEVICE_OF[choice.engine] == "cpu":
        return threads.count()
    return MOST_AT_ONCE if choice.can_share else 1


class Cores:
    """One thread per training: that loses less time to waiting than half as many trainings with two threads each."""

    def __init__(self) -> None:
        self._free = threads.count()

    def take(self, training: Training, rule: str, trainings: int) -> Choice | None:
        if self._free == 0:
            return None
        self._free -= 1
        return training.choice

    def give_back(self, choice: Choice) -> None:
        self._free += 1


class Multiprocessors:
    """Those of one GPU. The persistent engine takes a share of them and a stream of its own; other engines take all."""

    def __init__(self, gpu: int) -> None:
        self._device = engines.cuda_device(gpu)
        self._free = self._device.multiprocessors
        self._streams = list(range(MOST_AT_ONCE, 0, -1))  # stream 0 is for trainings with the whole GPU
        self._shares: dict[tuple[Workload, int], int] = {}  # by what is trained, and by how many: planning is slow

    def take(self, training: Training, rule: str, trainings: int) -> Choice | None:
        if self._free == 0 or not self._streams:
            return None
        wanted = self._wanted(training, rule, trainings)
        if wanted > self._free:
            return None
        self._free -= wanted
        if wanted == self._device.multiprocessors:
            return training.choice
        return training.choice._replace(share=Share(self._streams.pop(), wanted))

    def give_back(self, choice: Choice) -> None:
        if choice.share is None:
            self._free = self._device.multiprocessors
        else:
            self._free += choice.share.multiprocessors
            self._streams.append(choice.share.stream)

    def _wanted(self, training: Training, rule: str, trainings: int) -> int:
        if not training.choice.can_share:
            return self._device.multiprocessors
        images, targets = training.train
        batch = min(training.batch_size, len(images))
        kinds = images.dtype == np.uint8, targets.dtype == np.int32, isinstance(targets, Weighted)
        workload = Workload(training.network, rule, batch, *kinds)
        key = workload, min(trainings, MOST_AT_ONCE)
        if key not in self._shares:
            try:
                self._shares[key] = best_share(workload, self._device, trainings)
            except DoesNotFitError:  # the engine will report this itself
                self._shares[key] = self._device.multiprocessors
        return self._shares[key]
