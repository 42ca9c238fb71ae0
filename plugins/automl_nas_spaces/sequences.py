"""The search spaces `signal_cnn` and `token_cnn`: convolutional networks along one dimension."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import ModuleSpace, OneOf

SKIP = "skip"
"""The option of a layer that is left out."""


@final
class Mix(nn.Module):
    """``x + convolution(norm(x))``: a depthwise convolution, which mixes neighbouring positions of each channel.

    With `FeedForward` it is the block of a MetaFormer with a convolution as its mixer (Yu et al. 2022, arXiv
    2111.11418, section 3.1). The normalisation is over the channels and positions of a sample, so the weights of a
    supernet need no recalibration. Input and output have the shape ``(batch, width, length)``.

    Args:
        width: number of channels.
        kernel: size of the convolution, odd.
    """

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        outputs: Tensor = x + self.convolution(self.norm(x))
        return outputs


@final
class FeedForward(nn.Module):
    """``x + project(gelu(expand(norm(x))))``: a perceptron with one hidden layer at each position; see `Mix`.

    Args:
        width: number of channels of input and output.
        hidden: number of channels between.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.expand = nn.Conv1d(width, hidden, 1)
        self.activation = nn.GELU()
        self.project = nn.Conv1d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs."""
        outputs: Tensor = x + self.project(self.activation(self.expand(self.norm(x))))
        return outputs


@final
class Embed(nn.Module):
    """Tokens of shape ``(batch, length)`` -> vectors of shape ``(batch, width, length)``.

    Args:
        vocabulary: number of different tokens.
        width: of the vectors.
    """

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the vectors."""
        vectors: Tensor = self.table(tokens).movedim(2, 1)
        return vectors


@final
class Pool(nn.Module):
    """``(batch, width, length)`` -> mean and maximum over the positions, ``(batch, 2 * width)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the means, then the maxima."""
        return torch.cat((x.mean(2), x.amax(2)), 1)


def signal_cnn(
    *,
    num_classes: int = 1,
    input_shape: tuple[int, int] = (1, 128),
    widths: tuple[int, ...] = (32, 64),
    repeats: tuple[int, ...] = (2, 2),
    strides: tuple[int, ...] = (2, 2),
    kernels: tuple[int, ...] = (3, 7, 15),
    expansions: tuple[int, ...] = (1, 2, 4),
    dropout: float = 0.0,
) -> ModuleSpace:
    """Return the space of networks for signals: samples of several channels at equal intervals.

    Decisions for each block: ``stage1.block1.mix``, the kernel of its depthwise convolution or ``skip``, and
    ``stage1.block1.hidden``, the width of its hidden layer or ``skip``. So kernels, widths and the depth are searched.

    Args:
        num_classes: number of outputs.
        input_shape: channels and length of a signal.
        widths: channels of each stage.
        repeats: number of blocks of each stage.
        strides: by which the first convolution of each stage shortens the sequence.
        kernels: the options of the kernel, odd numbers.
        expansions: the options of the hidden width, relative to the channels of the stage.
        dropout: probability of dropout before the last layer.

    Raises:
        SpaceError: a setting is out of its range, or signals are too short for the strides.
    """
    if len(input_shape) != 2 or min(input_shape) < 1:
        raise SpaceError(f"signals need the shape (channels, length), not {tuple(input_shape)}")
    outline = _Outline(num_classes, widths, repeats, strides, kernels, expansions, dropout)
    outline.check(input_shape[1])
    channels = input_shape[0]
    return ModuleSpace(lambda: outline.network(nn.Identity(), channels), input_shape=tuple(input_shape))


