"""The space `mixed_precision`: another space whose networks are quantised, with a precision for every block."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from automl_nas.errors import SpaceError
from automl_nas.space import ModuleSpace, ModuleSupernet, SupernetSpace
from automl_nas_quantization.layers import Scheme
from automl_nas_quantization.precision import PAIRS, Precision, precisions
from automl_nas_quantization.quantizers import WeightQuantizer
from automl_nas_quantization.wrapping import Layers, blocks_of, check_signed, observe, quantize_layers


def mixed_precision(
    *,
    space: SupernetSpace,
    precisions: tuple[tuple[int, int], ...] = PAIRS,
    ends: tuple[int, int] = (8, 8),
    weights: WeightQuantizer = "dorefa",
    initial_clip: float = 3.0,
    full_gradient: bool = False,
) -> ModuleSpace:
    """Return a space with the decisions of another one and a precision for every block (SPOS, section 3.4).

    Each `OneOf` and `Dag` that is not inside another one is a block: all convolutions and linear layers in it have one
    precision, the decision ``<block>.precision``, with options such as ``W2A4``: weights of 2 bits, activations of 4.
    Every layer outside of the blocks has a precision of its own, except the first and the last layer of the network.
    Blocks, widths and bits are one space, so any strategy searches them together. Blocks that share weights in the
    other space have weights of their own in this one.

    Args:
        space: the space of the networks in float32, such as ``{name: shufflenet_v2_channels}``.
        precisions: the pairs (weight bits, activation bits) of every block, from 1 to 8 bits; 32 means float32. The
            default has those of the paper.
        ends: the pair of the first and the last layer.
        weights: the quantiser of weights: ``dorefa``, as in the paper, or ``symmetric``, which has a step for each
            output channel and represents 0.
        initial_clip: clipping level of activations before the training.
        full_gradient: whether the gradient to the clipping level has the term of the rounding in range, which PACT
            leaves out.

    Raises:
        SpaceError: bits that the quantisers do not have, the space is not made of modules with choices, or its networks
            have no layer that can be quantised.
    """
    recipe = _Recipe(precisions, ends, weights, initial_clip, full_gradient)
    with torch.random.fork_rng(devices=[]):
        supernet = space.build_supernet()
        if not isinstance(supernet, ModuleSupernet):
            raise SpaceError(
                f"mixed_precision needs a space made of modules with choices (ModuleSpace), and the supernet of "
                f"{type(space).__name__} is a {type(supernet).__name__}"
            )
        layers = observe(supernet, space.input_shape)
    check_signed(layers, recipe.options, recipe.ends)
    return ModuleSpace(
        partial(_network, space, layers, recipe), input_shape=space.input_shape, exclude=tuple(space.excluded)
    )


class _Recipe:
    """The checked settings."""

    def __init__(
        self,
        pairs: Sequence[tuple[int, int]],
        ends: tuple[int, int],
        weights: WeightQuantizer,
        initial_clip: float,
        full_gradient: bool,
    ) -> None:
        self.options, self.ends = precisions(pairs), Precision(*ends)
        self.scheme = Scheme(weights, initial_clip, full_gradient)


def _network(space: SupernetSpace, layers: Layers, recipe: _Recipe) -> nn.Module:
    supernet = space.build_supernet()
    assert isinstance(supernet, ModuleSupernet)
    network = supernet.separate()
    return quantize_layers(network, layers, blocks_of(network), recipe.options, recipe.ends, recipe.scheme)
