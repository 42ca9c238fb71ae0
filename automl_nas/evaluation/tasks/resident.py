"""Samples of a task that live on a device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from automl_nas.evaluation.sampling import Indices
from automl_nas.evaluation.task import Batch

_CHUNK = 4096
"""The number of samples that are read at once; has no influence on results."""


class Source(Protocol):
    """Reads samples by number; picklable, since loader workers receive a copy."""

    def __call__(self, indices: Indices, seed: int, epoch: int) -> Batch:
        """Return a training batch; the augmentation of a sample is a function of (seed, epoch, index)."""

    def plain(self, indices: Indices) -> Batch:
        """Return the samples without augmentation."""


@dataclass(frozen=True)
class ResidentSource:
    """Reads samples from tensors on a device. They have the values that they have on the CPU: they are copies.

    Attributes:
        inputs: of all samples, on the device.
        targets: of all samples, on the device.
        cpu_targets: the same on the CPU, where metrics are computed.
    """

    inputs: Tensor
    targets: Tensor
    cpu_targets: Tensor

    @classmethod
    def copy_of(cls, source: Source, count: int, device: torch.device, *, limit: float) -> ResidentSource | None:
        """Read all samples and copy them to a device; None: they have more bytes than ``limit``, or do not fit.

        Args:
            source: reads the samples.
            count: the number of samples.
            device: to copy to.
            limit: the largest number of bytes.
        """
        first = source.plain(np.zeros(1, dtype=np.int64))
        if count * sum(tensor.numel() * tensor.element_size() for tensor in first) > limit:
            return None
        inputs, targets = [], []
        try:
            for start in range(0, count, _CHUNK):
                batch = source.plain(np.arange(start, min(start + _CHUNK, count), dtype=np.int64))
                inputs.append(batch[0].to(device))
                targets.append(batch[1])
            held = torch.cat(inputs)
        except torch.OutOfMemoryError:  # the network needs the memory: batches are copied one by one, as without
            return None
        all_targets = torch.cat(targets)
        return cls(held, all_targets.to(device), all_targets)

    def __call__(self, indices: Indices, seed: int, epoch: int) -> Batch:
        """Return a training batch without augmentation, on the device."""
        chosen = torch.from_numpy(indices).to(self.inputs.device)
        return self.inputs[chosen], self.targets[chosen]

    def plain(self, indices: Indices) -> Batch:
        """Return the samples without augmentation: inputs on the device, targets on the CPU."""
        chosen = torch.from_numpy(indices)
        return self.inputs[chosen.to(self.inputs.device)], self.cpu_targets[chosen]
