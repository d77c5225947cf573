"""PyTorch with many networks: torch.func's ensemble, as in its tutorial, and Adam with a learning rate per network.

torch.optim has one learning rate per tensor, so Adam is written here, in place, over stacked weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap

from many_peer import BETA_1, BETA_2, EPSILON, Job, Trainer, run


def versions() -> dict[str, str]:
    return {"torch": torch.__version__, "threads": str(torch.get_num_threads())}


class EnsembleTrainer(Trainer):
    def __init__(self, job: Job) -> None:
        self.batch_size, self.updates = job.batch_size, 0
        self.images, self.labels = torch.from_numpy(job.floats), torch.from_numpy(job.labels).long()
        widths = job.widths
        layers: list[nn.Module] = []
        for inputs, units in zip(widths, widths[1:]):  # noqa: B905, RUF007
            layers += [nn.Linear(inputs, units), nn.Sigmoid()]
        network = nn.Sequential(*layers[:-1]).to("meta")  # the skeleton only: the weights are stacked beside it
        names = [name for name, _ in network.named_parameters()]
        stacked = [torch.from_numpy(array) for array in job.weights]
        stacked[::2] = [matrix.transpose(1, 2).contiguous() for matrix in stacked[::2]]
        self.weights = dict(zip(names, stacked, strict=True))
        self.m = {name: torch.zeros_like(array) for name, array in self.weights.items()}
        self.v = {name: torch.zeros_like(array) for name, array in self.weights.items()}
        self.rates = torch.from_numpy(job.rates)

        def loss(weights: dict[str, torch.Tensor], images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return nn.functional.cross_entropy(functional_call(network, weights, (images,)), labels)

        self.gradients = vmap(grad_and_value(loss), in_dims=(0, None, None))

    def train(self, updates: int) -> Sequence[float]:
        total = torch.zeros(len(self.rates))
        for update in range(updates):
            batch = slice(update * self.batch_size, (update + 1) * self.batch_size)
            gradients, losses = self.gradients(self.weights, self.images[batch], self.labels[batch])
            self._step(gradients)
            total += losses.detach()
        return (total / updates).tolist()

    @torch.no_grad()
    def _step(self, gradients: dict[str, torch.Tensor]) -> None:
        self.updates += 1
        of_m, of_v = 1 - BETA_1**self.updates, 1 - BETA_2**self.updates
        for name, weights in self.weights.items():
            gradient, m, v = gradients[name], self.m[name], self.v[name]
            m.lerp_(gradient, 1 - BETA_1)
            v.mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
            rates = self.rates.view(-1, *[1] * (weights.ndim - 1))
            weights.sub_(rates * (m / of_m) / ((v / of_v).sqrt_().add_(EPSILON)))


if __name__ == "__main__":
    run("PyTorch torch.func ensemble", versions, EnsembleTrainer)
