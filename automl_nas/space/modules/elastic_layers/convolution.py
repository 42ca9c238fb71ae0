"""Convolutions of searched width and kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from torch import Tensor, nn

from automl_nas.depthwise_gradient import convolve
from automl_nas.errors import SpaceError
from automl_nas.space.architecture import Scalar, Value
from automl_nas.space.decisions import Decision, Ordinal
from automl_nas.space.modules.choice import ChoiceModule, ModuleResolver, ResolvedChoice
from automl_nas.space.modules.copying import shallow_copy
from automl_nas.space.modules.elastic_layers.kernels import KernelTransformation, centre, check_kernels
from automl_nas.space.modules.elastic_layers.slices import Transform, check_width, plain_layer
from automl_nas.space.modules.elastic_layers.widths import OutputWidth, WidthRule

KERNEL = "kernel"
"""The last part of the name of a decision about a kernel."""


@final
class ElasticConv2d(ChoiceModule, nn.Conv2d):
    """A convolution whose output width and kernel may be searched and whose input width follows its input.

    The weight has the largest widths; the first rows and columns are used (SPOS channel search; once-for-all), and of a
    kernel its centre. It is an ``nn.Conv2d``, so code that initialises layers by type initialises it too.

    Args:
        in_channels: the largest number of input channels.
        out_channels: a number: no decision; a function of the number of input channels, such as ``lambda n: 4 * n``:
            no decision, the width follows the input; an increasing sequence of numbers: an `Ordinal` of these widths;
            option -> number or function: an `Ordinal` of the options, such as scales that are tied among layers of
            different widths. A depthwise convolution (``groups == in_channels == out_channels``) follows its input and
            has no decision about its width.
        kernel_size: as in ``nn.Conv2d``.
        stride: as in ``nn.Conv2d``.
        padding: as in ``nn.Conv2d``; that of a smaller kernel is as much smaller that the output has the same size.
        dilation: as in ``nn.Conv2d``.
        groups: 1, or ``in_channels`` for a depthwise convolution.
        bias: as in ``nn.Conv2d``.
        name: the name of the decision about the width; None: the module's path. Layers of the same name have tied
            widths, as layers whose outputs are added must.
        kernels: sides of square kernels, increasing, the last of which is ``kernel_size``: an `Ordinal` of the name
            ``<name>.kernel``; empty: no decision.
        kernel_transformation: whether trained matrices make smaller kernels of the centre of larger ones; see
            `KernelTransformation`.

    Raises:
        SpaceError: ``groups`` is neither 1 nor that of a depthwise convolution, a width is missing or below 1, or
            kernels do not fit to ``kernel_size`` and ``padding``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | WidthRule | Sequence[int] | Mapping[Scalar, int | WidthRule],
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        name: str | None = None,
        kernels: Sequence[int] = (),
        kernel_transformation: bool = False,
    ) -> None:
        width = OutputWidth(out_channels, "an ElasticConv2d", in_channels)
        if groups != 1 and (groups != in_channels or width.fixed != in_channels):
            raise SpaceError(
                "an ElasticConv2d needs groups=1, or must be depthwise without a decision (groups == in_channels == "
                f"out_channels), not groups={groups} with {in_channels} -> {out_channels}"
            )
        nn.Conv2d.__init__(self, in_channels, width.largest, kernel_size, stride, padding, dilation, groups, bias)
        self._init_choice(name)
        self._output = width
        self._kernels: Ordinal | None = None
        self.transformation: KernelTransformation | None = None
        if kernels:
            check_kernels(kernels, self.kernel_size, self.dilation, self.padding)
            self._kernels = Ordinal(tuple(kernels))
            if kernel_transformation:
                self.transformation = KernelTransformation(kernels)
        elif kernel_transformation:
            raise SpaceError("the kernel transformation of an ElasticConv2d needs kernels to choose from")
        # Of a view: what was selected. A width that follows the input is known when the input is.
        self._active_width = width.fixed
        self._active_kernel: int | None = None

    def decisions(self) -> Mapping[str, Decision]:
        """Return the decisions about the width and the kernel, if there are several."""
        kernels = {} if self._kernels is None else {KERNEL: self._kernels}
        return {**self._output.decisions(), **kernels}

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the convolution with its output width and its kernel set."""
        return self._selected(choices)

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a plain ``nn.Conv2d`` with copies of the rows, columns and kernels in use."""
        inputs = resolver.input_shape(self)[1]
        selected = self._selected(choices)
        outputs, kernel = selected._outputs(inputs), selected._active_kernel
        weight, bias = selected._slices(inputs, outputs)
        settings: dict[str, Any] = {
            "kernel_size": self.kernel_size if kernel is None else kernel,
            "stride": self.stride,
            "padding": selected._padding(),
            "dilation": self.dilation,
            "groups": 1 if self.groups == 1 else inputs,
            "bias": self.bias is not None,
        }
        is_largest = weight.shape == self.weight.shape
        return plain_layer(lambda: nn.Conv2d(inputs, outputs, **settings), self, (weight, bias), resolver, is_largest)

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return the width and the kernel."""
        return values, ()

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove options from the decisions; the weights keep their shape, so that they stay the same Parameters."""
        self._output.prune_to(live)
        if self._kernels is not None:
            self._kernels = Ordinal(live[KERNEL])

    def forward(self, x: Tensor, transform: Transform | None = None) -> Tensor:  # type: ignore[override]
        """Convolve with the first rows and columns of the weight, and the centre of its kernels.

        Args:
            x: the input.
            transform: applied to these weights first, such as a quantiser; None: they are used as they are.
        """
        if self._active_width is None or (self._kernels is not None and self._active_kernel is None):
            self.raise_unresolved()
        inputs = x.shape[1]
        weight, bias = self._slices(inputs, self._outputs(inputs))
        if transform is not None:
            weight = transform(weight)
        groups = 1 if self.groups == 1 else inputs
        return convolve(x, weight, bias, self.stride, self._padding(), self.dilation, groups)

    def _selected(self, choices: Mapping[str, ResolvedChoice]) -> ElasticConv2d:
        """Return a view: itself if nothing is decided."""
        if KERNEL in choices and choices[KERNEL].weights is not None:
            raise SpaceError(
                f"the kernel '{self.path}.{KERNEL}' takes values only, since kernels share their weights "
                "(ModuleSpace.weighable contains the decisions that can)"
            )
        if not choices:
            return self
        twin = shallow_copy(self)
        assert isinstance(twin, ElasticConv2d)
        twin._active_width = self._output.selected(choices, self.path)
        if KERNEL in choices:
            kernel = choices[KERNEL].options[0]
            assert isinstance(kernel, int)
            twin._active_kernel = kernel
        return twin

    def _outputs(self, inputs: int) -> int:
        if self.groups != 1:
            return inputs
        assert self._active_width is not None
        return self._output.of(self._active_width, inputs)

    def _slices(self, inputs: int, outputs: int) -> tuple[Tensor, Tensor | None]:
        check_width(self.path, inputs, self.in_channels)
        if outputs > self.out_channels:
            raise SpaceError(
                f"the elastic layer '{self.path}' has weights for at most {self.out_channels} outputs, but its rule "
                f"returns {outputs} for {inputs} inputs; a rule must not decrease"
            )
        weight = self.weight[:outputs, :inputs] if self.groups == 1 else self.weight[:outputs]
        if self._active_kernel is not None:
            if self.transformation is None:
                weight = centre(weight, self._active_kernel)
            else:
                weight = self.transformation(weight, self._active_kernel)
        return weight, None if self.bias is None else self.bias[:outputs]

    def _padding(self) -> tuple[int, ...] | str:
        if self._active_kernel is None or isinstance(self.padding, str):
            return self.padding
        less = (self.kernel_size[0] - self._active_kernel) // 2
        return tuple(pad - less * step for pad, step in zip(self.padding, self.dilation, strict=True))
