"""The number of activations as a cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from automl_nas.evaluation import CostModel
from automl_nas.space import Architecture, SearchSpace


@final
class Activations(CostModel):
    """The number of elements in the outputs of all convolutions, for one input.

    On accelerators that are limited by memory bandwidth, it predicts run times better than FLOPs (Radosavovic et al.
    2020, "Designing Network Design Spaces"; they count convolutions only).

    Args:
        space: any space that can build networks.
        linear: whether to count the outputs of linear layers too.
    """

    metric: ClassVar[str] = "activations"
    unit: ClassVar[str] = "elements"
    integral: ClassVar[bool] = True

    def __init__(self, space: SearchSpace, *, linear: bool = False) -> None:
        self._space = space
        convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
        self._counted = (*convolutions, nn.Linear) if linear else convolutions

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return module path -> number of elements of its output; a module that runs twice counts twice."""
        sizes: dict[str, float] = {}

        def count(path: str, output: Tensor) -> None:
            sizes[path] = sizes.get(path, 0) + output.numel()

        # Tensors on the device "meta" have shapes but no data, so no values are computed and no random numbers drawn.
        with torch.device("meta"), torch.no_grad():
            network = self._space.build(architecture).eval()
            for path, module in network.named_modules():
                if isinstance(module, self._counted):
                    module.register_forward_hook(lambda _module, _inputs, output, path=path: count(path, output))
            network(torch.empty(1, *self._space.input_shape))
        return sizes
