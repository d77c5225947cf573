"""For bench/many.py: its networks and data, its contestants' processes, and the check of their results."""

from __future__ import annotations

import functools
import itertools
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpunet import Adam, Network
from gpunet.engines.reference import ReferenceEngine
from harness import workload
from harness.processes import CHECK_TOLERANCE, FOLDER, GRACE_SECONDS, Peer, ended
from harness.records import told

OURS = (Peer("many_gpunet", ("many",)), Peer("many_gpunet", ("alone",)))
PEERS = {"jax": Peer("many_jax"), "torch": Peer("many_torch"), "sklearn": Peer("many_sklearn")}
CASES = (
    *(f"lecture-{batch_size}-{networks}" for batch_size in (10, 100) for networks in (1, 4, 16)),
    *(f"small-32-{networks}" for networks in (16, 256)),
)
SMALL, SMALL_EXAMPLES = (20, 64, 64, 5), 32_000


class Networks(NamedTuple):
    """images, labels, and initial weights for the largest case, in Keras' order, each (K, ...)."""

    images: NDArray[Any]
    labels: NDArray[np.int32]
    weights: list[NDArray[np.float32]]

    @property
    def network(self) -> Network:
        widths = (self.images.shape[1], *(matrix.shape[2] for matrix in self.weights[::2]))
        return Network(widths, ("sigmoid",) * (len(widths) - 2) + ("softmax",))


def make(cases: Sequence[str]) -> dict[str, Networks]:
    """What the cases need, by name."""
    most: dict[str, int] = {}
    for name, _, networks in (case.split("-") for case in cases):
        most[name] = max(most.get(name, 0), int(networks))
    found = {}
    if "lecture" in most:
        work = workload.load()
        starts = _starts(workload.NETWORK.widths, most["lecture"])
        found["lecture"] = Networks(work.images[work.order], work.labels[work.order], starts)
    if "small" in most:
        rng = np.random.default_rng(0)
        labels = rng.integers(SMALL[-1], size=SMALL_EXAMPLES).astype(np.int32)
        centres = rng.normal(size=(SMALL[-1], SMALL[0]))
        images = (centres[labels] + rng.normal(size=(SMALL_EXAMPLES, SMALL[0]))).astype(np.float32)
        found["small"] = Networks(images, labels, _starts(SMALL, most["small"]))
    return found


def _starts(widths: Sequence[int], networks: int) -> list[NDArray[np.float32]]:
    """Glorot uniform weights, different for each network."""
    weights: list[NDArray[np.float32]] = []
    for layer, (inputs, units) in enumerate(itertools.pairwise(widths)):
        limit = np.sqrt(6 / (inputs + units))
        rngs = (np.random.default_rng([layer, number]) for number in range(networks))
        weights.append(np.stack([rng.uniform(-limit, limit, (inputs, units)).astype(np.float32) for rng in rngs]))
        weights.append(np.zeros((networks, units), np.float32))
    return weights


class ManyRunner:
    """Runs each contestant in its own process, and checks that each of its networks reaches the right loss."""

    def __init__(self, folder: Path, cases: Sequence[str]) -> None:
        self._folder, self._made = folder, make(cases)
        arrays = {}
        for name, networks in self._made.items():
            arrays |= {f"{name}_images": networks.images, f"{name}_labels": networks.labels}
            arrays |= {f"{name}_weights_{n}": array for n, array in enumerate(networks.weights)}
            arrays[f"{name}_arrays"] = np.array(len(networks.weights))
        np.savez(folder / "networks.npz", **arrays)
        self._expected = functools.cache(self._losses)

    def run(self, peer: Peer, cases: Sequence[str], seconds: float) -> list[dict[str, Any]]:
        """The contestant's last report for each case, or {"name", "case", "unavailable": why}.

        seconds: time limit; nothing new is started in the last GRACE_SECONDS of it.
        """
        seconds = max(0.0, seconds - GRACE_SECONDS)
        command = [sys.executable, str(FOLDER / f"{peer.script}.py"), *peer.arguments]
        command += [str(self._folder / "networks.npz"), "--cases", ",".join(cases), "--seconds", str(seconds)]
        output, reason = ended(self._folder, command, "cpu", seconds + GRACE_SECONDS)
        reports = {report["case"]: report for report in told(output) if "case" in report}
        name = next(iter(reports.values()))["name"] if reports else peer.label
        missing = {"name": name, "unavailable": reason}
        return [self._checked(reports.get(case, missing | {"case": case})) for case in cases]

    def _checked(self, report: dict[str, Any]) -> dict[str, Any]:
        """The report, or why not, if its networks' losses are not the expected ones."""
        losses = report.get("check_losses")
        if losses is None:
            return report
        for number, (loss, expected) in enumerate(
            zip(losses, self._expected(report["case"], report["check_updates"]), strict=True)
        ):
            if not abs(loss / expected - 1) <= CHECK_TOLERANCE:
                after = f"after {report['check_updates']} updates"
                why = f"does other work: loss {loss:.6f} of network {number} {after}, {expected:.6f} expected"
                return {"name": report["name"], "case": report["case"], "unavailable": why}
        return report

    def _losses(self, case: str, updates: int) -> list[float]:
        """The reference engine's losses, one network after another."""
        name, batch_size, count = case.split("-")
        made, examples = self._made[name], updates * int(batch_size)
        rates = np.geomspace(3e-4, 3e-3, int(count)) if int(count) > 1 else [1e-3]
        order = np.arange(examples, dtype=np.int32)
        losses = []
        for number, rate in enumerate(rates):
            start = [array[number] for array in made.weights]
            engine = ReferenceEngine(made.network, Adam(float(np.float32(rate)), epsilon=1e-8), start)
            losses.append(engine.train_epoch(made.images, made.labels, order, int(batch_size)).loss)
        return losses


def us_a_network_update(report: dict[str, Any]) -> float:
    """Microseconds per update and network, in the median repeat."""
    done = report["networks"] * report["updates"] * report["calls"]
    return statistics.median(1e6 * seconds / done for seconds in report["seconds"])
