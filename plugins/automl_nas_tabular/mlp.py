"""The search space `mlp`: residual multilayer perceptrons for tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import ModuleSpace, OneOf

Activation = Literal["relu", "gelu", "silu", "tanh"]
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


class Block(nn.Module):
    """``x + linear(dropout(activation(linear(norm(x)))))`` (Gorishniy et al. 2021, arXiv 2106.11959, section 3.2).

    The normalisation is over the features of a sample, so that the weights of a supernet need no recalibration.

    Args:
        width: of input and output.
        hidden: width of the layer between.
        activation: a new activation.
        dropout: the probability of dropout.
    """

    def __init__(self, width: int, hidden: int, activation: nn.Module, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs, shape ``(batch, width)``."""
        outputs: Tensor = x + self.project(self.dropout(self.activation(self.expand(self.norm(x)))))
        return outputs


def mlp(
    *,
    num_classes: int = 1,
    input_shape: tuple[int, ...] = (8,),
    width: int = 64,
    blocks: int = 3,
    hidden_widths: tuple[int, ...] = (32, 64, 128),
    activations: tuple[Activation, ...] = ("relu", "gelu", "tanh"),
    dropout: float = 0.0,
) -> ModuleSpace:
    """Return the space: for every block a hidden width or ``skip``, and one activation for all blocks.

    A linear layer, the blocks, an activation and a linear layer. Blocks with ``skip`` make the network shallower.

    Args:
        num_classes: number of outputs.
        input_shape: shape of one row; inputs with several dimensions are flattened.
        width: number of features between the blocks.
        blocks: the largest number of blocks.
        hidden_widths: the options of the hidden width of a block.
        activations: the options of the activation.
        dropout: probability of dropout inside a block.

    Raises:
        SpaceError: a setting is out of its range.
    """
    for name, value in (("num_classes", num_classes), ("width", width), ("blocks", blocks)):
        if value < 1:
            raise SpaceError(f"{name} must be at least 1, not {value}")
    for name, options in (("hidden_widths", hidden_widths), ("activations", activations)):
        if not options or len(set(options)) != len(options):
            raise SpaceError(f"{name} needs different options, not {list(options)}")
    if min(hidden_widths) < 1:
        raise SpaceError(f"hidden_widths must be at least 1, not {list(hidden_widths)}")
    if not 0 <= dropout < 1:
        raise SpaceError(f"dropout must be at least 0 and below 1, not {dropout}")
    factory = partial(_network, num_classes, input_shape, width, blocks, hidden_widths, activations, dropout)
    return ModuleSpace(factory, input_shape=input_shape)


def _network(
    num_classes: int,
    input_shape: Sequence[int],
    width: int,
    blocks: int,
    hidden_widths: Sequence[int],
    activations: Sequence[str],
    dropout: float,
) -> nn.Module:
    features = 1
    for side in input_shape:
        features *= side

    def activation() -> nn.Module:
        # Options of one name are one decision.
        return OneOf({name: _ACTIVATIONS[name]() for name in activations}, name="activation")

    layers: dict[str, nn.Module] = {"flatten": nn.Flatten(), "stem": nn.Linear(features, width)}
    for number in range(blocks):
        options: dict[str, nn.Module] = {
            str(hidden): Block(width, hidden, activation(), dropout) for hidden in hidden_widths
        }
        layers[f"block{number}"] = OneOf({**options, "skip": nn.Identity()}, name=f"block{number}")
    layers |= {"norm": nn.LayerNorm(width), "activation": activation(), "head": nn.Linear(width, num_classes)}
    network = nn.Sequential()
    for name, layer in layers.items():
        network.add_module(name, layer)
    return network
