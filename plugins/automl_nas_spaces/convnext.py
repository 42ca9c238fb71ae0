"""The search space `convnext`: ConvNeXt (Liu et al. 2022, arXiv 2201.03545) with searched widths, depths, kernels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import (
    ElasticConv2d,
    ElasticLayerNorm,
    ElasticLinear,
    ElasticParameter,
    ModuleSpace,
    OneOf,
    Repeat,
    Scalar,
)
from automl_nas_spaces.settings import check_options, check_positive, check_probability, one_or_all, one_or_each
from automl_nas_spaces.transformer_layers import DropPath

_EPS = 1e-6


@final
class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel.

    Args:
        norm: over the last dimension.
    """

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, shape ``(batch, channels, height, width)``."""
        outputs: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return outputs


@final
class ConvNeXtBlock(nn.Module):
    """``x + scale * project(gelu(expand(norm(depthwise(x)))))``.

    Args:
        depthwise: convolution of each channel.
        norm: over the channels of each pixel.
        expand: to the hidden width.
        project: back to the width of the stage.
        scale: a learned factor for each channel.
        drop_path: probability of leaving the branch out for a sample in training.
    """

    def __init__(
        self,
        depthwise: nn.Module,
        norm: nn.Module,
        expand: nn.Module,
        project: nn.Module,
        scale: nn.Module,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.depthwise = depthwise
        self.norm = norm
        self.expand = expand
        self.activation = nn.GELU()
        self.project = project
        self.scale = scale
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, shape ``(batch, channels, height, width)``."""
        pixels = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        pixels = self.project(self.activation(self.expand(pixels)))
        outputs: Tensor = x + self.drop_path((pixels * self.scale(pixels)).permute(0, 3, 1, 2))
        return outputs


