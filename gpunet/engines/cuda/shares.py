"""How many multiprocessors each of many persistent trainings gets, so that all of them together are fastest.

A small network gains little from a whole GPU: exchanges between blocks take as long as on a part of it. So several
networks train side by side, each on a share of the multiprocessors and in its own stream. A share must not change the
results by a single bit: sums have the same order as with the whole GPU (Plan.order_of_sums). The best share follows
from the estimates that also choose the engine (persistent_cycles.py). It has not been measured on a GPU yet.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from gpunet.engines.cuda.configuration import Hardware
from gpunet.engines.cuda.persistent_cycles import persistent_cycles
from gpunet.engines.cuda.persistent_plan import ATTEMPTS, DoesNotFitError, Plan, make_plan
from gpunet.layers import Network

MOST_AT_ONCE = 32  # trainings; each has a host thread that starts its launches and waits for them


class Workload(NamedTuple):
    """What is trained: arguments of `make_plan`. rule: the optimizer's."""

    network: Network
    rule: str
    batch: int
    input_bytes: bool
    classes_as_targets: bool
    weighted: bool = False

    def plan(self, hardware: Hardware, attempt: int = 0) -> Plan:
        """Raises DoesNotFitError."""
        return make_plan(
            self.network, self.rule, self.batch, self.input_bytes, self.classes_as_targets,
            hardware, attempt, self.weighted,
        )  # fmt: skip


class Part(NamedTuple):
    """Some multiprocessors of a GPU, with the attributes of Hardware."""

    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int
    sm_shared_bytes: int
    cooperative: bool


def part_of(hardware: Hardware, multiprocessors: int) -> Part:
    return Part(
        hardware.capability,
        multiprocessors,
        hardware.shared_bytes,
        hardware.sm_shared_bytes,
        hardware.cooperative,
    )


def best_share(workload: Workload, hardware: Hardware, trainings: int) -> int:
    """Multiprocessors for each of this many similar trainings, so that all together are estimated to be fastest.

    All of them if the training fits in no other way, or if the GPU does not guarantee that all blocks of a launch run
    at once: blocks of two trainings could then hold places that other blocks of the two are waiting for.

    Raises DoesNotFitError if it does not fit at all.
    """
    whole = _plans(workload, part_of(hardware, hardware.multiprocessors))
    best, best_rate = hardware.multiprocessors, 1 / persistent_cycles(whole[0])
    if not hardware.cooperative:
        return best
    for at_once in range(2, min(trainings, MOST_AT_ONCE, hardware.multiprocessors) + 1):
        share = hardware.multiprocessors // at_once
        try:
            plans = _plans(workload, part_of(hardware, share))
        except DoesNotFitError:
            break  # it will not fit a smaller one either
        rate = at_once / persistent_cycles(plans[0])
        if rate > best_rate and len({plan.order_of_sums for plan in [*plans, *whole]}) == 1:
            best, best_rate = share, rate
    return best


@functools.lru_cache(maxsize=256)  # every number of trainings compares mostly the same shares
def _plans(workload: Workload, hardware: Part) -> tuple[Plan, ...]:
    """The plans of all attempts that fit; the compiler decides which one is used.

    Raises DoesNotFitError if none fits.
    """
    plans = [workload.plan(hardware)]
    for attempt in range(1, ATTEMPTS):
        try:
            plans.append(workload.plan(hardware, attempt))
        except DoesNotFitError:
            break
    return tuple(plans)
