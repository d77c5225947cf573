"""PyTorch with torch.compile over gather, forward and backward, and fused Adam. On a GPU with CUDA graphs.

Images and labels are buffers of the module that is compiled: the CUDA graphs use them where they lie.
"""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import torch

from peer import Job, NotHereError, run
from torch_eager import EagerTrainer
from torch_network import versions

TRITON_CAPABILITY = (7, 0)  # the least that Triton, which compiles for GPUs, supports


class CompiledTrainer(EagerTrainer):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        if problem := _gpu_problem() if job.device == "cuda" else _cpu_problem():
            raise NotHereError(problem)
        torch.compiler.reset()  # what was compiled for another batch size
        mode = "reduce-overhead" if job.device == "cuda" else "default"
        self.loss = torch.compile(self.network, mode=mode, dynamic=False)


def _cpu_problem() -> str | None:
    return None if shutil.which("g++") else "torch.compile needs g++ on a CPU"


def _gpu_problem() -> str | None:
    """Why Triton cannot compile here; it builds its launchers with a C compiler, against Python's headers."""
    capability = torch.cuda.get_device_capability()
    if capability < TRITON_CAPABILITY:
        return f"torch.compile's Triton needs compute capability 7.0, this GPU has {capability[0]}.{capability[1]}"
    if not any(map(shutil.which, ("cc", "gcc", "clang"))):
        return "torch.compile's Triton needs a C compiler"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "torch.compile's Triton needs Python.h (Debian and Ubuntu: apt install python3-dev)"
    return None


if __name__ == "__main__":
    run("PyTorch torch.compile, fused Adam", versions, CompiledTrainer)
