"""Convolutions inside a residual block, whose width depends on two decisions."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError
from automl_nas.space import ChoiceModule, Decision, ModuleResolver, Ordinal, ResolvedChoice, Scalar, Value

WIDTH = "width"
"""The last part of the name of the decision about the width of a stage."""


@final
class HiddenConv2d(ChoiceModule):
    """A convolution without bias whose output width is a ratio of the width of its stage; both are decisions.

    Its decisions are ``STAGE.width``, which all layers of the stage share, and ``STAGE.BLOCK.ratio``. The first rows
    and columns of the weight are used, as by an `ElasticConv2d`, and the input width follows the input.

    Args:
        in_channels: the largest number of input channels.
        widths: (multiplier of the stage, ratio) -> output channels; all multipliers with all ratios, both increasing.
        kernel: side of the kernel, odd; the size of the output is that of the input divided by the stride.
        stride: 1 or 2.
        stage: the first part of the names of both decisions.
        block: the middle part of the name of the ratio.

    Attributes:
        weight: of the largest widths.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Mapping[tuple[float, float], int],
        kernel: int,
        stride: int,
        stage: str,
        block: str,
    ) -> None:
        super().__init__(stage)
        self.weight = nn.Conv2d(in_channels, max(widths.values()), kernel, bias=False).weight
        self.kernel, self.stride = kernel, stride
        self._widths = dict(widths)
        self._ratio = f"{block}.ratio"
        self._options: dict[str, tuple[Scalar, ...]] = {
            WIDTH: tuple(dict.fromkeys(multiplier for multiplier, _ in widths)),
            self._ratio: tuple(dict.fromkeys(ratio for _, ratio in widths)),
        }
        self._searched = tuple(key for key, options in self._options.items() if len(options) > 1)
        self._active: int | None = None if self._searched else max(widths.values())

    def decisions(self) -> Mapping[str, Decision]:
        """Return the decisions about the width of the stage and about the ratio, each if it has several options."""
        return {key: Ordinal(self._options[key]) for key in self._searched}

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the convolution with its output width set."""
        if not self._searched:
            return self
        twin = copy.copy(self)
        twin._active = self._width(choices)
        return twin

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a plain ``nn.Conv2d`` with copies of the rows and columns in use."""
        inputs, outputs = resolver.input_shape(self)[1], self._width(choices)
        is_largest = self.weight.shape[:2] == (outputs, inputs)
        device = self.weight.device if resolver.fresh and not is_largest else torch.device("meta")
        with device:
            plain = nn.Conv2d(inputs, outputs, self.kernel, self.stride, self.kernel // 2, bias=False)
        if is_largest or not resolver.fresh:
            plain.weight = nn.Parameter(self._slice(inputs, outputs).detach().clone(), self.weight.requires_grad)
        return plain.train(self.training)

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return the width of the stage and the smallest ratio that gives the same number of channels."""
        if self._ratio not in values:
            return values, ()
        multiplier = values.get(WIDTH, self._options[WIDTH][0])
        channels = self._widths[multiplier, values[self._ratio]]  # type: ignore[index]
        equal = [ratio for ratio in self._options[self._ratio] if self._widths[multiplier, ratio] == channels]  # type: ignore[index]
        return {**values, self._ratio: equal[0]}, ()

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove options from the decisions; the weight keeps its shape, so that it stays the same Parameter."""
        self._options = {key: live.get(key, options) for key, options in self._options.items()}

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Convolve with the first rows and columns of the weight."""
        if self._active is None:
            self.raise_unresolved()
        return F.conv2d(x, self._slice(x.shape[1], self._active), None, self.stride, self.kernel // 2)

    def _width(self, choices: Mapping[str, ResolvedChoice]) -> int:
        selected: list[Scalar] = []
        for key, options in self._options.items():
            if key not in choices:
                selected.append(options[0])
                continue
            if choices[key].weights is not None:
                raise SpaceError(
                    f"the decision '{self.decision_name}.{key}' takes values only, since outputs of different widths "
                    "cannot be weighted (ModuleSpace.weighable contains the decisions that can)"
                )
            selected.append(choices[key].options[0])
        return self._widths[selected[0], selected[1]]  # type: ignore[index]

    def _slice(self, inputs: int, outputs: int) -> Tensor:
        if inputs > self.weight.shape[1]:
            raise SpaceError(
                f"'{self.path}' has weights for at most {self.weight.shape[1]} inputs, but its input has {inputs}"
            )
        return self.weight[:outputs, :inputs]
