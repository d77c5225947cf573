"""PyTorch with whole updates, optimizer included, captured as a CUDA graph, twenty in a row. For GPUs only."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from peer import Job, NotHereError, Trainer, run
from torch_network import Network, versions

GRAPH_UPDATES = 20  # as many as gpunet's own graphs hold; with one update per graph, each would pay for a launch
WARM_UP_UPDATES = 3  # on a side stream before the capture, as PyTorch's documentation requires


class GraphTrainer(Trainer):
    def __init__(self, job: Job) -> None:
        if job.device != "cuda":
            raise NotHereError("CUDA graphs need a GPU")
        self.job, self.network = job, Network(job, capturable=True)
        shape = (min(GRAPH_UPDATES, job.epoch_updates), job.batch_size)
        self.batches = torch.zeros(shape, dtype=torch.int64, device="cuda")  # the indices that the graphs read
        self.total = torch.zeros((), device="cuda")
        start = [parameter.detach().clone() for parameter in self.network.parameters()]
        self._warm_up()
        self.graphs = {updates: self._captured(updates) for updates in {shape[0], 1}}
        self._go_back_to(start)

    def train(self, prepared: NDArray[np.int32]) -> float:
        batches = torch.from_numpy(prepared.astype(np.int64)).to("cuda").view(-1, self.job.batch_size)
        self.total.zero_()
        most, done = len(self.batches), 0
        while done < len(batches):
            updates = most if done + most <= len(batches) else 1
            self.batches[:updates].copy_(batches[done : done + updates])
            self.graphs[updates].replay()
            done += updates
        return self.total.item() / len(batches)  # waits for the device

    def device(self) -> str:
        return self.network.device()

    def _warm_up(self) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_UPDATES):
                self._update(self.batches[0])
        torch.cuda.current_stream().wait_stream(side)

    def _captured(self, updates: int) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for number in range(updates):
                self._update(self.batches[number])
        return graph

    def _update(self, batch: torch.Tensor) -> None:
        network = self.network
        network.optimizer.zero_grad(set_to_none=True)
        loss = network(batch)
        loss.backward()
        network.optimizer.step()
        self.total += loss.detach()

    @torch.no_grad()
    def _go_back_to(self, start: list[torch.Tensor]) -> None:
        """Undo, in place, what the warm-up did to weights and optimizer."""
        for parameter, value in zip(self.network.parameters(), start, strict=True):
            parameter.copy_(value)
            for state in self.network.optimizer.state[parameter].values():
                state.zero_()


if __name__ == "__main__":
    run("PyTorch CUDA graphs, fused Adam", versions, GraphTrainer)
