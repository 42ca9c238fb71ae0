"""The network of NAS-Bench-Macro with its choice modules.

Su et al., "Prioritized Architecture Sampling with Monto-Carlo Tree Search", CVPR 2021, arXiv 2103.11922, section 5.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from automl_nas.space import OneOf

STAGES = (2, 3, 3)
"""Number of layers of each stage. The first layer of a stage halves height and width and doubles the channels."""


class InvertedResidual(nn.Module):
    """The block of MobileNetV2: a 1x1 convolution that widens, a depthwise one, and a linear 1x1 one that narrows.

    The input is added if it has the shape of the output.

    Args:
        inp: input channels.
        out: output channels.
        kernel: kernel size of the depthwise convolution, odd.
        expansion: channels of the depthwise convolution divided by the input channels.
        stride: stride of the depthwise convolution.
        affine: whether batch normalisation has weights and biases.
    """

    def __init__(self, inp: int, out: int, *, kernel: int, expansion: int, stride: int, affine: bool) -> None:
        super().__init__()
        mid = inp * expansion
        self.body = nn.Sequential(
            nn.Conv2d(inp, mid, 1, bias=False),
            nn.BatchNorm2d(mid, affine=affine),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid, mid, kernel, stride, kernel // 2, groups=mid, bias=False),
            nn.BatchNorm2d(mid, affine=affine),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid, out, 1, bias=False),
            nn.BatchNorm2d(out, affine=affine),
        )
        self.adds = stride == 1 and inp == out

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, shape ``(batch, out, height / stride, width / stride)``."""
        y: Tensor = self.body(x)
        return x + y if self.adds else y


def macro_network(
    *, num_classes: int, image_channels: int, channels: int, last_channels: int, affine: bool, shared: bool
) -> nn.Sequential:
    """Return the whole network with a choice for each of its eight layers.

    Args:
        num_classes: number of outputs.
        image_channels: channels of the images.
        channels: channels of the stem.
        last_channels: channels of the 1x1 convolution before the pooling.
        affine: whether batch normalisation has weights and biases.
        shared: whether the small block of a layer is a part of the large one in a supernet.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["stem"] = nn.Sequential(
        nn.Conv2d(image_channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
        nn.ReLU(inplace=True),
    )
    width, number = channels, 0
    for layers in STAGES:
        for place in range(layers):
            number += 1
            inp, stride = (width, 2) if place == 0 else (2 * width, 1)
            parts[f"layer_{number}"] = _layer(f"layer_{number}", inp, 2 * width, stride, affine, shared)
        width *= 2
    parts["last"] = nn.Sequential(
        nn.Conv2d(width, last_channels, 1, bias=False),
        nn.BatchNorm2d(last_channels, affine=affine),
        nn.ReLU(inplace=True),
    )
    parts["pool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["linear"] = nn.Linear(last_channels, num_classes)
    return nn.Sequential(parts)


def _layer(name: str, inp: int, out: int, stride: int, affine: bool, shared: bool) -> OneOf:
    # Where the shape changes, a 1x1 convolution with the stride replaces the identity.
    identity: nn.Module = nn.Identity()
    if stride != 1 or inp != out:
        identity = nn.Sequential(nn.Conv2d(inp, out, 1, stride, bias=False), nn.BatchNorm2d(out, affine=affine))
    return OneOf(
        {
            "identity": identity,
            "k3_e3": InvertedResidual(inp, out, kernel=3, expansion=3, stride=stride, affine=affine),
            "k5_e6": InvertedResidual(inp, out, kernel=5, expansion=6, stride=stride, affine=affine),
        },
        name=name,
        shared=shared,
    )
