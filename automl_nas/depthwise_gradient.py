"""Depthwise convolutions whose weight gradient oneDNN computes slowly: `convolve`, `use_fast_gradients`.

oneDNN has a fast kernel for the weight gradient of a depthwise convolution on the CPU, except for a kernel that is
higher than its input, and for dilated kernels. For these a general kernel takes 10 to 60 times as long as the forward
pass (torch 2.13.0, AVX2 without AVX-512), in spite of the few elements: 3 x 3 kernels on feature maps of 2 x 2 points,
7 x 7 kernels on 4 x 4 points. The last stages of networks for small images have such convolutions. Here this gradient
is computed by matrix products (``benchmarks/depthwise_gradient.py``); the outputs and all other gradients are torch's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

_POINTS = 64
"""The largest feature maps: the products grow with the square of the points, and the slow kernel with the points."""

Pair: TypeAlias = tuple[int, ...]


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair | str, dilation: Pair, groups: int
) -> Tensor:
    """Return ``torch.nn.functional.conv2d`` of the arguments, with a fast gradient of the weight where torch's is slow.

    Args:
        x: shape ``(samples, channels, height, width)``, or ``(channels, height, width)``.
        weight: shape ``(outputs, channels / groups, kernel height, kernel width)``.
        bias: shape ``(outputs,)``; None: without one.
        stride: of both directions, as the next two.
        padding: zeros at each side; or as the name that `torch.nn.Conv2d` takes.
        dilation: distance between elements of the kernel.
        groups: number of groups of channels.
    """
    if isinstance(padding, tuple) and _is_slow(x, weight, dilation, groups):
        output: Tensor = _Depthwise.apply(x, weight, bias, stride, padding, dilation)  # type: ignore[no-untyped-call]
        return output
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def use_fast_gradients(module: nn.Module) -> None:
    """Make the depthwise ``nn.Conv2d`` layers of a module that are on the CPU compute by `convolve`.

    Args:
        module: it is changed in place; its parameters stay the same objects.
    """
    use_torch_gradients(module)
    for layer in module.modules():
        if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros":
            continue
        # The weight is None if it is a part of that of another layer, which each call passes.
        on_cpu = layer.weight is None or layer.weight.device.type == "cpu"
        if on_cpu and layer.in_channels == layer.groups == layer.out_channels:
            layer.__dict__["_conv_forward"] = _Convolution(layer.stride, layer.padding, layer.dilation)


def use_torch_gradients(module: nn.Module) -> None:
    """Undo `use_fast_gradients`, so that a delivered network does not refer to this package."""
    for layer in module.modules():
        if isinstance(layer.__dict__.get("_conv_forward"), _Convolution):
            del layer.__dict__["_conv_forward"]


@dataclass(frozen=True)
class _Convolution:
    """The method ``_conv_forward`` of a layer, without a reference to the layer: layers are copied."""

    stride: Any
    padding: Any
    dilation: Any

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return convolve(x, weight, bias, self.stride, self.padding, self.dilation, len(weight))

    def __deepcopy__(self, memo: dict[int, Any]) -> _Convolution:
        return self


def _is_slow(x: Tensor, weight: Tensor, dilation: Pair, groups: int) -> bool:
    """Whether oneDNN computes the gradient of the weight slowly, and it will be computed."""
    return (
        groups > 1
        and weight.requires_grad
        and x.dim() == 4
        and weight.shape[0] == groups == x.shape[1]
        and (weight.shape[2] > x.shape[2] or dilation != (1, 1))
        and x.shape[2] * x.shape[3] <= _POINTS
        and x.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.float64)
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class _Depthwise(torch.autograd.Function):
    """A convolution with one kernel for each channel."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
        return F.conv2d(x, weight, bias, stride, padding, dilation, len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, *ctx.settings = inputs
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_input, of_weight, of_bias = ctx.needs_input_grad[:3]
        results: list[Tensor | None] = [None, None, None]
        if of_input or of_bias:
            mask = [of_input, False, of_bias]
            results = list(
                torch.ops.aten.convolution_backward(
                    gradient, x, weight, ctx.bias_sizes, *ctx.settings, False, [0, 0], len(weight), mask
                )
            )
        if of_weight:
            results[1] = _weight_gradient(x, gradient, weight.shape, *ctx.settings)
        return (*results, None, None, None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        x, weight = ctx.saved_tensors
        of_input, of_weight = (
            torch.zeros_like(value) if tangent is None else tangent
            for value, tangent in zip((x, weight), tangents, strict=False)
        )
        stride, padding, dilation = ctx.settings
        first = F.conv2d(of_input, weight, tangents[2], stride, padding, dilation, len(weight))
        return first + F.conv2d(x, of_weight, None, stride, padding, dilation, len(weight))


def _weight_gradient(
    x: Tensor, gradient: Tensor, shape: torch.Size, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """Return the gradient of the weight.

    Its element of a channel, i and j is the sum over samples and output points (o, q) of the gradient there, times the
    input at (o s + i d - p, q s + j d - p). So all pairs of input and output points are multiplied and summed over the
    samples first, and then the pairs of each i and of each j.

    Args:
        x: the input, shape ``(samples, channels, height, width)``.
        gradient: of the output, shape ``(samples, channels, output height, output width)``.
        shape: of the weight.
        stride: of both directions, as the next two.
        padding: zeros at each side.
        dilation: distance between elements of the kernel.
    """
    samples, channels, height, width = x.shape
    high, wide = gradient.shape[2:]
    inputs = x.permute(1, 2, 3, 0).reshape(channels, height * width, samples)
    outputs = gradient.permute(1, 0, 2, 3).reshape(channels, samples, high * wide)
    pairs = torch.bmm(inputs, outputs).view(channels, height, width, high, wide)
    rows, columns = (
        torch.from_numpy(_pairs_of_elements(*sizes)).to(x.dtype)
        for sizes in zip((height, width), (high, wide), shape[2:], stride, padding, dilation, strict=True)
    )
    by_row = pairs.permute(0, 2, 4, 1, 3).reshape(channels, width * wide, height * high) @ rows
    result: Tensor = by_row.transpose(1, 2) @ columns
    return result.view(shape)


@lru_cache(256)  # of arrays: a tensor that is made within a mode or a transformation of torch may belong to it
def _pairs_of_elements(
    size: int, outputs: int, kernel: int, stride: int, padding: int, dilation: int
) -> NDArray[np.float32]:
    """Return which pairs of input and output points an element of the kernel connects, in one direction.

    Returns:
        Ones and zeros, shape ``(size * outputs, kernel)``.
    """
    points = np.arange(outputs)[:, None] * stride + np.arange(kernel) * dilation - padding
    pairs: NDArray[np.float32] = (np.arange(size)[:, None, None] == points).astype(np.float32)
    return pairs.reshape(size * outputs, kernel)
