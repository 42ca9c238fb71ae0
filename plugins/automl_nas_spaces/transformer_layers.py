"""The layers of transformers with searched width, heads and hidden width: attention, perceptron, relative positions.

Conventions of AutoFormer (Chen et al. 2021, arXiv 2107.00651): every head has the same width, so that the query of 5
heads is wider than that of 4; scores are divided by the square root of that width; normalisation is before each part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.space import ElasticLayerNorm, ElasticLinear, Repeat, Scalar
from automl_nas_spaces.settings import one_or_all, one_or_each

small_normal = partial(nn.init.trunc_normal_, std=0.02)
"""Draws positions, tokens and tables from a normal distribution cut at 2, of deviation 0.02, as ViT's are."""


@final
class RelativePositions(nn.Module):
    """Vectors for the distance of each pair of tokens of an image (AutoFormer, section 3.2; Shaw et al. 2018).

    The vector of a pair is the sum of one for the distance in rows and one for the distance in columns. Distances above
    ``distance`` share the vectors of the largest one. The class token, which is first, has vectors of its own: entry 0.

    Args:
        grid: rows and columns of patches.
        width: of the vectors, that of a head.
        distance: the largest distance with vectors of its own.
    """

    def __init__(self, grid: tuple[int, int], width: int, distance: int) -> None:
        super().__init__()
        self.grid = grid
        self.distance = distance
        self.rows = nn.Parameter(torch.empty(2 * distance + 2, width))
        self.columns = nn.Parameter(torch.empty(2 * distance + 2, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the vectors."""
        small_normal(self.rows)
        small_normal(self.columns)

    def forward(self) -> Tensor:
        """Return the vectors, shape ``(tokens, tokens, width)``."""
        height, width = self.grid
        rows, columns = self._along(self.rows, height), self._along(self.columns, width)
        pairs = (rows.unsqueeze(1).unsqueeze(3) + columns.unsqueeze(0).unsqueeze(2)).flatten(2, 3).flatten(0, 1)
        outside = self.rows[0] + self.columns[0]
        count = height * width
        with_column = torch.cat((outside.expand(count, 1, -1), pairs), 1)
        return torch.cat((outside.expand(1, count + 1, -1), with_column), 0)

    def _along(self, table: Tensor, length: int) -> Tensor:
        places = torch.arange(length, device=table.device)
        distances = (places.unsqueeze(0) - places.unsqueeze(1)).clamp(-self.distance, self.distance)
        return F.embedding(distances + (self.distance + 1), table)


@final
class Attention(nn.Module):
    """Self-attention with a searched number of heads of one width.

    The rows of ``qkv`` are those of head 0 (query, key, value), then those of head 1, and so on. A network of fewer
    heads has the first ones: each head has the same rows and biases in all networks.

    Args:
        qkv: from the width of the network to three times the width of all heads.
        project: back to the width of the network.
        head_width: of one head.
        keys: relative positions that are compared with queries; None: no relative positions.
        values: relative positions that are added to values, weighted like them.
    """

    def __init__(
        self,
        qkv: nn.Module,
        project: nn.Module,
        head_width: int,
        keys: RelativePositions | None = None,
        values: RelativePositions | None = None,
    ) -> None:
        super().__init__()
        self.qkv = qkv
        self.project = project
        self.head_width = head_width
        self.keys = keys
        self.values = values

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the outputs, shape ``(batch, tokens, width)``.

        Args:
            x: the inputs, of the same shape.
            mask: whether a token may be attended to, shape ``(batch, 1, 1, tokens)``; without relative positions only.
        """
        heads = self.qkv(x).unflatten(-1, (-1, 3, self.head_width))  # (batch, tokens, heads, 3, width of a head)
        query, key, value = heads.permute(3, 0, 2, 1, 4).unbind(0)
        if self.keys is None or self.values is None:
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        else:
            scores = query @ key.transpose(-2, -1) + _by_query(query, self.keys().transpose(1, 2))
            weights = (scores * self.head_width**-0.5).softmax(-1)
            mixed = weights @ value + _by_query(weights, self.values())
        outputs: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return outputs


def _by_query(x: Tensor, matrices: Tensor) -> Tensor:
    """Multiply the vector of each query, in all samples and heads, by the matrix of the query.

    Args:
        x: shape ``(batch, heads, tokens, n)``.
        matrices: shape ``(tokens, n, m)``.
    """
    by_query = x.permute(2, 0, 1, 3)  # (tokens, batch, heads, n)
    products = by_query.flatten(1, 2) @ matrices
    return torch.unflatten(products, 1, (-1, x.size(1))).permute(1, 2, 0, 3)


@final
class FeedForward(nn.Module):
    """``project(gelu(expand(x)))``: a perceptron at each token.

    Args:
        expand: to the hidden width.
        project: back to the width of the network.
        dropout: probability of dropout of the hidden layer.
    """

    def __init__(self, expand: nn.Module, project: nn.Module, dropout: float) -> None:
        super().__init__()
        self.expand = expand
        self.activation = nn.GELU()
        self.dropout = nn.Dropout(dropout)
        self.project = project

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, of the shape of the inputs."""
        outputs: Tensor = self.project(self.dropout(self.activation(self.expand(x))))
        return outputs


@final
class DropPath(nn.Module):
    """Leaves a residual branch out for some samples of a training batch (stochastic depth, arXiv 1603.09382).

    Args:
        probability: of leaving it out; the outputs of the other samples are divided by the probability of keeping it.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of the branch, or zeros."""
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        passed = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(keep)
        return x * (passed / keep)


@final
class TransformerLayer(nn.Module):
    """``x + attention(norm(x))``, then ``x + perceptron(norm(x))``.

    Args:
        norm1: before the attention.
        attention: of all tokens.
        norm2: before the perceptron.
        perceptron: of each token.
        drop_path: probability of leaving a part out for a sample in training.
    """

    def __init__(
        self, norm1: nn.Module, attention: Attention, norm2: nn.Module, perceptron: nn.Module, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = norm1
        self.attention = attention
        self.norm2 = norm2
        self.perceptron = perceptron
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the outputs, shape ``(batch, tokens, width)``."""
        x = x + self.drop_path(self.attention(self.norm1(x), mask))
        outputs: Tensor = x + self.drop_path(self.perceptron(self.norm2(x)))
        return outputs


@final
@dataclass(frozen=True)
class Layers:
    """The layers of a transformer: their settings, checked, and the modules with their choices.

    Attributes:
        widths: the options of ``embedding``, one value for all layers.
        heads: the options of the number of heads of each layer.
        ratios: the options of hidden width / embedding of each layer.
        depth: the smallest and the largest number of layers.
        head_width: of one head.
        eps: of layer normalisation.
        dropout: of the hidden layers of perceptrons.
        drop_path: of the last layer; it grows linearly from 0 at the first one.
        relative: grid of patches and largest distance of relative positions; None: none.
    """

    widths: Sequence[int]
    heads: Sequence[int]
    ratios: Sequence[float]
    depth: Sequence[int]
    head_width: int
    eps: float
    dropout: float
    drop_path: float
    relative: tuple[tuple[int, int], int] | None = None

    @property
    def width(self) -> int:
        """The largest width."""
        return max(self.widths)

    def repeated(self) -> nn.Module:
        """Return the layers, whose number is the decision ``depth``."""
        return Repeat(self._layer, self.depth[0], self.depth[1], name="depth")

    def norm(self) -> nn.Module:
        """Return a layer normalisation."""
        return ElasticLayerNorm(self.width, self.eps)

    def to_width(self, inputs: int) -> nn.Module:
        """Return a linear layer from inputs of some width to the width of the network."""
        return ElasticLinear(inputs, one_or_all(self.widths), name="embedding")

    def _layer(self, position: int) -> nn.Module:
        rows: dict[Scalar, int] = {count: 3 * self.head_width * count for count in self.heads}
        qkv = ElasticLinear(self.width, one_or_each(rows), name=f"layer{position}.heads")
        tables = [None if self.relative is None else self._relative(*self.relative) for _ in range(2)]
        attention = Attention(qkv, self.to_width(self.head_width * max(self.heads)), self.head_width, *tables)
        expand = ElasticLinear(self.width, one_or_all(self.ratios), name=f"layer{position}.ratio", times_input=True)
        perceptron = FeedForward(expand, self.to_width(expand.out_features), self.dropout)
        drop_path = self.drop_path * position / max(1, self.depth[1] - 1)
        return TransformerLayer(self.norm(), attention, self.norm(), perceptron, drop_path)

    def _relative(self, grid: tuple[int, int], distance: int) -> RelativePositions:
        return RelativePositions(grid, self.head_width, distance)
