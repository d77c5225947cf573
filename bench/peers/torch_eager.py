"""PyTorch, eager, with fused Adam; the data is on the device."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from peer import Job, run
from torch_network import Network, versions


class Trainer:
    def __init__(self, job: Job) -> None:
        self.job, self.network = job, Network(job)

    def train(self, order: NDArray[np.int32]) -> float:
        network = self.network
        total = torch.zeros((), device=self.job.device)
        batches = torch.from_numpy(order.astype(np.int64)).to(self.job.device).split(self.job.batch_size)
        for batch in batches:
            loss = network.loss(network.images[batch], network.labels[batch])
            network.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            network.optimizer.step()
            total += loss.detach()
        return total.item() / len(batches)  # waits for the device


if __name__ == "__main__":
    run("PyTorch eager, fused Adam", versions, Trainer)
