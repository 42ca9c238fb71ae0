"""Drop-path: an operation's output is dropped for some samples while training."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


@final
class DropPath(nn.Module):
    """Set the whole map of some samples to zero in training, and scale up the others to keep the mean.

    Scheduled drop-path (Zoph et al. 2018, arXiv 1707.07012): the probability grows linearly with the number of training
    batches, which is a buffer, so that training can be interrupted.

    Args:
        probability: in the end, from 0 to below 1.
        iterations: training batches until it is reached; 1: at once.
    """

    seen: Tensor

    def __init__(self, probability: float, iterations: int) -> None:
        super().__init__()
        self.probability, self.iterations = probability, iterations
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Return x, with some of the samples dropped when training."""
        if not self.training:
            return x
        self.seen += 1
        keep = 1 - self.probability * (self.seen / self.iterations).clamp(max=1)
        kept = torch.rand(x.shape[0], device=x.device) < keep
        mask = kept.to(x.dtype) / keep.to(x.dtype)
        return x * mask.view(-1, *(1,) * (x.dim() - 1))

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"{self.probability}, iterations={self.iterations}"
