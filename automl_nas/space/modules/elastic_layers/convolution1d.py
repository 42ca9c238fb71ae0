"""Convolutions along one dimension, of searched width, kernel and dilation."""

from __future__ import annotations

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
from automl_nas.space.modules.elastic_layers.widths import OutputWidth

KERNEL = "kernel"
DILATION = "dilation"


@final
class ElasticConv1d(ChoiceModule, nn.Conv1d):
    """A convolution along one dimension whose output width, kernel and dilation may be searched.

    Its input width follows its input. The weight has the largest sizes; the first rows and columns are used, and the
    centre of a kernel. The padding is such that an input of a length gives an output of ``ceil(length / stride)``,
    whatever is selected. It is an ``nn.Conv1d``.

    Args:
        in_channels: the largest number of input channels.
        out_channels: a number: no decision; an increasing sequence of numbers: an `Ordinal` of these widths; option ->
            number: an `Ordinal` of the options, such as scales. A depthwise convolution (``groups == in_channels ==
            out_channels``) follows its input and has no decision about its width.
        kernel_size: length of the kernel, odd; an increasing sequence: an `Ordinal` of the name ``<name>.kernel``.
        stride: as in ``nn.Conv1d``.
        dilation: distance between the elements of the kernel; an increasing sequence: an `Ordinal` of the name
            ``<name>.dilation``.
        groups: 1, or ``in_channels`` for a depthwise convolution.
        bias: as in ``nn.Conv1d``.
        name: the name of the decision about the width; None: the module's path. Layers of the same name have tied
            widths, as layers whose outputs are added must.

    Raises:
        SpaceError: ``groups`` is neither 1 nor that of a depthwise convolution, a kernel is even, or options are not
            increasing whole numbers of at least 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | Sequence[int] | Mapping[Scalar, int],
        kernel_size: int | Sequence[int],
        stride: int = 1,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        name: str | None = None,
    ) -> None:
        width = OutputWidth(out_channels, "an ElasticConv1d")
        if groups != 1 and (groups != in_channels or out_channels != in_channels):
            raise SpaceError(
                "an ElasticConv1d needs groups=1, or must be depthwise without a decision (groups == in_channels == "
                f"out_channels), not groups={groups} with {in_channels} -> {out_channels}"
            )
        sizes = {KERNEL: _sizes(kernel_size, "kernels"), DILATION: _sizes(dilation, "dilations")}
        if even := [kernel for kernel in sizes[KERNEL] if kernel % 2 == 0]:
            raise SpaceError(f"a kernel of an ElasticConv1d is odd, so that it has a centre, not {even[0]}")
        largest, step = sizes[KERNEL][-1], sizes[DILATION][0]
        nn.Conv1d.__init__(
            self, in_channels, width.largest, largest, stride, _padding(largest, step), step, groups, bias
        )
        self._init_choice(name)
        self._output = width
        self._searched: dict[str, Decision] = {
            key: Ordinal(sizes[key])
            for key, size in ((KERNEL, kernel_size), (DILATION, dilation))
            if isinstance(size, Iterable)
        }
        # Of a view: what was selected.
        self._selected: dict[str, int] | None = None if self.decisions() else {}

    def decisions(self) -> Mapping[str, Decision]:
        """Return the decisions about width, kernel and dilation, as far as there are options."""
        return {**self._output.decisions(), **self._searched}

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the convolution with its sizes set."""
        return self._view(choices)

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a plain ``nn.Conv1d`` with copies of the rows, columns and elements of kernels in use."""
        inputs = resolver.input_shape(self)[1]
        view = self._view(choices)
        weight, bias = view._slices(inputs)
        kernel, dilation = view._sizes()
        settings: dict[str, Any] = {
            "stride": self.stride,
            "padding": _padding(kernel, dilation),
            "dilation": dilation,
            "groups": 1 if self.groups == 1 else inputs,
            "bias": bias is not None,
        }
        return plain_layer(
            lambda: nn.Conv1d(inputs, weight.shape[0], kernel, **settings),
            self,
            (weight, bias),
            resolver,
            weight.shape == self.weight.shape,
        )

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return the values; with a kernel of one element the dilation makes no difference, and is the smallest."""
        kernel = values.get(KERNEL, self.kernel_size[0])
        if kernel == 1 and DILATION in values:
            return {**values, DILATION: self._searched[DILATION].options[0]}, ()
        return values, ()

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove options from the decisions; the weights keep their shape, so that they stay the same Parameters."""
        self._output.prune_to(live)
        self._searched = {key: Ordinal(live[key]) for key in self._searched}

    def forward(self, x: Tensor, transform: Transform | None = None) -> Tensor:  # type: ignore[override]
        """Convolve with the first rows and columns of the weight, and the centre of its kernels.

        Args:
            x: the input, shape ``(batch, channels, length)``.
            transform: applied to these weights first, such as a quantiser; None: they are used as they are.
        """
        if self._selected is None:
            self.raise_unresolved()
        weight, bias = self._slices(x.shape[1])
        if transform is not None:
            weight = transform(weight)
        kernel, dilation = self._sizes()
        groups = 1 if self.groups == 1 else x.shape[1]
        return F.conv1d(x, weight, bias, self.stride, _padding(kernel, dilation), dilation, groups)

    def _view(self, choices: Mapping[str, ResolvedChoice]) -> ElasticConv1d:
        if not choices:
            return self
        selected: dict[str, int] = {}
        for key, choice in choices.items():
            if choice.weights is not None and key:
                raise SpaceError(
                    f"the {key} '{self.path}.{key}' takes values only, since its options share their weights "
                    "(ModuleSpace.weighable contains the decisions that can)"
                )
            number = choice.options[0] if key else self._output.of(self._output.selected(choices, self.path))
            assert isinstance(number, int)
            selected[key] = number
        twin = shallow_copy(self)
        assert isinstance(twin, ElasticConv1d)
        twin._selected = selected
        return twin

    def _sizes(self) -> tuple[int, int]:
        """Return the kernel and the dilation."""
        assert self._selected is not None
        return self._selected.get(KERNEL, self.kernel_size[0]), self._selected.get(DILATION, self.dilation[0])

    def _slices(self, inputs: int) -> tuple[Tensor, Tensor | None]:
        assert self._selected is not None
        check_width(self.path, inputs, self.in_channels)
        outputs = self._selected.get("", self.out_channels) if self.groups == 1 else inputs
        weight = self.weight[:outputs, :inputs] if self.groups == 1 else self.weight[:outputs]
        kernel, _ = self._sizes()
        start = (self.kernel_size[0] - kernel) // 2
        return weight[..., start : start + kernel], None if self.bias is None else self.bias[:outputs]


def _padding(kernel: int, dilation: int) -> int:
    return dilation * (kernel - 1) // 2


def _sizes(size: int | Sequence[int], what: str) -> tuple[int, ...]:
    options = plain_options(size if isinstance(size, Iterable) else [size], "an ElasticConv1d")
    sizes = tuple(option for option in options if isinstance(option, int) and option >= 1)
    if not sizes or len(sizes) != len(options) or list(sizes) != sorted(set(sizes)):
        raise SpaceError(f"{what} of an ElasticConv1d are increasing whole numbers of at least 1, not {list(options)}")
    return sizes
