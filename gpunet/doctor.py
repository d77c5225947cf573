"""`gpunet doctor`: report what was found on this machine, which engine would run, and why."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from collections.abc import Sequence

import numpy as np

from gpunet import commandline, engines, threads
from gpunet._version import __version__
from gpunet.engines.cuda.diagnosis import cuda_diagnosis
from gpunet.layers import LECTURE

PROGRAM = "gpunet doctor"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0, even without a GPU."""
    return commandline.run(PROGRAM, _doctor, argv)


def _doctor(argv: Sequence[str] | None) -> int:
    parser = commandline.Parser(
        prog=PROGRAM,
        description="Report what gpunet finds on this machine, and which engine would run.",
        examples="  gpunet doctor",
    )
    parser.parse_args(argv)
    diagnosis = cuda_diagnosis()
    facts = {
        "gpunet": __version__,
        "Python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "CPU": f"{os.cpu_count()} cores, {threads.count()} to compute with",
        "NumPy": np.__version__,
        "Numba": engines.numba_problem() or importlib.metadata.version("numba"),
        **diagnosis.facts,
        "CUDA": diagnosis.problem or "usable",
    }
    for batch_size in (1, 100):
        choice = engines.choose(LECTURE, batch_size)
        facts[f"{LECTURE}, batch size {batch_size}"] = choice.reason
        if choice.where:
            facts["  what lies where"] = choice.where
    width = max(map(len, facts))
    for name, fact in facts.items():
        print(f"{name:<{width}}  {fact}")
    return commandline.DONE


if __name__ == "__main__":
    sys.exit(main())
