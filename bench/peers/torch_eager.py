"""PyTorch, eager, with fused Adam; the data is on the device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from peer import Job, Trainer, run
from torch_network import Network, versions


class EagerTrainer(Trainer):
    def __init__(self, job: Job) -> None:
        self.job, self.network = job, Network(job)
        self.loss: Callable[[torch.Tensor], torch.Tensor] = self.network

    def train(self, prepared: NDArray[np.int32]) -> float:
        optimizer = self.network.optimizer
        total = torch.zeros((), device=self.job.device)
        batches = torch.from_numpy(prepared.astype(np.int64)).to(self.job.device).split(self.job.batch_size)
        for batch in batches:
            loss = self.loss(batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            total += loss.detach()
        return total.item() / len(batches)  # waits for the device

    def device(self) -> str:
        return self.network.device()


if __name__ == "__main__":
    run("PyTorch eager, fused Adam", versions, EagerTrainer)
