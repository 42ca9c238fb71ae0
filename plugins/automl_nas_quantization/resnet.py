"""The space `mixed_precision_resnet`: ResNets with a precision, and perhaps a width, for every block.

The networks of the mixed-precision search of SPOS (arXiv 1904.00420, section 4), ResNet-18 and ResNet-34 (He et al.
2016, arXiv 1512.03385, table 1), and smaller ones for small images.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Literal, final

from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import ElasticBatchNorm2d, ElasticConv2d, ModuleSpace, Scalar
from automl_nas_quantization.layers import Scheme
from automl_nas_quantization.precision import PAIRS, Precision, precisions
from automl_nas_quantization.quantizers import WeightQuantizer
from automl_nas_quantization.wrapping import Layers, quantize_layers


def mixed_precision_resnet(
    *,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    widths: tuple[int, ...] = (64, 128, 256, 512),
    repeats: tuple[int, ...] = (2, 2, 2, 2),
    strides: tuple[int, ...] = (1, 2, 2, 2),
    scales: tuple[float, ...] = (1.0,),
    stem: Literal["imagenet", "small"] = "imagenet",
    precisions: tuple[tuple[int, int], ...] = PAIRS,
    ends: tuple[int, int] = (8, 8),
    weights: WeightQuantizer = "dorefa",
    initial_clip: float = 3.0,
    full_gradient: bool = False,
) -> ModuleSpace:
    """Return the space. The defaults are ResNet-18 for ImageNet; repeats of 3, 4, 6, 3 make ResNet-34.

    Decisions for each basic block: ``layer1.0.precision``, the bits of its two or three convolutions, with options such
    as ``W2A4``; with several ``scales`` also ``layer1.0.scale``, the channels between its two convolutions.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image.
        widths: output channels of each stage.
        repeats: number of blocks of each stage.
        strides: stride of the first block of each stage.
        scales: channels between the two convolutions of a block, relative to the width of its stage; with one number
            there is no decision about it.
        stem: ``imagenet``: a 7x7 convolution and a pooling, which divide height and width by 4; ``small``: a 3x3
            convolution that keeps them, for small images.
        precisions: the pairs (weight bits, activation bits) of every block, from 1 to 8 bits; 32 means float32. The
            default has those of the paper.
        ends: the pair of the first and the last layer.
        weights: the quantiser of weights: ``dorefa``, as in the paper, or ``symmetric``, which has a step for each
            output channel and represents 0.
        initial_clip: clipping level of activations before the training.
        full_gradient: whether the gradient to the clipping level has the term of the rounding in range, which PACT
            leaves out.

    Raises:
        SpaceError: a setting is out of its range, bits that the quantisers do not have, a scale gives 0 channels, or
            images are too small for the strides.
    """
    plan = _ResNet(num_classes, input_shape, widths, repeats, strides, scales, stem)
    options, of_ends = _checked(precisions, ends)
    scheme = Scheme(weights, initial_clip, full_gradient)
    if plan.searches_nothing and len(options) == 1:
        raise SpaceError("there is nothing to search with one precision and one scale; add another pair or scale")
    return ModuleSpace(partial(_network, plan, options, of_ends, scheme), input_shape=plan.input_shape)


def _checked(pairs: tuple[tuple[int, int], ...], ends: tuple[int, int]) -> tuple[tuple[Precision, ...], Precision]:
    of_ends = Precision(*ends)
    if of_ends.activations == 1:
        raise SpaceError("the first layer's inputs have values of both signs, so ends needs 2 or more activation bits")
    return precisions(pairs), of_ends


def _network(plan: _ResNet, options: tuple[Precision, ...], ends: Precision, scheme: Scheme) -> nn.Module:
    network = plan.network()
    return quantize_layers(network, plan.layers(network), plan.blocks(network), options, ends, scheme)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 2).

    Args:
        inp: input channels.
        mid: channels between the convolutions; option -> channels if they are searched.
        out: output channels.
        stride: of the first convolution and the shortcut.
        name: of the decision about the channels.
    """

    def __init__(self, inp: int, mid: int | dict[Scalar, int], out: int, stride: int, name: str) -> None:
        super().__init__()
        if isinstance(mid, int):
            self.conv1: nn.Module = nn.Conv2d(inp, mid, 3, stride, 1, bias=False)
            self.bn1: nn.Module = nn.BatchNorm2d(mid)
            self.conv2: nn.Module = nn.Conv2d(mid, out, 3, 1, 1, bias=False)
        else:
            most = max(mid.values())
            self.conv1 = ElasticConv2d(inp, mid, 3, stride, 1, bias=False, name=name)
            self.bn1 = ElasticBatchNorm2d(most)
            self.conv2 = ElasticConv2d(most, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inp != out:
            self.downsample = nn.Sequential(nn.Conv2d(inp, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations after the sum, which are not negative."""
        shortcut = x if self.downsample is None else self.downsample(x)
        outputs: Tensor = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))) + shortcut)
        return outputs


@final
@dataclass(frozen=True)
class _ResNet:
    """The settings of the networks in float32, checked.

    Raises:
        SpaceError: a setting is out of its range.
    """

    num_classes: int
    input_shape: tuple[int, int, int]
    widths: tuple[int, ...]
    repeats: tuple[int, ...]
    strides: tuple[int, ...]
    scales: tuple[float, ...]
    stem: str

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.repeats) == len(self.strides) or not self.widths:
            raise SpaceError(
                "widths, repeats and strides must contain one number for each stage, "
                f"not {len(self.widths)}, {len(self.repeats)} and {len(self.strides)}"
            )
        numbers = {"num_classes": (self.num_classes,), "input_shape": self.input_shape, "widths": self.widths}
        for name, values in {**numbers, "repeats": self.repeats, "strides": self.strides}.items():
            if min(values) < 1:
                raise SpaceError(f"{name} must be at least 1, not {min(values)}")
        if not self.scales or min(self.scales) <= 0 or sorted(set(self.scales)) != list(self.scales):
            raise SpaceError(f"scales must be increasing numbers above 0, not {list(self.scales)}")
        for stage, width in enumerate(self.widths, start=1):
            if int(width * self.scales[0]) < 1:
                raise SpaceError(f"stage {stage}: the scale {self.scales[0]} gives 0 of {width} channels")
        shrink = 4 if self.stem == "imagenet" else 1
        for stride in self.strides:
            shrink *= stride
        if min(self.input_shape[1:]) < shrink:
            _, height, width = self.input_shape
            raise SpaceError(
                f"images of {height}x{width} are too small to be divided by {shrink}; use stem: small, or set some "
                "strides to 1"
            )

    @property
    def searches_nothing(self) -> bool:
        """Whether the networks have no decision in float32."""
        return len(self.scales) == 1

    def network(self) -> nn.Sequential:
        """Return the network in float32 with its choices."""
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        first, channels = self.widths[0], self.input_shape[0]
        if self.stem == "imagenet":
            parts["conv1"] = nn.Conv2d(channels, first, 7, 2, 3, bias=False)
        else:
            parts["conv1"] = nn.Conv2d(channels, first, 3, 1, 1, bias=False)
        parts["bn1"], parts["relu"] = nn.BatchNorm2d(first), nn.ReLU(inplace=True)
        if self.stem == "imagenet":
            parts["maxpool"] = nn.MaxPool2d(3, 2, 1)
        inp = first
        stages = zip(self.widths, self.repeats, self.strides, strict=True)
        for stage, (width, count, stride) in enumerate(stages, start=1):
            blocks: list[nn.Module] = []
            for number in range(count):
                name = f"layer{stage}.{number}.scale"
                blocks.append(BasicBlock(inp, self._middle(width), width, stride if number == 0 else 1, name))
                inp = width
            parts[f"layer{stage}"] = nn.Sequential(*blocks)
        parts["avgpool"], parts["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        parts["fc"] = nn.Linear(inp, self.num_classes)
        return nn.Sequential(parts)

    def layers(self, network: nn.Module) -> Layers:
        """Return the layers in the order of their calls; only images have negative values."""
        paths = tuple(path for path, module in network.named_modules() if isinstance(module, nn.Conv2d | nn.Linear))
        return Layers(paths, frozenset(paths[:1]), frozenset(paths[-1:]), frozenset(paths[:1]))

    def blocks(self, network: nn.Module) -> dict[str, str]:
        """Return path of a layer -> path of its block."""
        paths = [path for path, module in network.named_modules() if isinstance(module, BasicBlock)]
        return {f"{path}.{name}": path for path in paths for name, _ in network.get_submodule(path).named_modules()}

    def _middle(self, width: int) -> int | dict[Scalar, int]:
        widths: dict[Scalar, int] = {scale: int(width * scale) for scale in self.scales}
        return next(iter(widths.values())) if len(widths) == 1 else widths
