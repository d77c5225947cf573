"""What `many.py` measured, as Markdown."""

from __future__ import annotations

import statistics
from typing import Any

from harness import tables

Result = dict[str, Any]
OURS, ALONE = "gpunet fit_many", "gpunet fit, one after another"
# Targets on two cores: how many times faster than the best peer, and than our own fit one after another.
AIMS = {"lecture": 3.0, "small": 2.5}
AIMS_ALONE = {"lecture-10": 1.15, "small-32": 1.9}


def whole(result: Result) -> str:
    parts = [
        tables.machine(result["machine"]),
        f"us per update of one network, while all networks of a row are trained: median over {result['passes']} "
        "passes, and range. Each network has its own learning rate; Adam, float32.",
        times(result),
        "### How many times faster fit_many is",
        ratios(result),
    ]
    parts += [f"{each['name']}, {described(each['case'])}: {each['unavailable']}." for each in result["unavailable"]]
    if any(record["check_losses"] is None for record in result["records"]):
        parts.append("scikit-learn draws its own weights; the others reach the losses of the reference engine.")
    return "\n\n".join(parts) + "\n"


def described(case: str) -> str:
    name, batch_size, networks = case.split("-")
    widths = {"lecture": "784-500-500-10", "small": "20-64-64-5"}[name]
    return f"{widths}, batch {batch_size}, {networks} {'network' if networks == '1' else 'networks'}"


def times(result: Result) -> str:
    names = list(dict.fromkeys(record["name"] for record in result["records"]))
    cases = list(dict.fromkeys(record["case"] for record in result["records"]))
    known = {(record["case"], record["name"]): _spread(record["us"]) for record in result["records"]}
    rows = [[described(case), *(known.get((case, name), "") for name in names)] for case in cases]
    return _table(["", *names], rows)


def ratios(result: Result) -> str:
    """Against the best peer, and against our own fit; with the target, where there is one."""
    medians: dict[str, dict[str, float]] = {}
    for record in result["records"]:
        medians.setdefault(record["case"], {})[record["name"]] = statistics.median(record["us"])
    rows = []
    for case, by_name in medians.items():
        if OURS not in by_name:
            continue
        name = case.split("-")[0]
        peers = {peer: us for peer, us in by_name.items() if not peer.startswith("gpunet")}
        best = min(peers, key=lambda peer: peers[peer], default="")
        ours = by_name[OURS]
        rows.append(
            [
                described(case),
                f"{peers[best] / ours:.2f} ({best}; aim {AIMS[name]:g})" if best else "",
                _against_alone(by_name.get(ALONE), ours, AIMS_ALONE.get(case.rpartition("-")[0])),
            ]
        )
    return _table(["", "than the best peer", "than fit, one after another"], rows)


def _against_alone(alone: float | None, ours: float, aim: float | None) -> str:
    if alone is None:
        return ""
    return f"{alone / ours:.2f}" + (f" (aim {aim:g})" if aim else "")


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.1f} ({min(values):,.1f} to {max(values):,.1f})"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
