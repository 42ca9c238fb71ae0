"""Linear layers whose sizes follow their input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.space.architecture import Scalar, Value
from automl_nas.space.decisions import Decision
from automl_nas.space.modules.choice import ChoiceModule, ModuleResolver, ResolvedChoice
from automl_nas.space.modules.elastic_layers.slices import Transform, check_width, plain_layer


@final
class ElasticLinear(ChoiceModule, nn.Linear):
    """A linear layer for any number of input features up to ``in_features``; it has no decision.

    It may also follow a flattened map, in which the features of the first channels come first.

    Args:
        in_features: the largest number of input features.
        out_features: the number of outputs.
        bias: as in ``nn.Linear``.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias)
        self._init_choice(None)

    def decisions(self) -> Mapping[str, Decision]:
        """Return an empty mapping: the width follows the input."""
        return {}

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the layer itself."""
        return self

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a plain ``nn.Linear`` with copies of the columns in use."""
        width = resolver.input_shape(self)[-1]
        check_width(self.path, width, self.in_features)
        return plain_layer(
            lambda: nn.Linear(width, self.out_features, self.bias is not None),
            self,
            (self.weight[:, :width], self.bias),
            resolver,
            width == self.in_features,
        )

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return an empty mapping and no children: the layer has no decision."""
        return {}, ()

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Do nothing: the layer has no decision."""

    def forward(self, x: Tensor, transform: Transform | None = None) -> Tensor:  # type: ignore[override]
        """Multiply with the first columns of the weight.

        Args:
            x: the input.
            transform: applied to these columns first, such as a quantiser; None: they are used as they are.
        """
        check_width(self.path, x.shape[-1], self.in_features)
        weight = self.weight[:, : x.shape[-1]]
        return F.linear(x, weight if transform is None else transform(weight), self.bias)
