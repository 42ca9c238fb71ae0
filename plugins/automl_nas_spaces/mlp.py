"""The search space `mlp`: residual multilayer perceptrons for tables."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import ElasticLayerNorm, ElasticLinear, ModuleSpace, OneOf, Repeat
from automl_nas_spaces.settings import check_options, check_positive, check_probability, one_or_all

Activation = Literal["relu", "gelu", "silu", "tanh"]
Normalisation = Literal["layer", "none"]

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


@final
class PerceptronBlock(nn.Module):
    """``x + project(dropout(activation(expand(norm(x)))))`` (Gorishniy et al. 2021, arXiv 2106.11959, section 3.2).

    Args:
        norm: the normalisation.
        expand: from the width of the network to that of the hidden layer.
        activation: of the hidden layer.
        dropout: of the hidden layer.
        project: back to the width of the network.
    """

    def __init__(
        self, norm: nn.Module, expand: nn.Module, activation: nn.Module, dropout: nn.Module, project: nn.Module
    ) -> None:
        super().__init__()
        self.norm = norm
        self.expand = expand
        self.activation = activation
        self.dropout = dropout
        self.project = project

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, shape ``(batch, width)``."""
        outputs: Tensor = x + self.project(self.dropout(self.activation(self.expand(self.norm(x)))))
        return outputs


def mlp(
    *,
    num_classes: int = 1,
    input_shape: tuple[int, ...] = (8,),
    width: int | tuple[int, ...] = 64,
    blocks: int = 3,
    min_blocks: int = 0,
    hidden_widths: tuple[int, ...] = (32, 64, 128),
    activations: tuple[Activation, ...] = ("relu", "gelu", "tanh"),
    normalisations: tuple[Normalisation, ...] = ("layer",),
    dropout: float = 0.0,
) -> ModuleSpace:
    """Return the space of residual perceptrons: a linear layer, blocks of one hidden layer each, and a linear layer.

    Decisions: ``width``, the number of features between the blocks; ``depth``, the number of blocks; the hidden width
    of each block, ``block0.hidden`` and so on; ``activation`` and ``normalisation``, one for all blocks. A setting
    with a single value is not searched. Narrow layers share the weights of wide ones: their first rows and columns. The
    normalisation is over the features of a sample, so the weights of a supernet need no
    recalibration.

    Args:
        num_classes: number of outputs.
        input_shape: shape of one row; inputs with several dimensions are flattened.
        width: the number of features between the blocks, or several to choose from, increasing.
        blocks: the largest number of blocks.
        min_blocks: the smallest number of blocks. With 0 blocks the network has one hidden layer.
        hidden_widths: the options of the hidden width of each block, increasing.
        activations: the options of the activation.
        normalisations: the options of the normalisation: ``layer`` normalisation or ``none``.
        dropout: probability of dropout of the hidden layers. It is not searched.

    Raises:
        SpaceError: a setting is out of its range.
    """
    widths = (width,) if isinstance(width, int) else tuple(width)
    check_positive(
        num_classes=num_classes, blocks=blocks, **{f"input_shape[{i}]": s for i, s in enumerate(input_shape)}
    )
    check_options(width=widths, hidden_widths=hidden_widths, activations=activations, normalisations=normalisations)
    if not 0 <= min_blocks <= blocks:
        raise SpaceError(f"min_blocks must be at least 0 and at most blocks = {blocks}, not {min_blocks}")
    check_probability(dropout=dropout)
    outline = _Outline(
        num_classes, math.prod(input_shape), widths, blocks, min_blocks, hidden_widths, activations, normalisations,
        dropout,
    )  # fmt: skip
    return ModuleSpace(outline.network, input_shape=tuple(input_shape))


@final
@dataclass(frozen=True)
class _Outline:
    """The settings, checked, and the network with its choices."""

    num_classes: int
    features: int
    widths: Sequence[int]
    blocks: int
    min_blocks: int
    hidden_widths: Sequence[int]
    activations: Sequence[str]
    normalisations: Sequence[str]
    dropout: float

    def network(self) -> nn.Module:
        """Return the network with its choices."""
        width = max(self.widths)
        return nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                stem=ElasticLinear(self.features, one_or_all(self.widths), name="width"),
                blocks=Repeat(self._block, self.min_blocks, self.blocks, name="depth"),
                norm=self._norm(),
                activation=self._activation(),
                head=ElasticLinear(width, self.num_classes),
            )
        )

    def _block(self, position: int) -> nn.Module:
        return PerceptronBlock(
            self._norm(),
            ElasticLinear(max(self.widths), one_or_all(self.hidden_widths), name=f"block{position}.hidden"),
            self._activation(),
            nn.Dropout(self.dropout),
            # Its output is added to the input of the block: one width for all.
            ElasticLinear(max(self.hidden_widths), one_or_all(self.widths), name="width"),
        )

    def _norm(self) -> nn.Module:
        options = {
            name: ElasticLayerNorm(max(self.widths)) if name == "layer" else nn.Identity()
            for name in self.normalisations
        }
        return _one_of(options, "normalisation")

    def _activation(self) -> nn.Module:
        return _one_of({name: _ACTIVATIONS[name]() for name in self.activations}, "activation")


def _one_of(options: Mapping[Any, nn.Module], name: str) -> nn.Module:
    """Return a choice, the same for all modules of a name, or the single option."""
    return OneOf(options, name=name) if len(options) > 1 else next(iter(options.values()))
