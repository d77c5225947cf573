"""PyTorch with a whole update, optimizer included, captured as one CUDA graph. For GPUs only."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from peer import Job, NotHereError, run
from torch_network import Network, versions

WARM_UP_UPDATES = 3  # on a side stream before the capture, as PyTorch's documentation asks for


class Trainer:
    def __init__(self, job: Job) -> None:
        if job.device != "cuda":
            raise NotHereError("CUDA graphs need a GPU")
        self.job, self.network = job, Network(job, capturable=True)
        self.batch = torch.zeros(job.batch_size, dtype=torch.int64, device="cuda")
        self.total = torch.zeros((), device="cuda")
        self._capture()

    def train(self, order: NDArray[np.int32]) -> float:
        batches = torch.from_numpy(order.astype(np.int64)).to("cuda").split(self.job.batch_size)
        self.total.zero_()
        for batch in batches:
            self.batch.copy_(batch)
            self.graph.replay()
        return self.total.item() / len(batches)  # waits for the device

    def _capture(self) -> None:
        """Capture an update; what the warm-up did to weights and optimizer is undone in place."""
        network = self.network
        start = [parameter.detach().clone() for parameter in network.model.parameters()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_UPDATES):
                self._update()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self._update()
        with torch.no_grad():
            for parameter, value in zip(network.model.parameters(), start, strict=True):
                parameter.copy_(value)
                for state in network.optimizer.state[parameter].values():
                    state.zero_()

    def _update(self) -> None:
        network = self.network
        network.optimizer.zero_grad(set_to_none=True)
        loss = network.loss(network.images[self.batch], network.labels[self.batch])
        loss.backward()
        network.optimizer.step()
        self.total += loss.detach()


if __name__ == "__main__":
    run("PyTorch CUDA graphs, fused Adam", versions, Trainer)