def convnext(
    *,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    widths: tuple[int, ...] = (96, 192, 384, 768),
    multipliers: tuple[float, ...] = (0.5, 0.75, 1.0),
    depths: tuple[int, ...] = (3, 3, 9, 3),
    min_depths: tuple[int, ...] = (1, 1, 3, 1),
    kernels: tuple[int, ...] = (3, 5, 7),
    ratios: tuple[float, ...] = (2.0, 3.0, 4.0),
    patch: int = 4,
    layer_scale: float = 1e-6,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> ModuleSpace:
    """Return the space of ConvNeXts: the width and depth of each stage, and kernel and hidden width of each block.

    Decisions: ``stage1.width``, a multiple of the stage's width; ``stage1.depth``; ``stage1.block0.kernel``, of the
    depthwise convolution; ``stage1.block0.ratio``, the hidden width relative to that of the stage, rounded down. A
    setting with a single value is not searched. Narrow layers use the first rows and columns of wide ones, shallow
    stages the first blocks; each kernel has weights of its own.

    The largest network of the default settings is ConvNeXt-T. For images of 32x32 set ``patch: 1`` or ``2`` and smaller
    ``widths`` and ``depths``.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image.
        widths: channels of each stage, of which ``multipliers`` are taken; products are rounded down.
        multipliers: the options of the width of each stage, increasing.
        depths: the largest number of blocks of each stage.
        min_depths: the smallest number of blocks of each stage, at least 1.
        kernels: the options of the kernel of each block, odd numbers, increasing.
        ratios: the options of the ratio of each block, increasing.
        patch: side of the first convolution, and its stride. Each later stage halves height and width.
        layer_scale: the first values of the factors with which the outputs of a block are multiplied.
        dropout: probability of dropout before the last layer.
        drop_path: probability of leaving the last block out for a sample in training (stochastic depth); it grows
            linearly from 0 at the first block.

    Raises:
        SpaceError: a setting is out of its range, or images are too small for the stages.
    """
    channels, height, width = input_shape
    if not len(widths) == len(depths) == len(min_depths) or not widths:
        raise SpaceError(
            "widths, depths and min_depths must contain one number for each stage, "
            f"not {len(widths)}, {len(depths)} and {len(min_depths)}"
        )
    check_positive(num_classes=num_classes, channels=channels, patch=patch)
    check_options(multipliers=multipliers, kernels=kernels, ratios=ratios)
    if even := [kernel for kernel in kernels if kernel % 2 == 0]:
        raise SpaceError(f"kernels must be odd, so that sizes are kept, not {even[0]}")
    for stage, (least, most) in enumerate(zip(min_depths, depths, strict=True), start=1):
        if not 1 <= least <= most:
            raise SpaceError(f"min_depths must be from 1 to depths, not {least} and {most} in stage {stage}")
    for stage, size in enumerate(widths, start=1):
        if int(size * multipliers[0]) < 1:
            raise SpaceError(f"widths: {multipliers[0]} times the width {size} of stage {stage} is below 1")
    check_probability(dropout=dropout, drop_path=drop_path)
    shrunk = patch * 2 ** (len(widths) - 1)
    if min(height, width) < shrunk:
        raise SpaceError(
            f"images of {height}x{width} are too small for patch {patch} and {len(widths)} stages, which need "
            f"{shrunk}x{shrunk}; set a smaller patch or fewer stages"
        )
    outline = _Outline(
        num_classes, channels, widths, multipliers, depths, min_depths, kernels, ratios, patch, layer_scale, dropout,
        drop_path,
    )  # fmt: skip
    return ModuleSpace(outline.network, input_shape=tuple(input_shape))


@final
@dataclass(frozen=True)
class _Outline:
    """The settings, checked, and the network with its choices."""

    num_classes: int
    channels: int
    widths: Sequence[int]
    multipliers: Sequence[float]
    depths: Sequence[int]
    min_depths: Sequence[int]
    kernels: Sequence[int]
    ratios: Sequence[float]
    patch: int
    layer_scale: float
    dropout: float
    drop_path: float

    def network(self) -> nn.Module:
        """Return the network with its choices."""
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        before = self.channels
        for stage in range(len(self.widths)):
            width = max(self._options(stage).values())
            side = 2 if stage else self.patch
            convolution = ElasticConv2d(
                before, one_or_each(self._options(stage)), side, side, name=f"stage{stage + 1}.width"
            )
            norm = ChannelNorm(ElasticLayerNorm(before if stage else width, _EPS))
            # The first normalisation is after its convolution, the others are before theirs.
            parts[f"shrink{stage + 1}"] = nn.Sequential(*((norm, convolution) if stage else (convolution, norm)))
            parts[f"stage{stage + 1}"] = Repeat(
                partial(self._block, stage, width),
                self.min_depths[stage],
                self.depths[stage],
                name=f"stage{stage + 1}.depth",
            )
            before = width
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
        parts["flatten"] = nn.Flatten()
        parts["norm"] = ElasticLayerNorm(before, _EPS)
        parts["dropout"] = nn.Dropout(self.dropout)
        parts["head"] = ElasticLinear(before, self.num_classes)
        return nn.Sequential(parts)

    def _options(self, stage: int) -> Mapping[Scalar, int]:
        return {multiplier: int(self.widths[stage] * multiplier) for multiplier in self.multipliers}

    def _block(self, stage: int, width: int, position: int) -> nn.Module:
        name = f"stage{stage + 1}.block{position}"
        kernels = {
            kernel: ElasticConv2d(width, width, kernel, padding=kernel // 2, groups=width) for kernel in self.kernels
        }
        expand = ElasticLinear(width, one_or_all(self.ratios), name=f"{name}.ratio", times_input=True)
        place = sum(self.depths[:stage]) + position
        return ConvNeXtBlock(
            OneOf(kernels, name=f"{name}.kernel") if len(kernels) > 1 else next(iter(kernels.values())),
            ElasticLayerNorm(width, _EPS),
            expand,
            ElasticLinear(expand.out_features, one_or_each(self._options(stage)), name=f"stage{stage + 1}.width"),
            ElasticParameter((width,), partial(nn.init.constant_, val=self.layer_scale)),
            self.drop_path * place / max(1, sum(self.depths) - 1),
        )
