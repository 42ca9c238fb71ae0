"""Kernels of searched size: the centre of the largest kernel, perhaps multiplied by a trained matrix."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError


def centre(weight: Tensor, size: int) -> Tensor:
    """Return the centre of kernels, shape ``(outputs, inputs, size, size)``, a view of the weight."""
    start = (weight.shape[-1] - size) // 2
    return weight[..., start : start + size, start : start + size]


def check_kernels(kernels: Sequence[int], largest: tuple[int, ...], dilation: tuple[int, ...], padding: object) -> None:
    """Check the options of a searched kernel.

    Raises:
        SpaceError: they do not increase, are not centres of the largest kernel, or their padding would be negative.
    """
    sizes = list(kernels)
    if any(type(size) is not int or size < 1 for size in sizes) or any(b <= a for a, b in pairwise(sizes)):
        raise SpaceError(f"the kernels of an ElasticConv2d must be increasing whole numbers from 1 on, not {sizes}")
    if largest != (sizes[-1], sizes[-1]):
        raise SpaceError(
            f"the kernel_size of an ElasticConv2d must be the largest of its kernels {sizes}, not {largest}"
        )
    if uncentred := [size for size in sizes if (sizes[-1] - size) % 2]:
        raise SpaceError(
            f"a kernel of {uncentred[0]} has no place in the centre of one of {sizes[-1]}; use odd kernels only, or "
            "even ones only"
        )
    if padding == "same":
        return
    if not isinstance(padding, tuple) or any(
        pad < (sizes[-1] - sizes[0]) // 2 * step for pad, step in zip(padding, dilation, strict=True)
    ):
        raise SpaceError(
            f"the padding of the kernel {sizes[-1]} is {padding!r}; a kernel of {sizes[0]} gives outputs of the same "
            f"size only with less padding, and it cannot be negative; use padding={sizes[-1] // 2 * max(dilation)}"
        )


@final
class KernelTransformation(nn.Module):
    """Matrices that make small kernels of the centre of large ones (Cai et al. 2020, arXiv 1908.09791, section 3.2).

    The centre of a kernel, as a vector ``v`` of k*k numbers, becomes ``M v``; a third size is made of the second. All
    channels of a layer share the matrices, which begin as the identity.

    Args:
        sizes: of the kernels, increasing.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self._steps = [(large, small) for small, large in pairwise(sizes)][::-1]
        for large, small in self._steps:
            self.register_parameter(_matrix(large, small), nn.Parameter(torch.empty(small**2, small**2)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Make every matrix the identity."""
        for matrix in self._parameters.values():
            assert matrix is not None
            nn.init.eye_(matrix)

    def forward(self, weight: Tensor, size: int) -> Tensor:
        """Return kernels of a size.

        Args:
            weight: the largest kernels, shape ``(outputs, inputs, largest, largest)``.
            size: one of the sizes.
        """
        for large, small in self._steps:
            if weight.shape[-1] > size:
                vectors = centre(weight, small).flatten(2)
                matrix = self._parameters[_matrix(large, small)]
                assert matrix is not None
                weight = F.linear(vectors, matrix).view(*vectors.shape[:2], small, small)
        return weight


def _matrix(large: int, small: int) -> str:
    return f"matrix_{large}to{small}"
