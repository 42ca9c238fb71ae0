"""Guard against a oneDNN kernel that corrupts the heap: 1x1 convolutions with a stride and few channels per group.

On processors with AVX2 and without AVX-512, oneDNN's gradient with respect to the weight of a 1x1 convolution writes
past the end of its buffer if all of these conditions hold: a stride above 1, no padding, fewer input channels than an
AVX2 register has floats (8), tensors in channels_last. Measured with torch 2.13.0 and 2.14.1;
``ONEDNN_MAX_CPU_ISA=AVX2`` reproduces it on processors with AVX-512. For contiguous tensors oneDNN uses another kernel,
which is correct. The guard therefore makes the tensors of these convolutions contiguous. It is active on every CPU, so
that results do not depend on the model of the processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_FLOATS_PER_REGISTER = 8


def guard_convolutions(module: nn.Module) -> None:
    """Make the tensors of those convolutions of a module contiguous that oneDNN may compute wrongly on the CPU.

    Adds a forward pre-hook to 1x1 ``nn.Conv2d`` layers with a stride, unless the layer has the hook already.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and is_strided_pointwise(layer.kernel_size, layer.stride):
            if layer.weight is None:  # a part of the weight of another layer, which each call passes
                own = None if layer.padding_mode == "zeros" else tuple(layer._reversed_padding_repeated_twice)
                settings = layer.stride, layer.padding if own is None else 0, layer.dilation, layer.groups
                layer.__dict__["_conv_forward"] = _ContiguousConvolution(settings, own, layer.padding_mode)
                continue
            if layer.weight.device.type != "cpu":
                _remove_guard(layer)
                continue
            # The Parameter object must stay the same, since optimisers refer to it.
            layer.weight.data = _contiguous(layer.weight.data)
            if _make_inputs_contiguous not in layer._forward_pre_hooks.values():
                layer.register_forward_pre_hook(_make_inputs_contiguous)


def remove_guards(module: nn.Module) -> None:
    """Remove the hooks of `guard_convolutions`, so that a delivered network does not refer to this package."""
    for layer in module.modules():
        _remove_guard(layer)


def is_strided_pointwise(kernel_size: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether a convolution has a 1x1 kernel and a stride above 1 in at least one direction."""
    return max(kernel_size) == 1 and max(stride) > 1


def contiguous_if_narrow(x: Tensor, groups: int = 1) -> Tensor:
    """Return the input of a strided 1x1 convolution, made contiguous if it is on the CPU and has few channels.

    Args:
        x: the input, shape ``(samples, channels, height, width)``.
        groups: the groups of the convolution.
    """
    if x.device.type == "cpu" and x.shape[1] // groups < _FLOATS_PER_REGISTER:
        return _contiguous(x)
    return x


def _contiguous(x: Tensor) -> Tensor:
    # `Tensor.contiguous` keeps the strides of channels_last if a dimension has length 1, as in a 1x1 kernel, and torch
    # chooses the kernel by the strides.
    return (
        x
        if x.stride() == torch.empty(x.shape, device="meta").stride()
        else x.clone(memory_format=torch.contiguous_format)
    )


def _make_inputs_contiguous(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    assert isinstance(layer, nn.Conv2d)
    x, *rest = inputs
    # The number of channels of an elastic convolution is only known in the call: it is that of the input.
    return (contiguous_if_narrow(x, layer.groups), *rest)


@dataclass(frozen=True)
class _ContiguousConvolution:
    """The method ``_conv_forward`` of a layer whose weight is a part of another one; it makes both contiguous.

    Attributes:
        settings: stride, padding, dilation and groups.
        own_padding: what torch pads before it convolves, with another ``padding_mode`` than zeros.
        padding_mode: of ``nn.Conv2d``.
    """

    settings: tuple[Any, Any, Any, int]
    own_padding: tuple[int, ...] | None
    padding_mode: str

    def __call__(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.own_padding is not None:
            x = F.pad(x, self.own_padding, self.padding_mode)
        if x.device.type == "cpu" and weight.shape[1] < _FLOATS_PER_REGISTER:
            x, weight = _contiguous(x), _contiguous(weight)
        return F.conv2d(x, weight, bias, *self.settings)

    def __deepcopy__(self, memo: dict[int, Any]) -> _ContiguousConvolution:
        return self


def _remove_guard(layer: nn.Module) -> None:
    if isinstance(layer.__dict__.get("_conv_forward"), _ContiguousConvolution):
        del layer.__dict__["_conv_forward"]
    for key in [key for key, hook in layer._forward_pre_hooks.items() if hook is _make_inputs_contiguous]:
        del layer._forward_pre_hooks[key]
