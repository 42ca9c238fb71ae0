"""The auxiliary head: a second classifier on the maps after the last reduction, used in training only."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast, final

from torch import Tensor, nn

from automl_nas_dso.space.network import REDUCTION
from automl_nas_dso.space.operations import conv_norm_relu, norm

NARROW, WIDE = 128, 768
"""Channels of the two convolutions, as in NASNet (Zoph et al. 2018, arXiv 1707.07012)."""


def auxiliary_head(channels: int, size: tuple[int, int], num_classes: int) -> nn.Sequential:
    """Return NASNet's head for CIFAR-10: ReLU, average pooling, convolutions of 1x1 and 2x2, linear layer.

    Maps of 8x8 are pooled by windows of 5x5 with stride 3, as in NASNet; maps of other sizes are also pooled to 2x2, by
    two windows with the smallest possible overlap.

    Args:
        channels: channels of the maps.
        size: height and width of the maps.
        num_classes: number of outputs.
    """
    height, width = size
    (window_y, stride_y, left_y), (window_x, stride_x, left_x) = _pooling(height), _pooling(width)
    return nn.Sequential(
        nn.ReLU(),
        nn.AvgPool2d((window_y, window_x), (stride_y, stride_x)),
        conv_norm_relu(channels, NARROW, 1),
        nn.Conv2d(NARROW, WIDE, (left_y, left_x), bias=False),
        norm(WIDE),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(WIDE, num_classes),
    )


def _pooling(length: int) -> tuple[int, int, int]:
    """Return window, stride and pooled length: 2, or 1 for a length of 1."""
    window = max(1, min(length // 2 + 1, length - 1))
    return window, max(1, length - window), min(length, 2)


@final
class WithHead(nn.Module):
    """A network and its auxiliary head: ``(outputs, auxiliary)`` in training, outputs otherwise.

    Args:
        network: stem, stages and head; its last stage begins with a reduction.
        head: reads the output of the reduction.
        stage: name of the last stage.
    """

    def __init__(self, network: nn.Sequential, head: nn.Module, stage: str) -> None:
        super().__init__()
        self.network, self.head, self._stage = network, head, stage

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits of shape ``(batch, num_classes)``; in training a pair, those of both heads."""
        if not self.training:
            return cast(Tensor, self.network(x))
        reduced = x
        for name, part in self.network.named_children():
            if name != self._stage:
                x = part(x)
                continue
            for place, module in part.named_children():
                x = module(x)
                if place == REDUCTION:
                    reduced = x
        return x, self.head(reduced)


@final
class DsoNetwork(nn.Sequential):
    """A network that is trained with an auxiliary head. The head is not part of the network.

    Args:
        network: its children become children of this module, with the same names.
        head: builds the head.
        stage: see `WithHead`.
    """

    def __init__(self, network: nn.Module, head: Callable[[], nn.Module], stage: str) -> None:
        super().__init__()
        for name, child in network.named_children():
            self.add_module(name, child)
        self._head, self._last = head, stage

    def training_form(self) -> nn.Module:
        """Return the network with a fresh head; see `automl_nas.evaluation.training.auxiliary_heads`."""
        return WithHead(self, self._head(), self._last)
