"""Layer normalisation of any number of features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.space.modules.choice import ModuleResolver, ResolvedChoice
from automl_nas.space.modules.elastic_layers.following import FollowingLayer
from automl_nas.space.modules.elastic_layers.slices import check_width


@final
class ElasticLayerNorm(FollowingLayer, nn.LayerNorm):
    """Layer normalisation over the last dimension, of any width up to ``features``; it has no decision.

    Mean and variance are those of the features that are there, so extracted networks need no recalibration.

    Args:
        features: the largest number of features.
        eps: as in ``nn.LayerNorm``.
        elementwise_affine: as in ``nn.LayerNorm``.
        bias: as in ``nn.LayerNorm``.
    """

    def __init__(self, features: int, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True) -> None:
        nn.LayerNorm.__init__(self, features, eps, elementwise_affine, bias)
        self._init_choice(None)

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a plain ``nn.LayerNorm`` with copies of the features in use."""
        width = resolver.input_shape(self)[-1]
        weight, bias = self._slices(width)
        with torch.device("meta"):
            plain = nn.LayerNorm(width, self.eps, weight is not None, bias is not None)
        for name, part in (("weight", weight), ("bias", bias)):
            if part is not None:
                setattr(plain, name, nn.Parameter(part.detach().clone(), part.requires_grad))
        return plain.train(self.training)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise over the last dimension, with the first scales and shifts."""
        width = x.shape[-1]
        return F.layer_norm(x, (width,), *self._slices(width), self.eps)

    def _slices(self, width: int) -> tuple[Tensor | None, Tensor | None]:
        check_width(self.path, width, self.normalized_shape[0])
        parts = (None if tensor is None else tensor[:width] for tensor in (self.weight, self.bias))
        return next(parts), next(parts)
