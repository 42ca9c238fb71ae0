"""The search space `vit`: vision transformers (AutoFormer, Chen et al. 2021, arXiv 2107.00651)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import ElasticConv2d, ElasticLinear, ElasticParameter, ModuleSpace
from automl_nas_spaces.settings import check_depth, check_options, check_positive, check_probability, one_or_all
from automl_nas_spaces.transformer_layers import Layers, small_normal

Preset: TypeAlias = Literal["tiny", "small", "base"]


@final
@dataclass(frozen=True)
class _Searched:
    embeddings: tuple[int, ...]
    heads: tuple[int, ...]
    ratios: tuple[float, ...]
    depth: tuple[int, int]


_PRESETS = {
    "tiny": _Searched((192, 216, 240), (3, 4), (3.5, 4.0), (12, 14)),
    "small": _Searched((320, 384, 448), (5, 6, 7), (3.0, 3.5, 4.0), (12, 14)),
    "base": _Searched((528, 576, 624), (9, 10), (3.0, 3.5, 4.0), (14, 16)),
}


@final
class PatchTokens(nn.Module):
    """Image -> tokens: a class token and one for each patch, with learned positions.

    Args:
        convolution: one output for each patch.
        token: the class token.
        positions: of all tokens.
    """

    def __init__(self, convolution: nn.Module, token: nn.Module, positions: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution
        self.token = token
        self.positions = positions

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens, shape ``(batch, 1 + patches, width)``."""
        patches = self.convolution(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.token(patches).expand(x.shape[0], -1, -1), patches), 1)
        outputs: Tensor = tokens + self.positions(tokens)
        return outputs


