"""Runs the peers and gpunet's engines, each in its own process, and checks that they do the same work."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.records import told

FOLDER = Path(__file__).parents[1] / "peers"
PEERS = {  # the most informative first, in case time runs short
    "torch": ("torch_graphs", "torch_eager", "torch_compiled"),
    "jax": ("jax_scan",),
    "keras": ("keras_lecture", "keras_jax"),
}
GRACE_SECONDS = 20  # to finish what was started in time
# The same work gives the same loss: float32 sums in a different order differ by less than this, and so does Keras'
# Adam, which adds epsilon before the bias correction.
CHECK_TOLERANCE = 1e-3
# Compiled code is cached from one pass to the next, but not from earlier runs: the first pass compiles everything.
CACHES = ("XDG_CACHE_HOME", "CUPY_CACHE_DIR", "NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}

Expected = Callable[[int, int], float]  # (batch size, updates) -> the mean of their losses


class Peer(NamedTuple):
    """A script of bench/peers, with its arguments before the common ones."""

    script: str
    arguments: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return " ".join(self.arguments or (self.script,))


def engine(name: str) -> Peer:
    return Peer("gpunet_engine", (name,))


class Runner(NamedTuple):
    """folder: holds the work as work.npz, and takes caches and output."""

    folder: Path
    device: str
    full: bool
    expected: Expected

    def run(self, peer: Peer, batch_sizes: Sequence[int], seconds: float) -> list[dict[str, Any]]:
        """Run one process; returns its last report for each batch size, or {"name", "unavailable": why}, perhaps with a
        size.

        seconds: time limit; nothing new is started in the last GRACE_SECONDS of it. Whole epochs have no limit.
        """
        seconds = math.inf if self.full else max(0.0, seconds - GRACE_SECONDS)
        command = [
            *(sys.executable, str(FOLDER / f"{peer.script}.py"), *peer.arguments, str(self.folder / "work.npz")),
            *("--device", self.device, "--batch-sizes", ",".join(map(str, batch_sizes)), "--seconds", str(seconds)),
            *(["--full"] if self.full else []),
        ]
        limit = None if self.full else seconds + GRACE_SECONDS
        output, reason = ended(self.folder, command, self.device, limit)
        reports = _reports(output)
        return [self._checked(report) for report in reports.values()] + _missing(peer, batch_sizes, reports, reason)

    def _checked(self, report: dict[str, Any]) -> dict[str, Any]:
        if "unavailable" in report:
            return report
        expected, loss = self.expected(report["batch_size"], report["check_updates"]), report["check_loss"]
        if abs(loss / expected - 1) <= CHECK_TOLERANCE:
            return report
        why = f"does other work: loss {loss:.6f} after {report['check_updates']} updates, {expected:.6f} expected"
        return {"name": report["name"], "batch_size": report["batch_size"], "unavailable": why}


def ended(folder: Path, command: Sequence[str], device: str, limit: float | None) -> tuple[str, str]:
    """Run a command with a time limit; returns its standard output, and why it ended if that was too early.

    folder: takes caches and output.
    """
    caches = {name: str(folder / name) for name in CACHES}
    environment = {**os.environ, **caches, **(NO_GPU if device == "cpu" else {})}
    files = folder / "stdout", folder / "stderr"
    with files[0].open("w") as output, files[1].open("w") as errors:
        try:
            done = subprocess.run(command, env=environment, stdout=output, stderr=errors, timeout=limit, check=False)
            reason = _reason(done.returncode, files[1].read_text(errors="replace"))
        except subprocess.TimeoutExpired:
            reason = f"stopped after {limit:.0f} s"
    return files[0].read_text(errors="replace"), reason


def _reports(output: str) -> dict[int, dict[str, Any]]:
    """The last report of each batch size, which includes the earlier ones."""
    return {report["batch_size"]: report for report in told(output) if "name" in report}


def _missing(
    peer: Peer, batch_sizes: Sequence[int], reports: dict[int, dict[str, Any]], reason: str
) -> list[dict[str, Any]]:
    if not reports:
        return [{"name": peer.label, "unavailable": reason}]
    name = next(iter(reports.values()))["name"]
    absent = [size for size in batch_sizes if size not in reports]
    return [{"name": name, "batch_size": size, "unavailable": reason} for size in absent]


def _reason(status: int, errors: str) -> str:
    """Why a process reported nothing: a signal, a missing package, or the last error that it printed."""
    if status < 0:
        return f"ended by signal {-status}"
    named = re.findall(r"^(?:\w+\.)*(\w*(?:Error|Exception)\b.*)", errors, re.MULTILINE)
    missing = re.fullmatch(r"ModuleNotFoundError: No module named '(\w+)'", named[-1]) if named else None
    if missing:
        return f"not installed ({missing[1]})"
    if status == 0:
        return "ended without a result"
    return named[-1][:200] if named else f"ended with status {status}"
