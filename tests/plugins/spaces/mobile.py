"""What the tests of the spaces of inverted residual blocks have in common: counting without any cost model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from automl_nas.space import SupernetSpace

TOY: Mapping[str, Any] = {"num_classes": 3, "input_shape": (3, 12, 12), "stem_channels": 8, "stem_stride": 1}


def counted(network: nn.Module, size: int) -> tuple[int, int]:
    """Return parameters, and multiply-adds by hooks: one for each output element and each weight that it reads."""
    total = 0

    def add(module: nn.Module, args: Any, output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d | nn.Linear):
            total += output.numel() * module.weight[0].numel()

    hooks = [module.register_forward_hook(add) for module in network.modules()]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    return sum(parameter.numel() for parameter in network.parameters()), total


def supernet_parameters(space: SupernetSpace) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in space.build_supernet().parameters())


def equal_outputs(space: SupernetSpace, architecture: Any, model: nn.Module, size: int) -> None:
    """Check that a network with the weights of a model of torchvision has its outputs."""
    from automl_nas_spaces.mobile.members import from_torchvision

    network = space.build(architecture).eval()
    network.load_state_dict(from_torchvision(network, model.state_dict()))
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        # The same layers in the same order; some sums of products may be ordered otherwise.
        torch.testing.assert_close(network(x), model.eval()(x), rtol=1e-4, atol=1e-5)
