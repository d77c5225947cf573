"""The lecture's network in PyTorch, with its weights, data and optimizer; shared by the PyTorch peers."""

from __future__ import annotations

import torch
from torch import nn

from peer import Job, NotHereError


def versions() -> dict[str, str]:
    precision = torch.get_float32_matmul_precision()
    return {"torch": torch.__version__, "threads": str(torch.get_num_threads()), "matmul precision": precision}


class Network(nn.Module):
    """The loss of a batch of indices, and the optimizer. Images and labels are buffers on the device."""

    def __init__(self, job: Job, capturable: bool = False) -> None:
        super().__init__()
        if job.device == "cuda" and not torch.cuda.is_available():
            raise NotHereError("this PyTorch has no CUDA device")
        torch.set_float32_matmul_precision("highest")  # float32 throughout, as gpunet
        widths = [784, 500, 500, 10]
        linear = [nn.Linear(inputs, units) for inputs, units in zip(widths, widths[1:])]  # noqa: B905, RUF007
        with torch.no_grad():
            for layer, weights, bias in zip(linear, job.weights[::2], job.weights[1::2], strict=True):
                layer.weight.copy_(torch.from_numpy(weights.T.copy()))
                layer.bias.copy_(torch.from_numpy(bias))
        self.model = nn.Sequential(linear[0], nn.Sigmoid(), linear[1], nn.Sigmoid(), linear[2])
        self.register_buffer("images", torch.from_numpy(job.floats))
        self.register_buffer("labels", torch.from_numpy(job.labels).long())
        self.to(job.device)
        self.optimizer = torch.optim.Adam(
            self.parameters(),
            lr=job.learning_rate,
            betas=(job.beta_1, job.beta_2),
            eps=job.epsilon,
            fused=True,
            capturable=capturable,
        )

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(self.model(self.images[batch]), self.labels[batch])

    def device(self) -> str:
        return next(self.parameters()).device.type
