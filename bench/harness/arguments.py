"""Checked command-line arguments that several benchmarks share."""

from __future__ import annotations

import argparse
import math
from collections.abc import Collection

from gpunet import commandline
from harness import workload
from harness.processes import PEERS


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text}")
    return value


def sizes(text: str) -> tuple[int, ...]:
    found = tuple(sorted({commandline.whole_number(part) for part in text.split(",")}))
    for size in found:
        if workload.EXAMPLES % size:  # only whole batches, so that every engine and peer does the same work
            raise argparse.ArgumentTypeError(f"expected divisors of {workload.EXAMPLES}, got {size}")
    return found


def peers(text: str) -> tuple[str, ...]:
    return names(text, PEERS)


def names(text: str, known: Collection[str]) -> tuple[str, ...]:
    found = tuple(text.split(","))
    for name in found:
        if name not in known:
            raise argparse.ArgumentTypeError(f"expected names of {', '.join(known)}; got {name!r}")
    return found
