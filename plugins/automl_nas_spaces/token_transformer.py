"""The search space `token_transformer`: transformers for sequences of integer tokens."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import ElasticEmbedding, ElasticLinear, ElasticParameter, ModuleSpace
from automl_nas_spaces.settings import check_depth, check_options, check_positive, check_probability, one_or_all
from automl_nas_spaces.transformer_layers import Layers, small_normal


@final
class TokenTransformer(nn.Module):
    """Tokens -> vectors with positions -> layers -> the mean over the tokens -> outputs.

    Args:
        table: token -> vector.
        positions: of the tokens, added to their vectors.
        layers: run one after the other.
        norm: after the layers.
        dropout: before the last layer.
        head: the last layer.
        padding: the token that fills short sequences; None: no such token.
    """

    def __init__(
        self,
        table: nn.Module,
        positions: nn.Module,
        layers: nn.Module,
        norm: nn.Module,
        dropout: nn.Module,
        head: nn.Module,
        padding: int | None,
    ) -> None:
        super().__init__()
        self.table = table
        self.positions = positions
        self.layers = layers
        self.norm = norm
        self.dropout = dropout
        self.head = head
        self.padding = padding

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the outputs for tokens of shape ``(batch, length)``."""
        x = self.table(tokens)
        x = x + self.positions(x)
        counted = mask = None
        if self.padding is not None:
            counted = tokens != self.padding
            # A sequence of nothing but padding attends to it, since no softmax is defined over no token.
            counted = counted | ~counted.any(1, keepdim=True)
            mask = counted.unsqueeze(1).unsqueeze(1)
        for layer in self.layers.children():
            x = layer(x, mask)
        x = self.norm(x)
        if counted is None:
            pooled = x.mean(1)
        else:
            weights = counted.unsqueeze(2).type_as(x)
            pooled = (x * weights).sum(1) / weights.sum(1)
        outputs: Tensor = self.head(self.dropout(pooled))
        return outputs


def token_transformer(
    *,
    num_classes: int = 1,
    input_shape: tuple[int] = (64,),
    vocabulary: int = 256,
    padding: int | None = None,
    embeddings: tuple[int, ...] = (32, 64),
    heads: tuple[int, ...] = (2, 4),
    ratios: tuple[float, ...] = (1.0, 2.0, 4.0),
    depth: tuple[int, int] = (1, 4),
    head_width: int = 16,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> ModuleSpace:
    """Return the space of transformer encoders for tokens: embedding, depth, and heads and hidden width of each layer.

    The networks have learned positions, layers with normalisation before each part, and classify the mean over the
    tokens. Decisions as in `automl_nas_spaces.vit.vit`: ``embedding``, ``depth``, ``layer0.heads``, ``layer0.ratio``
    and so on. Narrow layers use the first rows and columns of wide ones.

    Args:
        num_classes: number of outputs.
        input_shape: the length of a sequence, with one number.
        vocabulary: number of different tokens; tokens are ``0 .. vocabulary - 1``.
        padding: the token that fills short sequences. It is left out of attention and of the mean, so that an output
            does not depend on the number of such tokens after a sequence. None: all tokens count.
        embeddings: the options of ``embedding``, increasing.
        heads: the options of the number of heads of each layer, increasing.
        ratios: the options of hidden width / embedding of each layer, increasing; the product is rounded down.
        depth: the smallest and the largest number of layers.
        head_width: of each attention head.
        dropout: probability of dropout of hidden layers and before the last linear layer.
        drop_path: probability of leaving a part of the last layer out in training; it grows linearly from 0 at the
            first layer.

    Raises:
        SpaceError: a setting is out of its range.
    """
    if len(input_shape) != 1 or input_shape[0] < 1:
        raise SpaceError(f"sequences of tokens need the shape (length,), not {tuple(input_shape)}")
    check_positive(num_classes=num_classes, vocabulary=vocabulary, head_width=head_width)
    if padding is not None and not 0 <= padding < vocabulary:
        raise SpaceError(f"padding must be a token from 0 to {vocabulary - 1}, not {padding}")
    check_options(embeddings=embeddings, heads=heads, ratios=ratios)
    check_depth("depth", depth)
    check_probability(dropout=dropout, drop_path=drop_path)
    layers = Layers(embeddings, heads, ratios, depth, head_width, 1e-5, dropout, drop_path)

    def network() -> nn.Module:
        table = ElasticEmbedding(vocabulary, one_or_all(embeddings), name="embedding")
        with torch.no_grad():
            small_normal(table.weight)
        return TokenTransformer(
            table,
            ElasticParameter((input_shape[0], layers.width), small_normal),
            layers.repeated(),
            layers.norm(),
            nn.Dropout(dropout),
            ElasticLinear(layers.width, num_classes),
            padding,
        )

    return ModuleSpace(network, input_shape=tuple(input_shape))
