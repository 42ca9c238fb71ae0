"""The cost models `flops`, `params` and `memory_access`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

from automl_nas.evaluation.cost import CostModel
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas_costs.counting import count, parameters


@final
class Flops(CostModel):
    """Multiply-adds of convolutions, linear layers and matrix products for one input, as SPOS and DSO-NAS count them.

    Biases, normalisation, activations, pooling and elementwise arithmetic count nothing.

    Args:
        space: any search space that can build networks.
        ignore: operators of other libraries that count nothing, e.g. ``torchvision::roi_align``; an operator that might
            multiply and is not known is an error otherwise.
    """

    metric: ClassVar[str] = "flops"
    unit: ClassVar[str] = "multiply-adds"
    integral: ClassVar[bool] = True

    def __init__(self, space: SearchSpace, *, ignore: tuple[str, ...] = ()) -> None:
        self._space = space
        self._ignore = frozenset(ignore)

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return module path -> multiply-adds of the module itself; modules that do none are left out.

        Raises:
            SpaceError: the network cannot be built or run, or calls an operator whose cost is unknown.
        """
        return count(self._space, architecture, ignore=self._ignore).macs


@final
class Params(CostModel):
    """The number of parameters, whether they are trained or frozen; buffers such as BN statistics count nothing.

    Args:
        space: any search space that can build networks.
    """

    metric: ClassVar[str] = "params"
    unit: ClassVar[str] = "parameters"
    integral: ClassVar[bool] = True

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return module path -> parameters the module holds itself; a shared one counts where it stands first.

        Raises:
            SpaceError: the network cannot be built.
        """
        return parameters(self._space, architecture)


@final
class MemoryAccess(CostModel):
    """Memory access cost, MAC in ShuffleNetV2 (Ma et al. 2018, guideline 1) and DSO-NAS: elements moved for one input.

    A convolution, linear layer or matrix product counts its inputs, its weights and its output, each element once,
    whatever stride, dilation or number of groups; a pooling (windowed, adaptive or global) its input and its output.
    For one stride and ``c1`` to ``c2`` channels that is ``h w (c1 + c2) + weights``, and ``2 h w c`` for a pooling.
    Biases, normalisation, activations and elementwise arithmetic count nothing: they are fused or read what is at hand.

    Args:
        space: any search space that can build networks.
        ignore: operators of other libraries that count nothing; see `Flops`.
    """

    metric: ClassVar[str] = "memory_access"
    unit: ClassVar[str] = "elements"
    integral: ClassVar[bool] = True

    def __init__(self, space: SearchSpace, *, ignore: tuple[str, ...] = ()) -> None:
        self._space = space
        self._ignore = frozenset(ignore)

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return module path -> elements read and written by the module itself; modules that move none are left out.

        Raises:
            SpaceError: the network cannot be built or run, or calls an operator whose cost is unknown.
        """
        return count(self._space, architecture, ignore=self._ignore).accesses
