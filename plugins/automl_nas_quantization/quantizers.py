"""Quantisers with straight-through gradients: activations by PACT, weights by DoReFa or symmetric steps.

All of them round half to even, as ``torch.round`` and the operator QuantizeLinear of ONNX do. Where a gradient would
pass ``round``, it passes unchanged (straight-through estimator, Bengio et al. 2013, arXiv 1308.3432).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

WeightQuantizer: TypeAlias = Literal["dorefa", "symmetric"]

SMALLEST_CLIP = 1e-4
"""A clipping level below this counts as this: it must be positive, and one that training made negative can recover."""


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, magnitude: Tensor) -> Tensor:
        # One bit has two values, and torch.sign has three.
        return torch.where(x < 0, -magnitude, magnitude)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def steps(bits: int, signed: bool) -> int:
    """Return the number of steps between 0 and the clipping level: 2^bits - 1, or with a sign 2^(bits - 1) - 1."""
    return (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1


def _pact(x: Tensor, clip: Tensor, bits: int, signed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return quantised activations, clipped ones, and the clipping level."""
    level = clip.clamp_min(SMALLEST_CLIP).to(x.dtype)
    step = level / steps(bits, signed)
    # Not torch.clamp: a bound that is a tensor makes torch 2.13 write an invalid ONNX file after a ReLU.
    clipped = torch.minimum(torch.maximum(x, -level) if signed else torch.relu(x), level)
    # The arithmetic of QuantizeLinear and DequantizeLinear of ONNX, so that values are equal to the last bit.
    return torch.round(clipped / step) * step, clipped, level


class _Pact(torch.autograd.Function):
    """PACT (Choi et al. 2018, arXiv 1805.06085, equations 1 to 3), and its extension to both signs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, clip: Tensor, bits: int, signed: bool, full: bool) -> Tensor:
        quantized, clipped, level = _pact(x, clip, bits, signed)
        ctx.save_for_backward(x, level, *([quantized - clipped] if full else []))
        ctx.signed = signed
        return quantized

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        x, level, *errors = ctx.saved_tensors
        above = x >= level
        below = x <= -level if ctx.signed else x <= 0
        to_x = gradient.masked_fill(above | below, 0) if ctx.needs_input_grad[0] else None
        to_clip = None
        if ctx.needs_input_grad[1]:
            slope = above.to(x.dtype)
            if ctx.signed:
                slope = slope - below.to(x.dtype)
            if errors:
                slope = slope + (errors[0] / level).masked_fill(above | below, 0)
            to_clip = (gradient * slope).sum().reshape(level.shape)
        return to_x, to_clip, None, None, None


def quantize_activations(x: Tensor, clip: Tensor, bits: int, *, signed: bool = False, full: bool = False) -> Tensor:
    """Return activations on a grid of 2^bits values in [0, clip], by PACT (arXiv 1805.06085, equations 1 and 2).

    ``y = clamp(x, 0, clip)`` and ``round(y / s) s`` with ``s = clip / (2^bits - 1)``. Gradients: 1 to x where
    ``0 < x < clip``, otherwise 0; 1 to the clipping level where ``x >= clip``, otherwise 0, summed over the tensor
    (equation 3).

    Args:
        x: activations of any shape.
        clip: the clipping level, a tensor with one element.
        bits: 1 or more; 2 or more if signed.
        signed: whether x may be negative. Then values are clamped to [-clip, clip], ``s = clip / (2^(bits-1) - 1)``,
            and the gradient to the clipping level is -1 where ``x <= -clip``. PACT itself takes outputs of ReLU only.
        full: whether the gradient to the clipping level also has the term of the rounding in range, which the paper
            leaves out: ``(round(y / s) s - y) / clip``.
    """
    if not torch.is_grad_enabled():
        return _pact(x, clip, bits, signed)[0]
    return _apply(_Pact, x, clip, bits, signed, full)


def dorefa(weight: Tensor, bits: int) -> Tensor:
    """Return weights on a grid of 2^bits values in [-1, 1] (DoReFa-Net, Zhou et al. 2016, arXiv 1606.06160, eq. 9).

    ``r = tanh(w) / (2 max|tanh w|) + 1/2`` and ``2 round(r (2^bits - 1)) / (2^bits - 1) - 1``; with one bit
    ``sign(w) mean|w|`` (equation 7), where the sign of 0 is 1. The maximum and the mean are constants for gradients;
    the gradient to w is ``(1 - tanh(w)^2) / max|tanh w|``, and with one bit 1.

    Args:
        weight: of one layer.
        bits: 1 or more.
    """
    if bits == 1:
        return _apply(_Sign, weight, weight.detach().abs().mean())
    tanh = torch.tanh(weight)
    most = tanh.detach().abs().max().clamp_min(torch.finfo(weight.dtype).tiny)
    levels = steps(bits, signed=False)
    ratio = tanh / (2 * most) + 0.5
    # Whole numbers times one step, as DequantizeLinear of ONNX computes, so that values are equal to the last bit.
    return (2 * _apply(_Round, ratio * levels) - levels) * (1 / levels)


def symmetric(weight: Tensor, bits: int) -> Tensor:
    """Return weights on a grid of ``2^bits - 1`` values around 0 for each output channel; with one bit of 2 values.

    ``round(w / s) s`` with ``s = max|w| / (2^(bits-1) - 1)``; with one bit ``sign(w) mean|w|``. The gradient to w is 1:
    s is a constant for gradients, and no weight is outside of the range.

    Args:
        weight: of one layer, output channels first.
        bits: 1 or more.
    """
    magnitude = weight.detach().abs().flatten(1)
    shape = (-1, *[1] * (weight.dim() - 1))
    if bits == 1:
        return _apply(_Sign, weight, magnitude.mean(1).reshape(shape))
    step = symmetric_steps(weight, bits)
    return _apply(_Round, weight / step) * step


def weight_steps(weight: Tensor, bits: int, quantizer: WeightQuantizer) -> Tensor:
    """Return s such that all quantised weights are whole numbers times s: one number, or one for each output channel.

    The whole numbers are -1 and 1 with one bit, odd numbers from ``-(2^bits - 1)`` to ``2^bits - 1`` for DoReFa, and
    numbers from ``-(2^(bits-1) - 1)`` to ``2^(bits-1) - 1`` for symmetric weights.

    Args:
        weight: of one layer, output channels first.
        bits: 1 or more.
        quantizer: of the weights.
    """
    if quantizer == "symmetric":
        return weight.abs().flatten(1).mean(1) if bits == 1 else symmetric_steps(weight, bits).flatten()
    return weight.abs().mean() if bits == 1 else torch.tensor(1 / steps(bits, signed=False), dtype=weight.dtype)


def symmetric_steps(weight: Tensor, bits: int) -> Tensor:
    """Return the step of each output channel of `symmetric`, of shape ``(channels, 1, ...)``; 2 or more bits."""
    most = weight.detach().abs().flatten(1).amax(1).reshape(-1, *[1] * (weight.dim() - 1))
    # A channel of zeros has any step.
    return torch.where(most > 0, most, torch.ones_like(most)) / steps(bits, signed=True)


WEIGHT_QUANTIZERS: dict[str, Callable[[Tensor, int], Tensor]] = {"dorefa": dorefa, "symmetric": symmetric}
"""The weight quantisers by their names in settings."""


def _apply(function: Any, *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)
    return result
