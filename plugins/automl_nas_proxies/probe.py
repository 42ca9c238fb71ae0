"""A fresh network with one batch, and the derivatives that proxies share: `Probe`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from automl_nas.errors import ConfigurationError

Loss = Callable[[Tensor, Tensor], Tensor]
"""Outputs and targets of a batch -> the mean loss."""

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
"""The layers whose weights proxies look at, as in Abdelfattah et al. 2021; biases and normalisation are left out."""

BATCH_NORMALISATION = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

NORMALISATION = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
"""Layers that divide by what they measure, with their subclasses. `_NormBase` are batch and instance normalisation."""


@dataclass(frozen=True)
class LossPass:
    """What one forward and backward pass of the loss gives.

    Attributes:
        gradients: of the weights in the order of `Probe.weights`; zeros for a weight that has no influence.
        saliences: for each weighted layer and each of its calls the sum over positions of activation times gradient,
            shape ``(batch, channels)``.
        filters: for each of them the number of weights of an output channel.
    """

    gradients: list[Tensor]
    saliences: list[Tensor]
    filters: list[int]


@final
class Probe:
    """A network in training mode, one batch, and what proxies compute from both. Nothing changes the weights.

    Args:
        network: with fresh weights.
        inputs: shape ``(batch, *input_shape)``, on the network's device.
        targets: of the batch; None: the batch has no targets, and no loss can be computed.
        loss: of the task; None: as for ``targets``.
    """

    def __init__(
        self, network: nn.Module, inputs: Tensor, targets: Tensor | None = None, loss: Loss | None = None
    ) -> None:
        self.network, self.inputs = network.train(), inputs
        self._targets, self._loss = targets, loss

    @property
    def targets(self) -> Tensor:
        """The targets of the batch.

        Raises:
            ConfigurationError: the batch has no targets.
        """
        if self._targets is None:
            raise ConfigurationError("this proxy needs targets, which exist with a task only; use the evaluator")
        return self._targets

    @cached_property
    def weights(self) -> list[Tensor]:
        """The weights of convolutions and linear layers, shared ones once."""
        layers = (module for module in self.network.modules() if isinstance(module, WEIGHTED))
        return list({id(layer.weight): layer.weight for layer in layers}.values())

    def loss(self) -> Tensor:
        """Return the loss of the batch, with its graph."""
        targets = self.targets
        if self._loss is None:
            raise ConfigurationError("this proxy needs a loss, which exists with a task only; use the evaluator")
        return self._loss(self.network(self.inputs), targets)

    @cached_property
    def loss_pass(self) -> LossPass:
        """The gradients of the loss, computed once."""
        activations: list[Tensor] = []
        filters: list[int] = []
        channels: list[int] = []

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            activations.append(output)
            channels.append(-1 if isinstance(module, nn.Linear) else 1)
            weight = module.weight
            filters.append(weight[0].numel() if isinstance(weight, Tensor) else 0)

        with _hooked(self.network, keep, WEIGHTED):
            loss = self.loss()
        variables = [*self.weights, *activations]
        derivatives = torch.autograd.grad(loss, variables, allow_unused=True)
        gradients = _complete(derivatives[: len(self.weights)], self.weights)
        slopes = _complete(derivatives[len(self.weights) :], activations)
        saliences = []
        for activation, slope, axis in zip(activations, slopes, channels, strict=True):
            # Axis 1 has the channels of a convolution; those of a linear layer are the last axis. The others but the
            # first are positions.
            product = (activation * slope).detach().movedim(axis, 1)
            saliences.append(product.flatten(2).sum(2) if product.dim() > 2 else product)
        return LossPass(gradients, saliences, filters)

    @cached_property
    def jacobian(self) -> Tensor:
        """The gradient of the sum of the outputs with respect to each input, shape ``(batch, values of an input)``.

        Batch normalisation lets the samples of a batch influence each other; as in the papers, the outputs of the whole
        batch are differentiated at once.

        Raises:
            ConfigurationError: inputs are token numbers.
        """
        if not self.inputs.is_floating_point():
            raise ConfigurationError("inputs of this task are integers, which have no gradient; use another proxy")
        inputs = self.inputs.detach().clone().requires_grad_(True)
        outputs: Tensor = self.network(inputs)
        (gradient,) = torch.autograd.grad(outputs.sum(), [inputs], allow_unused=True)
        return (torch.zeros_like(inputs) if gradient is None else gradient).flatten(1).double()


def _complete(derivatives: tuple[Tensor | None, ...], like: list[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(b) if a is None else a for a, b in zip(derivatives, like, strict=True)]


@contextmanager
def _hooked(
    network: nn.Module, hook: Callable[[nn.Module, tuple[Tensor, ...], Tensor], None], kinds: tuple[type, ...]
) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in network.modules() if isinstance(module, kinds)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