def token_cnn(
    *,
    num_classes: int = 1,
    input_shape: tuple[int] = (64,),
    vocabulary: int = 256,
    embedding: int = 32,
    widths: tuple[int, ...] = (32, 64),
    repeats: tuple[int, ...] = (2, 2),
    strides: tuple[int, ...] = (1, 2),
    kernels: tuple[int, ...] = (3, 5, 9),
    expansions: tuple[int, ...] = (1, 2, 4),
    dropout: float = 0.0,
) -> ModuleSpace:
    """Return the space of networks for sequences of tokens: an embedding, then the network of `signal_cnn`.

    All sequences have the same length, and every position counts: a token that fills short sequences is a token like
    all others.

    Args:
        num_classes: number of outputs.
        input_shape: the length of a sequence, with one number.
        vocabulary: number of different tokens; tokens are ``0 .. vocabulary - 1``.
        embedding: width of the vectors of tokens.
        widths: channels of each stage.
        repeats: number of blocks of each stage.
        strides: by which the first convolution of each stage shortens the sequence.
        kernels: the options of the kernel, odd numbers.
        expansions: the options of the hidden width, relative to the channels of the stage.
        dropout: probability of dropout before the last layer.

    Raises:
        SpaceError: a setting is out of its range, or sequences are too short for the strides.
    """
    if len(input_shape) != 1 or min(input_shape) < 1:
        raise SpaceError(f"sequences of tokens need the shape (length,), not {tuple(input_shape)}")
    for name, value in (("vocabulary", vocabulary), ("embedding", embedding)):
        if value < 1:
            raise SpaceError(f"{name} must be at least 1, not {value}")
    outline = _Outline(num_classes, widths, repeats, strides, kernels, expansions, dropout)
    outline.check(input_shape[0])
    return ModuleSpace(lambda: outline.network(Embed(vocabulary, embedding), embedding), input_shape=tuple(input_shape))


@dataclass(frozen=True)
class _Outline:
    """The settings of both spaces, and the network with its choices."""

    num_classes: int
    widths: Sequence[int]
    repeats: Sequence[int]
    strides: Sequence[int]
    kernels: Sequence[int]
    expansions: Sequence[int]
    dropout: float

    def check(self, length: int) -> None:
        """Check the settings for sequences of a length.

        Raises:
            SpaceError: a setting is out of its range, or the sequences are too short.
        """
        if self.num_classes < 1:
            raise SpaceError(f"num_classes must be at least 1, not {self.num_classes}")
        if not len(self.widths) == len(self.repeats) == len(self.strides) or not self.widths:
            raise SpaceError(
                "widths, repeats and strides must contain one number for each stage, "
                f"not {len(self.widths)}, {len(self.repeats)} and {len(self.strides)}"
            )
        for name in ("widths", "repeats", "strides", "kernels", "expansions"):
            values = getattr(self, name)
            if not values or min(values) < 1:
                raise SpaceError(f"{name} must be numbers of at least 1, not {list(values)}")
        for name in ("kernels", "expansions"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise SpaceError(f"{name} needs different options, not {list(getattr(self, name))}")
        if even := [kernel for kernel in self.kernels if kernel % 2 == 0]:
            raise SpaceError(f"a kernel must be odd, so that lengths are kept, not {even[0]}")
        if not 0 <= self.dropout < 1:
            raise SpaceError(f"dropout must be at least 0 and below 1, not {self.dropout}")
        if (whole := math.prod(self.strides)) > length:
            raise SpaceError(
                f"sequences of length {length} are too short to be shortened {whole} times; set some strides to 1"
            )

    def network(self, first: nn.Module, channels: int) -> nn.Module:
        """Return the network with its choices.

        Args:
            first: applied to the inputs.
            channels: of its outputs.
        """
        parts: OrderedDict[str, nn.Module] = OrderedDict(input=first)
        for stage, (width, count, stride) in enumerate(
            zip(self.widths, self.repeats, self.strides, strict=True), start=1
        ):
            blocks: OrderedDict[str, nn.Module] = OrderedDict()
            # Of length ceil(length / stride), whatever the length.
            blocks["shorten"] = nn.Conv1d(channels, width, 2 * stride + 1, stride, stride)
            for block in range(1, count + 1):
                blocks[f"block{block}"] = self._block(f"stage{stage}.block{block}", width)
            parts[f"stage{stage}"] = nn.Sequential(blocks)
            channels = width
        parts["norm"] = nn.GroupNorm(1, channels)
        parts["pool"] = Pool()
        parts["dropout"] = nn.Dropout(self.dropout)
        parts["classifier"] = nn.Linear(2 * channels, self.num_classes)
        return nn.Sequential(parts)

    def _block(self, name: str, width: int) -> nn.Module:
        mixes = {str(kernel): Mix(width, kernel) for kernel in self.kernels}
        hidden = {str(width * times): FeedForward(width, width * times) for times in self.expansions}
        return nn.Sequential(
            OrderedDict(
                mix=OneOf({**mixes, SKIP: nn.Identity()}, name=f"{name}.mix"),
                hidden=OneOf({**hidden, SKIP: nn.Identity()}, name=f"{name}.hidden"),
            )
        )
