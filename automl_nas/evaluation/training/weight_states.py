"""Weights that a training keeps beside those of its network: averages, and those of the best epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """The exponential moving average of parameters and buffers, as `torch.optim.swa_utils.AveragedModel` computes it.

    Integers, such as counters of batch normalisation, are copied.

    Args:
        decay: weight of the earlier average; the first update copies the weights.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Add the present weights of a network."""
        present = network.state_dict()
        if not self._tensors:
            self._tensors = {name: tensor.clone() for name, tensor in present.items()}
            return
        # A state that was loaded may be on the CPU.
        self._tensors = {name: tensor.to(present[name].device) for name, tensor in self._tensors.items()}
        floats = [name for name, tensor in present.items() if tensor.is_floating_point()]
        torch._foreach_lerp_(
            [self._tensors[name] for name in floats], [present[name] for name in floats], 1 - self._decay
        )
        for name, tensor in present.items():
            if not tensor.is_floating_point():
                self._tensors[name].copy_(tensor)

    def tensors(self) -> dict[str, Tensor]:
        """Return the average as a ``state_dict``; empty before the first update."""
        return dict(self._tensors)

    def load_into(self, network: nn.Module) -> None:
        """Give a network the averaged weights; without an update, it keeps its own."""
        if self._tensors:
            network.load_state_dict(self._tensors)

    def state_dict(self) -> dict[str, Any]:
        """Return the averages; the tensors are not copied."""
        return {"tensors": dict(self._tensors)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict`; the tensors are copied."""
        self._tensors = {name: tensor.clone() for name, tensor in state["tensors"].items()}


class WeightMean:
    """Stochastic weight averaging: the mean of the weights at the ends of the last epochs (Izmailov et al. 2018, arXiv
    1803.05407), as `torch.optim.swa_utils.AveragedModel` computes it.

    Floating-point buffers are averaged, too; statistics of the averaged network are other ones, and are recalibrated
    before it is used. Integers are copied.

    Args:
        first: the number of updates before those that count.
        every: each time after so many further updates the weights are added to the mean.
    """

    def __init__(self, first: int, every: int) -> None:
        self._first, self._every = first, every
        self._updates = self._count = 0
        self._tensors: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Count an update, and add the present weights of a network if it is the last one of an epoch."""
        self._updates += 1
        after = self._updates - self._first
        if after <= 0 or after % self._every:
            return
        self._count += 1
        for name, tensor in network.state_dict().items():
            mean = self._tensors.get(name)
            if mean is None or not tensor.is_floating_point():
                self._tensors[name] = tensor.clone()
            else:
                mean = mean.to(tensor.device)
                self._tensors[name] = mean + (tensor - mean) / self._count

    def tensors(self) -> dict[str, Tensor]:
        """Return the mean as a ``state_dict``; empty before the first epoch that counts."""
        return dict(self._tensors)

    def state_dict(self) -> dict[str, Any]:
        """Return the mean and the numbers of updates; the tensors are not copied."""
        return {"tensors": dict(self._tensors), "updates": self._updates, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict`; the tensors are copied."""
        self._tensors = {name: tensor.clone() for name, tensor in state["tensors"].items()}
        self._updates, self._count = state["updates"], state["count"]


class BestEpoch:
    """Early stopping: the weights of the best epoch, and the number of epochs since then.

    Args:
        patience: number of epochs without an improvement after which the training stops.
    """

    def __init__(self, patience: int) -> None:
        self._patience, self._stale = patience, 0
        self._value: float | None = None
        self._weights: dict[str, Tensor] = {}

    @property
    def stopped(self) -> bool:
        """Whether the training ends."""
        return self._stale >= self._patience

    def judge(self, value: float, network: nn.Module) -> None:
        """Keep the weights of a network if its value is better, that is higher, than that of all epochs before."""
        if self._value is None or math.isnan(self._value) or value > self._value:
            self._value, self._stale = value, 0
            self._weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        else:
            self._stale += 1

    def load_into(self, network: nn.Module) -> None:
        """Give a network the weights of the best epoch."""
        network.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that is needed to continue; the tensors are not copied."""
        return {"value": self._value, "stale": self._stale, "weights": dict(self._weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state from `state_dict`; the tensors are copied."""
        self._value, self._stale = state["value"], state["stale"]
        self._weights = {name: tensor.clone() for name, tensor in state["weights"].items()}
