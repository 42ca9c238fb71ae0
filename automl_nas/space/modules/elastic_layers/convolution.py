"""Convolutions of searched width."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Scalar, Value
from automl_nas.space.decisions import Decision, Ordinal, plain_options
from automl_nas.space.modules.choice import ChoiceModule, ModuleResolver, ResolvedChoice
from automl_nas.space.modules.copying import shallow_copy
from automl_nas.space.modules.elastic_layers.slices import Transform, check_width, plain_layer


@final
class ElasticConv2d(ChoiceModule, nn.Conv2d):
    """A convolution whose output width may be searched and whose input width follows its input.

    The weight has the largest widths; the first rows and columns are used (SPOS channel search; once-for-all). It is an
    ``nn.Conv2d``, so code that initialises layers by type initialises it too.

    Args:
        in_channels: the largest number of input channels.
        out_channels: a number: no decision; an increasing sequence of numbers: an `Ordinal` of these widths; option ->
            number: an `Ordinal` of the options, such as scales that are tied among layers of different widths. A
            depthwise convolution (``groups == in_channels == out_channels``) follows its input and has no decision.
        kernel_size: as in ``nn.Conv2d``.
        stride: as in ``nn.Conv2d``.
        padding: as in ``nn.Conv2d``.
        dilation: as in ``nn.Conv2d``.
        groups: 1, or ``in_channels`` for a depthwise convolution.
        bias: as in ``nn.Conv2d``.
        name: the name of the decision; None: the module's path. Layers of the same name have tied widths, as layers
            whose outputs are added must.

    Raises:
        SpaceError: ``groups`` is neither 1 nor that of a depthwise convolution, or a width is missing or below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | Sequence[int] | Mapping[Scalar, int],
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        name: str | None = None,
    ) -> None:
        if not isinstance(out_channels, Iterable):
            out_channels = _width(out_channels)
        options = _option_widths(out_channels)
        widths = tuple(options.values())
        if not widths:
            raise SpaceError("an ElasticConv2d needs at least one output width")
        if min(widths) < 1:
            raise SpaceError(f"the output widths of an ElasticConv2d must be at least 1, not {min(widths)}")
        if groups != 1 and (groups != in_channels or widths != (in_channels,)):
            raise SpaceError(
                "an ElasticConv2d needs groups=1, or must be depthwise without a decision (groups == in_channels == "
                f"out_channels), not groups={groups} with {in_channels} -> {out_channels}"
            )
        nn.Conv2d.__init__(self, in_channels, max(widths), kernel_size, stride, padding, dilation, groups, bias)
        self._init_choice(name)
        self._options = options
        self._widths = (
            None if isinstance(out_channels, int) else Ordinal(plain_options(out_channels, "an ElasticConv2d"))
        )
        self._active: int | None = None

    def decisions(self) -> Mapping[str, Decision]:
        """Return the decision about the width, if there are several widths."""
        return {} if self._widths is None else {"": self._widths}

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the convolution with its output width set."""
        if self._widths is None:
            return self
        twin = shallow_copy(self)
        assert isinstance(twin, ElasticConv2d)
        twin._active = self._width(choices)
        return twin

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a plain ``nn.Conv2d`` with copies of the rows and columns in use."""
        inputs = resolver.input_shape(self)[1]
        outputs = self._width(choices) if self._widths is not None else self._following_width(inputs)
        settings: dict[str, Any] = {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": 1 if self.groups == 1 else inputs,
            "bias": self.bias is not None,
        }
        is_largest = (inputs, outputs) == (self.in_channels, self.out_channels)
        return plain_layer(
            lambda: nn.Conv2d(inputs, outputs, **settings), self, self._slices(inputs, outputs), resolver, is_largest
        )

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return the width."""
        return values, ()

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove widths from the decision; the weights keep their shape, so that they stay the same Parameters."""
        if self._widths is not None:
            self._widths = Ordinal(live[""])

    def forward(self, x: Tensor, transform: Transform | None = None) -> Tensor:  # type: ignore[override]
        """Convolve with the first rows and columns of the weight.

        Args:
            x: the input.
            transform: applied to these rows and columns first, such as a quantiser; None: they are used as they are.
        """
        if self._widths is not None and self._active is None:
            self.raise_unresolved()
        inputs = x.shape[1]
        weight, bias = self._slices(inputs, self._following_width(inputs) if self._active is None else self._active)
        if transform is not None:
            weight = transform(weight)
        groups = 1 if self.groups == 1 else inputs
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, groups)

    def _width(self, choices: Mapping[str, ResolvedChoice]) -> int:
        width = choices[""]
        if width.weights is not None:
            raise SpaceError(
                f"the width '{self.path}' takes values only, since outputs of different widths cannot be weighted "
                "(ModuleSpace.weighable contains the decisions that can)"
            )
        return self._options[width.options[0]]

    def _following_width(self, inputs: int) -> int:
        return self.out_channels if self.groups == 1 else inputs

    def _slices(self, inputs: int, outputs: int) -> tuple[Tensor, Tensor | None]:
        check_width(self.path, inputs, self.in_channels)
        weight = self.weight[:outputs, :inputs] if self.groups == 1 else self.weight[:outputs]
        return weight, None if self.bias is None else self.bias[:outputs]


def _option_widths(out_channels: int | Sequence[int] | Mapping[Scalar, int]) -> dict[Scalar, int]:
    """Return option of the decision -> number of output channels."""
    if isinstance(out_channels, int):
        return {out_channels: out_channels}
    options = plain_options(out_channels, "an ElasticConv2d")
    widths = out_channels.values() if isinstance(out_channels, Mapping) else out_channels
    return dict(zip(options, map(_width, widths), strict=True))


def _width(number: object) -> int:
    try:
        return operator.index(number)  # type: ignore[arg-type]
    except TypeError:
        raise SpaceError(f"the output widths of an ElasticConv2d are whole numbers, not {number!r}") from None
