"""A toy space with a supernet."""

from __future__ import annotations

from torch import nn

from automl_nas.space.modules.choice import OneOf
from automl_nas.space.modules.space import ModuleSpace


def toy_supernet_space(
    *,
    blocks: int = 2,
    options: int = 3,
    width: int = 4,
    num_classes: int = 3,
    input_shape: tuple[int, ...] = (1, 4, 4),
    skip: bool = False,
) -> ModuleSpace:
    """Return a space of small convolutional networks with a supernet; each block has a choice of kernel sizes.

    The decisions are ``d0``, ``d1``, ... with options ``k1``, ``k3``, ``k5``, ...: a ``kernel x kernel`` convolution
    with batch normalisation and ReLU. With `skip` there is one more, ``skip``, without a layer.

    Args:
        blocks: the number of decisions.
        options: the number of kernel sizes.
        width: the number of channels of every block.
        num_classes: the number of outputs.
        input_shape: the shape of one image.
        skip: whether a block may be left out, so that networks differ in their number of layers.
    """

    def block(kernel: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )

    def network() -> nn.Module:
        choices = [
            OneOf(
                {
                    **{f"k{kernel}": block(kernel) for kernel in range(1, 2 * options, 2)},
                    **({"skip": nn.Identity()} if skip else {}),
                },
                name=f"d{number}",
            )
            for number in range(blocks)
        ]
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
        return nn.Sequential(nn.Conv2d(input_shape[0], width, 1, bias=False), *choices, *head)

    return ModuleSpace(network, input_shape=input_shape)
