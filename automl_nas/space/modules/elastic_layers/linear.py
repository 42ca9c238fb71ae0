"""Linear layers of searched width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.space.architecture import Scalar, Value
from automl_nas.space.decisions import Decision
from automl_nas.space.modules.choice import ChoiceModule, ModuleResolver, ResolvedChoice
from automl_nas.space.modules.copying import shallow_copy
from automl_nas.space.modules.elastic_layers.slices import Transform, check_width, plain_layer
from automl_nas.space.modules.elastic_layers.widths import OutputWidth


@final
class ElasticLinear(ChoiceModule, nn.Linear):
    """A linear layer whose output width may be searched and whose input width follows its input.

    The weight has the largest widths; the first rows and columns are used. The layer may also follow a flattened map,
    in which the features of the first channels come first.

    Args:
        in_features: the largest number of input features.
        out_features: a number: no decision; an increasing sequence of numbers: an `Ordinal` of these widths; option ->
            number: an `Ordinal` of the options, such as numbers of heads.
        bias: as in ``nn.Linear``.
        name: the name of the decision; None: the module's path. Layers of the same name have tied widths, as layers
            whose outputs are added must.
        times_input: whether the numbers in ``out_features`` are multiples of the number of features that the layer
            receives, such as the ratio of a transformer's hidden layer; products are rounded down.

    Raises:
        SpaceError: a width is missing, not a whole number, or below 1.
    """

    def __init__(
        self,
        in_features: int,
        out_features: float | Sequence[float] | Mapping[Scalar, float],
        bias: bool = True,
        name: str | None = None,
        times_input: bool = False,
    ) -> None:
        width = OutputWidth(
            out_features, "an ElasticLinear", in_features if times_input else None, times_input=times_input
        )
        nn.Linear.__init__(self, in_features, width.largest, bias)
        self._init_choice(name)
        self._output = width
        self._active = width.fixed

    def decisions(self) -> Mapping[str, Decision]:
        """Return the decision about the width, if there are several widths."""
        return self._output.decisions()

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the layer with its output width set."""
        if self._output.fixed is not None:
            return self
        twin = shallow_copy(self)
        assert isinstance(twin, ElasticLinear)
        twin._active = self._output.selected(choices, self.path)
        return twin

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a plain ``nn.Linear`` with copies of the rows and columns in use."""
        inputs = resolver.input_shape(self)[-1]
        outputs = self._output.of(self._output.selected(choices, self.path), inputs)
        return plain_layer(
            lambda: nn.Linear(inputs, outputs, self.bias is not None),
            self,
            self._slices(inputs, outputs),
            resolver,
            (inputs, outputs) == (self.in_features, self.out_features),
        )

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return the width."""
        return values, ()

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove widths from the decision; the weights keep their shape, so that they stay the same Parameters."""
        self._output.prune_to(live)

    def forward(self, x: Tensor, transform: Transform | None = None) -> Tensor:  # type: ignore[override]
        """Multiply with the first rows and columns of the weight.

        Args:
            x: the input.
            transform: applied to these rows and columns first, such as a quantiser; None: they are used as they are.
        """
        if self._active is None:
            self.raise_unresolved()
        inputs = x.shape[-1]
        weight, bias = self._slices(inputs, self._output.of(self._active, inputs))
        return F.linear(x, weight if transform is None else transform(weight), bias)

    def _slices(self, inputs: int, outputs: int) -> tuple[Tensor, Tensor | None]:
        check_width(self.path, inputs, self.in_features)
        return self.weight[:outputs, :inputs], None if self.bias is None else self.bias[:outputs]
