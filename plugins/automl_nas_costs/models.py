"""The cost models `flops`, `params`, `memory_access` and `peak_memory`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, final

from automl_nas.evaluation import CostModel
from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.counting import Counts, count, parameters


class TracedCost(CostModel):
    """A cost that is counted in one forward pass; what of it is left to the subclass.

    Args:
        space: any search space that can build networks.
        ignore: operators of other libraries that count nothing, e.g. ``torchvision::roi_align``; an operator that might
            multiply and is not known is an error otherwise.
    """

    integral: ClassVar[bool] = True

    def __init__(self, space: SearchSpace, *, ignore: tuple[str, ...] = ()) -> None:
        self._space = space
        self._ignore = frozenset(ignore)

    def counts(self, architecture: Architecture, *, memory: bool = False) -> Counts:
        """Return what is counted of a network; see `count`.

        Raises:
            SpaceError: the network cannot be built or run, or calls an operator whose cost is unknown.
        """
        return count(self._space, architecture, ignore=self._ignore, memory=memory)


@final
class Flops(TracedCost):
    """Multiply-adds of convolutions, linear layers and matrix products for one input, as SPOS and DSO-NAS count them.

    Biases, normalisation, activations, pooling and elementwise arithmetic count nothing.

    Args:
        space: any search space that can build networks.
        ignore: operators of other libraries that count nothing, e.g. ``torchvision::roi_align``; an operator that might
            multiply and is not known is an error otherwise.
        convention: ``multiply_adds``, as papers on architectures count; ``flops`` counts a multiplication and an
            addition as two operations, which doubles every number. The unit says which.

    Attributes:
        factor: units for one multiply-add.
    """

    metric: ClassVar[str] = "flops"
    unit: ClassVar[str] = "multiply-adds"

    def __init__(
        self,
        space: SearchSpace,
        *,
        ignore: tuple[str, ...] = (),
        convention: Literal["multiply_adds", "flops"] = "multiply_adds",
    ) -> None:
        super().__init__(space, ignore=ignore)
        self.factor = 2 if convention == "flops" else 1
        if convention == "flops":
            # The unit is a class's own in every other model; here a setting decides on it.
            self.unit = "operations"  # type: ignore[misc]

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return module path -> multiply-adds of the module itself; modules that do none are left out.

        Raises:
            SpaceError: the network cannot be built or run, or calls an operator whose cost is unknown.
        """
        counted = self.counts(architecture).macs
        return {path: self.factor * value for path, value in counted.items()}

    @property
    def convention(self) -> str:
        """What one unit is, in words."""
        return "one multiplication and one addition are " + (
            "two operations" if self.factor == 2 else "one multiply-add"
        )

    def remarks(self, architecture: Architecture) -> Sequence[str]:
        """Return the convention, and which operators were called and count nothing.

        Raises:
            SpaceError: as `breakdown`.
        """
        return [
            self.convention,
            _uncounted(self.counts(architecture)),
        ]


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
class MemoryAccess(TracedCost):
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

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return module path -> elements read and written by the module itself; modules that move none are left out.

        Raises:
            SpaceError: the network cannot be built or run, or calls an operator whose cost is unknown.
        """
        return self.counts(architecture).accesses

    def remarks(self, architecture: Architecture) -> Sequence[str]:
        """Return which operators were called and count nothing.

        Raises:
            SpaceError: as `breakdown`.
        """
        return [_uncounted(self.counts(architecture))]


@final
class PeakMemory(TracedCost):
    """Peak memory of activations for one input in evaluation mode: bytes that live at the most demanding moment.

    Operators run in the order of ``forward``. A tensor lives from the operator that makes it to the last one that reads
    it; during an operator everything it reads and writes exists. Views share memory, and the result of an elementwise
    operator or of batch normalisation takes the place of an operand of equal size that is not needed any more, except
    the network's input. So the peak of a convolution with normalisation and activation is its input plus its output,
    and that of a residual block includes the shortcut. Parameters, workspaces of kernels and alignment count nothing.

    It is no sum over decisions, and networks of different depth share their peak.

    Args:
        space: any search space that can build networks.
        ignore: operators of other libraries that count nothing; see `Flops`.
    """

    metric: ClassVar[str] = "peak_memory"
    unit: ClassVar[str] = "bytes"

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return module path -> bytes it wrote that live at the peak; the input stands under the empty path.

        Raises:
            SpaceError: the network cannot be built or run, or calls an operator whose cost is unknown.
        """
        return self.counts(architecture, memory=True).memory


def _uncounted(counts: Counts) -> str:
    """Return the operators that count nothing, the most frequent first."""
    names = sorted(counts.uncounted.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{name.removeprefix('aten::')} ({calls})" for name, calls in names)
    return f"called and not counted: {listed}" if listed else "everything that was called is counted"
