from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from automl_nas.evaluation import Runtime
from automl_nas_quantization.layers import run_with


class Strides(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records whether the inputs of convolutions were contiguous where their gradients are computed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.contiguous: list[bool] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten.convolution_backward.default:
            self.contiguous.append(args[1].stride() == torch.empty(args[1].shape, device="meta").stride())
        return func(*args, **(kwargs or {}))


def contiguous_in_training(layer: nn.Module, channels: int) -> bool:
    """Return whether a placed layer with quantised weights sees a contiguous input of channels_last."""
    layer = Runtime(device="cpu").place(layer)
    x = torch.randn(2, channels, 8, 8).to(memory_format=torch.channels_last).requires_grad_()
    with Strides() as strides:
        run_with(layer, x, lambda weight: weight.round(decimals=1)).sum().backward()
    (contiguous,) = strides.contiguous
    return contiguous


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_strided_pointwise_layers_with_few_channels_are_guarded(channels: int) -> None:
    """They corrupt the heap on processors without AVX-512 (`automl_nas.onednn_guard`); 8 channels and more do not."""
    assert contiguous_in_training(nn.Conv2d(channels, 8, 1, 2, bias=False), channels)


def test_other_layers_keep_their_memory_format() -> None:
    assert not contiguous_in_training(nn.Conv2d(8, 8, 1, 2, bias=False), 8)
    assert not contiguous_in_training(nn.Conv2d(4, 8, 3, 2, 1, bias=False), 4)
    assert not contiguous_in_training(nn.Conv2d(4, 8, 1, bias=False), 4)