@final
class TokenPool(nn.Module):
    """Tokens -> one vector: the mean of the patches, or the class token.

    Args:
        mean: whether it is the mean.
    """

    def __init__(self, mean: bool) -> None:
        super().__init__()
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors, shape ``(batch, width)``."""
        return x[:, 1:].mean(1) if self.mean else x[:, 0]


def vit(
    *,
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    preset: Preset = "tiny",
    patch: int = 16,
    embeddings: tuple[int, ...] | None = None,
    heads: tuple[int, ...] | None = None,
    ratios: tuple[float, ...] | None = None,
    depth: tuple[int, int] | None = None,
    head_width: int = 64,
    relative_positions: bool = True,
    distance: int = 14,
    pool: Literal["mean", "token"] = "mean",
    eps: float = 1e-5,
    dropout: float = 0.0,
    drop_path: float = 0.0,
) -> ModuleSpace:
    """Return the space of AutoFormer's vision transformers: embedding, depth, heads and hidden width of each layer.

    Decisions: ``embedding``, the width of all tokens; ``depth``, the number of layers; ``layer0.heads``, the number of
    attention heads of a layer; ``layer0.ratio``, the width of its hidden layer relative to the embedding, rounded down.
    A setting with a single value is not searched. In the supernet narrow layers use the first rows and columns of wide
    ones, and shallow networks the first layers. Queries, keys and values of a head have the same rows, biases included,
    whatever the number of heads is.

    The presets are the spaces that the authors' code searches (their paper has 8 heads, too, in ``base``): 1.06e9,
    7.7e13 and 1.0e13 networks. For images of 32x32 set ``patch: 4`` and smaller ``embeddings``, ``heads`` and
    ``depth``. With ``relative_positions: false`` and ``pool: token`` networks are those of ViT (Dosovitskiy et al.
    2021, arXiv 2010.11929), such as ViT-B/16: embedding 768, 12 heads, ratio 4, 12 layers.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image.
        preset: sets those of ``embeddings``, ``heads``, ``ratios`` and ``depth`` that are left out.
        patch: side of a patch in pixels; it divides height and width.
        embeddings: the options of ``embedding``, increasing.
        heads: the options of the number of heads of each layer, increasing.
        ratios: the options of the ratio of each layer, increasing.
        depth: the smallest and the largest number of layers.
        head_width: of each attention head.
        relative_positions: whether attention has relative positions, besides those that are added to the tokens. They
            cost ``2 * tokens**2 * head_width * heads`` multiply-adds in a layer.
        distance: the largest relative distance, in patches, with entries of its own.
        pool: what is classified: the ``mean`` of the patches or the class ``token``.
        eps: of layer normalisation.
        dropout: probability of dropout of hidden layers and before the last linear layer.
        drop_path: probability of leaving a part of the last layer out in training (stochastic depth); it grows linearly
            from 0 at the first layer.

    Raises:
        SpaceError: a setting is out of its range, or patches do not divide the images.
    """
    base = _PRESETS[preset]
    searched = _Searched(embeddings or base.embeddings, heads or base.heads, ratios or base.ratios, depth or base.depth)
    channels, height, width = input_shape
    check_positive(
        num_classes=num_classes, channels=channels, patch=patch, head_width=head_width, distance=distance, height=height
    )
    check_options(embeddings=searched.embeddings, heads=searched.heads, ratios=searched.ratios)
    check_depth("depth", searched.depth)
    check_probability(dropout=dropout, drop_path=drop_path)
    if height % patch or width % patch or width < 1:
        raise SpaceError(
            f"images of {height}x{width} cannot be divided into patches of {patch}x{patch}; choose a patch that "
            "divides both sides"
        )
    grid = height // patch, width // patch
    layers = Layers(
        searched.embeddings,
        searched.heads,
        searched.ratios,
        searched.depth,
        head_width,
        eps,
        dropout,
        drop_path,
        relative=(grid, distance) if relative_positions else None,
    )

    def network() -> nn.Module:
        convolution = ElasticConv2d(channels, one_or_all(layers.widths), patch, patch, name="embedding")
        tokens = grid[0] * grid[1] + 1
        return nn.Sequential(
            OrderedDict(
                tokens=PatchTokens(
                    convolution,
                    ElasticParameter((1, 1, layers.width), small_normal),
                    ElasticParameter((1, tokens, layers.width), small_normal),
                ),
                layers=layers.repeated(),
                norm=layers.norm(),
                pool=TokenPool(pool == "mean"),
                dropout=nn.Dropout(dropout),
                head=ElasticLinear(layers.width, num_classes),
            )
        )

    return ModuleSpace(network, input_shape=tuple(input_shape))


def from_torchvision(weights: Mapping[str, Tensor], *, head_width: int = 64) -> dict[str, Tensor]:
    """Return the weights of a member of this space that computes what a ``VisionTransformer`` of torchvision does.

    Save them with safetensors for ``initial_weights``. The space needs ``relative_positions: false``, ``pool: token``
    and ``eps: 1e-6``.

    Args:
        weights: ``torchvision.models.vit_b_16(weights=...).state_dict()``, for instance.
        head_width: of its attention heads.
    """
    names = {
        "class_token": "tokens.token.weight",
        "conv_proj": "tokens.convolution",
        "encoder.pos_embedding": "tokens.positions.weight",
        "encoder.ln": "norm",
        "heads.head": "head",
        "ln_1": "norm1",
        "ln_2": "norm2",
        "self_attention.in_proj_": "attention.qkv.",
        "self_attention.out_proj": "attention.project",
        "mlp.0": "perceptron.expand",
        "mlp.3": "perceptron.project",
    }
    renamed = {}
    for name, tensor in weights.items():
        path = name.replace("encoder.layers.encoder_layer_", "layers.")
        for theirs, ours in names.items():
            path = path.replace(theirs, ours)
        if ".qkv." in path:
            # All queries, all keys, all values -> those of head 0, those of head 1, ...
            tensor = torch.unflatten(tensor, 0, (3, -1, head_width)).transpose(0, 1).flatten(0, 2).contiguous()
        renamed[path] = tensor
    return renamed
