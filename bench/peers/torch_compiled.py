"""PyTorch with torch.compile over forward and backward, and fused Adam. On a GPU "reduce-overhead": CUDA graphs."""

from __future__ import annotations

import shutil

import numpy as np
import torch
from numpy.typing import NDArray
from peer import Job, NotHereError, run
from torch_network import Network, versions


class Trainer:
    def __init__(self, job: Job) -> None:
        if job.device == "cpu" and shutil.which("g++") is None:
            raise NotHereError("torch.compile needs g++ on a CPU")
        self.job, self.network = job, Network(job)
        mode = "reduce-overhead" if job.device == "cuda" else "default"
        self.loss = torch.compile(self.network.loss, mode=mode)

    def train(self, order: NDArray[np.int32]) -> float:
        network = self.network
        total = torch.zeros((), device=self.job.device)
        batches = torch.from_numpy(order.astype(np.int64)).to(self.job.device).split(self.job.batch_size)
        for batch in batches:
            loss = self.loss(network.images[batch], network.labels[batch])
            loss.backward()
            network.optimizer.step()
            network.optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
        return total.item() / len(batches)  # waits for the device


if __name__ == "__main__":
    run("PyTorch torch.compile, fused Adam", versions, Trainer)
