"""Quantised layers: `QuantizedLayer` of one precision, and `SearchedPrecision`, whose precision is a decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError
from automl_nas.onednn_guard import contiguous_if_narrow, is_strided_pointwise
from automl_nas.space import (
    Choice,
    ChoiceModule,
    Decision,
    ElasticConv2d,
    ElasticLinear,
    ModuleResolver,
    ResolvedChoice,
    Scalar,
    Value,
)
from automl_nas_quantization.precision import FLOAT, Precision
from automl_nas_quantization.quantizers import WEIGHT_QUANTIZERS, WeightQuantizer, quantize_activations

KINDS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Linear, ElasticConv2d, ElasticLinear)
"""The classes of layers that are quantised. Others that derive from these stay as they are: they may compute more."""


@final
@dataclass(frozen=True)
class Scheme:
    """How layers are quantised, apart from the bits.

    Attributes:
        weights: the quantiser of weights.
        initial_clip: the clipping level of activations before the training.
        full_gradient: whether the gradient to the clipping level has the term of the rounding in range; see
            `automl_nas_quantization.quantizers.quantize_activations`.

    Raises:
        SpaceError: the clipping level is not above 0.
    """

    weights: WeightQuantizer = "dorefa"
    initial_clip: float = 3.0
    full_gradient: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.initial_clip < float("inf"):
            raise SpaceError(f"initial_clip must be a number above 0, not {self.initial_clip}")


class QuantizedLayer(nn.Module):
    """A convolution or linear layer that quantises its input and its weights whenever it is called.

    The weights in ``layer`` are those in float32 that are trained (latent weights); the bias is not quantised.

    Args:
        layer: the layer.
        precision: bits of weights and activations.
        signed: whether inputs may be negative.
        scheme: the quantisers.
        clip: the clipping level of inputs, of shape (1,); None: a new one, where inputs are quantised.
        searched: whether the precision is that of a decision; False: it is fixed, as in the first and last layer.
    """

    def __init__(
        self,
        layer: nn.Module,
        precision: Precision,
        *,
        signed: bool,
        scheme: Scheme,
        clip: nn.Parameter | None = None,
        searched: bool = False,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.precision, self.signed, self.scheme, self.searched = precision, signed, scheme, searched
        if precision.activations == FLOAT:
            self.clip: nn.Parameter | None = None
        else:
            self.clip = new_clip(layer, scheme) if clip is None else clip

    def forward(self, x: Tensor) -> Tensor:
        """Quantise the input and the weights, and run the layer."""
        return run_with(self.layer, self.quantized_input(x), self.quantized_weight)

    def quantized_input(self, x: Tensor) -> Tensor:
        """Return an input on its grid."""
        # Tensors without data have shapes only: nothing is rounded while costs are counted.
        if self.clip is None or x.is_meta:
            return x
        return quantize_activations(
            x, self.clip, self.precision.activations, signed=self.signed, full=self.scheme.full_gradient
        )

    def quantized_weight(self, weight: Tensor) -> Tensor:
        """Return weights on their grid."""
        if self.precision.weights == FLOAT or weight.is_meta:
            return weight
        return WEIGHT_QUANTIZERS[self.scheme.weights](weight, self.precision.weights)

    def extra_repr(self) -> str:
        """Return the precision for ``repr``."""
        return f"{self.precision}{', signed' if self.signed else ''}, {self.scheme.weights}"


def new_clip(layer: nn.Module, scheme: Scheme) -> nn.Parameter:
    """Return a clipping level with its initial value, on the device of a layer."""
    device = next(layer.parameters()).device
    return nn.Parameter(torch.full((1,), scheme.initial_clip, device=device))


def run_with(layer: nn.Module, x: Tensor, quantize: Callable[[Tensor], Tensor]) -> Tensor:
    """Run a layer with quantised weights; of an elastic layer, the weights in use are quantised, and no others."""
    outputs: Tensor
    if isinstance(layer, ElasticConv2d | ElasticLinear):
        outputs = layer(x, quantize)
    elif isinstance(layer, nn.Linear):
        outputs = F.linear(x, quantize(layer.weight), layer.bias)
    else:
        assert isinstance(layer, nn.Conv1d | nn.Conv2d)
        if isinstance(layer, nn.Conv2d) and is_strided_pointwise(layer.kernel_size, layer.stride):
            x = contiguous_if_narrow(x, layer.groups)  # the hook of `guard_convolutions` does not run in this call
        # What torch's own layers for quantisation-aware training call; it also pads.
        outputs = layer._conv_forward(x, quantize(layer.weight), layer.bias)
    return outputs


@final
class SearchedPrecision(ChoiceModule):
    """A layer whose precision is a decision, ``<name>.precision``; layers of the same name share the decision.

    The options share the weights of the layer. Each number of activation bits has a clipping level of its own, since
    fewer bits need a lower one (AdaBits, Jin et al. 2020, arXiv 1912.09666, section 3.3).

    Args:
        layer: a convolution or linear layer, perhaps elastic.
        options: the precisions.
        signed: whether inputs may be negative.
        scheme: the quantisers.
        name: of the block; None: the path of this module.
    """

    KEY = "precision"

    def __init__(
        self,
        layer: nn.Module,
        options: Sequence[Precision],
        *,
        signed: bool,
        scheme: Scheme,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.layer, self.signed, self.scheme = layer, signed, scheme
        self._decision = Choice(tuple(str(option) for option in options))
        bits = sorted({option.activations for option in options} - {FLOAT})
        self.clips = nn.ParameterDict({str(each): new_clip(layer, scheme) for each in bits})

    def decisions(self) -> Mapping[str, Decision]:
        """Return the decision about the precision."""
        return {self.KEY: self._decision}

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the layer at the selected precision."""
        precision = self._precision(choices)
        return self._quantized(resolver(self.layer), precision, self._clip(precision))

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a stand-alone layer at the selected precision."""
        precision = self._precision(choices)
        clip = self._clip(precision)
        if clip is not None:
            clip = nn.Parameter(clip.detach().clone(), clip.requires_grad)
        layer = resolver(self.layer)
        return self._quantized(layer, precision, clip) if precision.quantizes else layer

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return the value and the layer."""
        return values, (self.layer,)

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove options, and the clipping levels that no other option has."""
        self._decision = Choice(live[self.KEY])
        used = {str(Precision.parse(str(option)).activations) for option in self._decision.options}
        for bits in [each for each in self.clips if each not in used]:
            del self.clips[bits]

    def _quantized(self, layer: nn.Module, precision: Precision, clip: nn.Parameter | None) -> nn.Module:
        quantized = QuantizedLayer(layer, precision, signed=self.signed, scheme=self.scheme, clip=clip, searched=True)
        return quantized.train(self.training)

    def _clip(self, precision: Precision) -> nn.Parameter | None:
        return None if precision.activations == FLOAT else self.clips[str(precision.activations)]

    def _precision(self, choices: Mapping[str, ResolvedChoice]) -> Precision:
        choice = choices[self.KEY]
        if choice.weights is not None:
            raise SpaceError(
                f"the precision '{self.path}.{self.KEY}' takes values only; use a strategy that selects one option, "
                "such as single_path"
            )
        return Precision.parse(str(choice.options[0]))
