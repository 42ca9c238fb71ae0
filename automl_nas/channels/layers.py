"""What the code of torch's own layers requires besides what its operators say: sizes that a layer stores."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from automl_nas.channels.axis import Axis, MismatchError, divide, unify
from automl_nas.channels.rules import Axes

Attributes = dict[str, Axis | Axes]
"""Attribute of a module -> axis or axes whose size it has."""


def stored_sizes(
    path: str, module: nn.Module, inputs: tuple[Any, ...], axes: Callable[[Tensor], Axes]
) -> dict[str, Attributes]:
    """Tie what a layer's code requires to be equal, and return path -> the sizes that modules store.

    Args:
        path: of the module.
        module: that was called.
        inputs: of the call.
        axes: returns the axes of a tensor.
    """
    if isinstance(module, nn.MultiheadAttention):
        return _attention(path, module, axes)
    if isinstance(module, nn.RNNBase):
        return {path: _recurrent(module, axes)}
    if isinstance(module, nn.PReLU):
        return {path: {"num_parameters": axes(module.weight)[0]}}
    if isinstance(module, nn.modules.instancenorm._InstanceNorm):
        return {path: {"num_features": axes(inputs[0])[1]}}
    return {}


def _attention(path: str, module: nn.MultiheadAttention, axes: Callable[[Tensor], Axes]) -> dict[str, Attributes]:
    """Tie the width of attention to its heads and to the embedding: the forward requires that they are equal."""
    if module.in_proj_weight is None:
        for name in ("q_proj_weight", "k_proj_weight", "v_proj_weight"):
            for axis in axes(getattr(module, name)):
                axis.pin("an attention layer whose queries and keys have different widths")
        return {}
    first, width = axes(module.in_proj_weight)
    try:
        unify(divide(first, module.embed_dim)[1], width)
        heads, _ = divide(width, module.head_dim)
    except MismatchError as error:
        for axis in (first, width):
            axis.pin(f"an attention layer: {error}")
        return {}
    own: Attributes = {"embed_dim": width, "kdim": width, "vdim": width, "num_heads": heads}
    return {path: own, f"{path}.out_proj": {"in_features": width, "out_features": width}}


def _recurrent(module: nn.RNNBase, axes: Callable[[Tensor], Axes]) -> Attributes:
    """Tie the hidden sizes of all layers and directions, which the module stores as one number."""
    weights = [name for name in module._parameters if name.startswith("weight_hh")]
    hidden = [axes(getattr(module, name))[1] for name in weights]
    inputs = axes(module._parameters["weight_ih_l0"])[1]  # type: ignore[arg-type]
    if module.proj_size:
        for axis in (*hidden, inputs):
            axis.pin("a recurrent layer with projections")
        return {}
    try:
        for one, other in pairwise(hidden):
            unify(one, other)
    except MismatchError as error:
        for axis in hidden:
            axis.pin(f"a recurrent layer: {error}")
    return {"input_size": inputs, "hidden_size": hidden[0]}
