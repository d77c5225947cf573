"""The lecture's network in PyTorch, with its weights, data and optimizer; shared by the PyTorch peers."""

from __future__ import annotations

import torch
from peer import Job, NotHereError
from torch import nn


def versions() -> dict[str, str]:
    return {"torch": torch.__version__, "threads": str(torch.get_num_threads())}


class Network:
    """model, optimizer, and images and labels on the device."""

    def __init__(self, job: Job, capturable: bool = False) -> None:
        if job.device == "cuda" and not torch.cuda.is_available():
            raise NotHereError("this PyTorch has no CUDA device")
        torch.set_float32_matmul_precision("highest")  # float32 throughout, as gpunet
        widths = [784, 500, 500, 10]
        linear = [nn.Linear(inputs, units) for inputs, units in zip(widths, widths[1:])]  # noqa: B905, RUF007
        with torch.no_grad():
            for layer, weights, bias in zip(linear, job.weights[::2], job.weights[1::2], strict=True):
                layer.weight.copy_(torch.from_numpy(weights.T.copy()))
                layer.bias.copy_(torch.from_numpy(bias))
        self.model = nn.Sequential(linear[0], nn.Sigmoid(), linear[1], nn.Sigmoid(), linear[2]).to(job.device)
        self.optimizer = torch.optim.Adam(
            self.model.parameters(),
            lr=job.learning_rate,
            betas=(job.beta_1, job.beta_2),
            eps=job.epsilon,
            fused=True,
            capturable=capturable,
        )
        self.images = torch.from_numpy(job.images).to(job.device)
        self.labels = torch.from_numpy(job.labels).to(job.device)

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(self.model(images), labels)
