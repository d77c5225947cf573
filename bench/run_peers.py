"""Runs the peers, each in a process of its own, on the work that gpunet's engines did."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from measure import speed_record

FOLDER = Path(__file__).parent / "peers"
PEERS = {
    "torch": ("torch_eager", "torch_compiled", "torch_graphs"),
    "jax": ("jax_scan",),
    "keras": ("keras_lecture", "keras_jax"),
}
TIMEOUT_SECONDS = 300
# The same work gives the same loss: float32 sums in another order differ by less than this, and so does Keras' Adam,
# which adds epsilon before the bias correction.
CHECK_TOLERANCE = 1e-3


def run_peer(
    script: str, data: Path, device: str, batch_size: int, updates: int, repeats: int, check: tuple[int, float]
) -> dict[str, Any]:
    """The peer's speed record, or {"name", "unavailable": why}. check: (updates, the mean of their losses)."""
    check_updates, expected_loss = check
    command = [
        *(sys.executable, str(FOLDER / f"{script}.py"), str(data)),
        *("--device", device, "--batch-size", str(batch_size), "--updates", str(updates)),
        *("--repeats", str(repeats), "--check-updates", str(check_updates)),
    ]
    hide_gpu = {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"} if device == "cpu" else {}
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **hide_gpu},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"name": script, "unavailable": f"took longer than {TIMEOUT_SECONDS} s"}
    if done.returncode:
        return {"name": script, "unavailable": _reason(done.returncode, done.stderr)}
    result = next((json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"name"')), None)
    if result is None:
        return {"name": script, "unavailable": "ended without a result"}
    if "unavailable" in result:
        return dict(result)
    if not abs(result["check_loss"] / expected_loss - 1) <= CHECK_TOLERANCE:
        reason = f"does other work: loss {result['check_loss']:.6f} after {check_updates} updates, {expected_loss:.6f}"
        return {"name": result["name"], "unavailable": f"{reason} expected"}
    kept = {name: result[name] for name in ("versions", "check_loss", "warm_up_seconds")}
    return {**kept, **speed_record(result["name"], batch_size, result["updates"], result["seconds"])}


def _reason(status: int, errors: str) -> str:
    """Why a process failed: a signal, a package that is missing, or the last error that it names."""
    if status < 0:
        return f"ended by signal {-status}"
    named = re.findall(r"^(?:\w+\.)*(\w*(?:Error|Exception)\b.*)", errors, re.MULTILINE)
    missing = re.fullmatch(r"ModuleNotFoundError: No module named '(\w+)'", named[-1]) if named else None
    if missing:
        return f"not installed ({missing[1]})"
    return named[-1][:200] if named else f"ended with status {status}"
