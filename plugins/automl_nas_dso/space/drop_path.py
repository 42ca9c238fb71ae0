"""Drop-path: in training, the output of an operation is replaced by zeros for some samples."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


@final
class DropPath(nn.Module):
    """In training, set the whole map of some samples to zero and scale the others up, so that the mean stays the same.

    Scheduled drop-path (Zoph et al. 2018, arXiv 1707.07012): the probability grows linearly with the number of training
    batches. Their number is a buffer, so that training can be resumed.

    Args:
        probability: the final probability of dropping a sample, at least 0 and below 1.
        iterations: training batches until the final probability; 1: from the beginning.
    """

    seen: Tensor

    def __init__(self, probability: float, iterations: int) -> None:
        super().__init__()
        self.probability, self.iterations = probability, iterations
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Return x of shape ``(batch, ...)``; in training with some samples dropped."""
        if not self.training:
            return x
        self.seen += 1
        keep = 1 - self.probability * (self.seen / self.iterations).clamp(max=1)
        remaining = torch.rand(x.shape[0], device=x.device) < keep
        mask = remaining.to(x.dtype) / keep.to(x.dtype)
        return x * mask.view(-1, *(1,) * (x.dim() - 1))

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"{self.probability}, iterations={self.iterations}"
