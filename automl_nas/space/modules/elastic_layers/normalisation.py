"""Normalisation of any number of channels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import final

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from automl_nas.space.modules.choice import ModuleResolver, ResolvedChoice
from automl_nas.space.modules.elastic_layers.following import FollowingLayer
from automl_nas.space.modules.elastic_layers.slices import check_width


class ElasticBatchNorm(FollowingLayer, _BatchNorm):
    """What `ElasticBatchNorm1d` and `ElasticBatchNorm2d` have in common. Abstract.

    Args:
        num_features: the largest number of channels.
        eps: as in ``nn.BatchNorm2d``.
        momentum: as in ``nn.BatchNorm2d``.
        affine: as in ``nn.BatchNorm2d``.
        track_running_stats: as in ``nn.BatchNorm2d``.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        _BatchNorm.__init__(self, num_features, eps, momentum, affine, track_running_stats)
        self._init_choice(None)

    @abstractmethod
    def plain(self, width: int) -> nn.Module:
        """Return the plain layer of a width with the settings of this one, on the meta device."""

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a plain layer of torch with copies of the channels in use."""
        width = resolver.input_shape(self)[1]
        check_width(self.path, width, self.num_features)
        plain = self.plain(width)
        for name, tensor in (*self._parameters.items(), *self._buffers.items()):
            if tensor is not None:
                part = (tensor[:width] if tensor.dim() else tensor).detach().clone()
                setattr(plain, name, nn.Parameter(part, tensor.requires_grad) if name in self._parameters else part)
        return plain.train(self.training)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise with the first channels' statistics, scale and shift."""
        width = x.shape[1]
        check_width(self.path, width, self.num_features)
        mean, variance = self.running_mean, self.running_var
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                factor = 1.0 / float(self.num_batches_tracked)
        return F.batch_norm(
            x,
            None if mean is None else mean[:width],
            None if variance is None else variance[:width],
            None if self.weight is None else self.weight[:width],
            None if self.bias is None else self.bias[:width],
            self.training or mean is None,
            factor,
            self.eps,
        )


@final
class ElasticBatchNorm1d(ElasticBatchNorm, nn.BatchNorm1d):
    """An `ElasticBatchNorm2d` for inputs of shape ``(batch, channels, length)`` or ``(batch, channels)``.

    Args:
        num_features: the largest number of channels.
        eps: as in ``nn.BatchNorm1d``.
        momentum: as in ``nn.BatchNorm1d``.
        affine: as in ``nn.BatchNorm1d``.
        track_running_stats: as in ``nn.BatchNorm1d``.
    """

    def plain(self, width: int) -> nn.Module:
        """Return an ``nn.BatchNorm1d``."""
        settings = (self.eps, self.momentum, self.affine, self.track_running_stats)
        return nn.BatchNorm1d(width, *settings, device="meta")


@final
class ElasticBatchNorm2d(ElasticBatchNorm, nn.BatchNorm2d):
    """Batch normalisation of any number of channels up to ``num_features``; it has no decision.

    All widths share the statistics of the first channels, so the statistics fit no width exactly: recalibrate an
    extracted network before it is evaluated.

    Args:
        num_features: the largest number of channels.
        eps: as in ``nn.BatchNorm2d``.
        momentum: as in ``nn.BatchNorm2d``.
        affine: as in ``nn.BatchNorm2d``.
        track_running_stats: as in ``nn.BatchNorm2d``.
    """

    def plain(self, width: int) -> nn.Module:
        """Return an ``nn.BatchNorm2d``."""
        settings = (self.eps, self.momentum, self.affine, self.track_running_stats)
        return nn.BatchNorm2d(width, *settings, device="meta")
