"""The cost models `flops`, `params`, `memory_access` and `peak_memory`, which count without measuring."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, final

from automl_nas.evaluation import CostModel
from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.counting.counts import Counts, count, parameters


class TracedCost(CostModel):
    """A cost that is counted in one forward pass; the subclass selects it from the `Counts`.

    Args:
        space: any search space that can build networks.
        ignore: operators of other libraries that count 0, e.g. ``torchvision::roi_align``. Without this setting an
            operator that might multiply and has no formula raises an error.
    """

    integral: ClassVar[bool] = True
    follows_memory: ClassVar[bool] = False

    def __init__(self, space: SearchSpace, *, ignore: tuple[str, ...] = ()) -> None:
        self._space = space
        self._ignore = frozenset(ignore)

    @final
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return module path -> cost of the module itself; modules without any are left out.

        Raises:
            SpaceError: the network cannot be built or run, or calls an operator whose cost is unknown.
        """
        return self._select(self._counts(architecture))

    def _counts(self, architecture: Architecture) -> Counts:
        return count(self._space, architecture, ignore=self._ignore, memory=self.follows_memory)

    @abstractmethod
    def _select(self, counts: Counts) -> Mapping[str, float]:
        """Return module path -> cost."""


class OperatorCost(TracedCost):
    """A traced cost that is a sum over operators, some of which count 0."""

    @final
    def remarks(self, architecture: Architecture) -> Sequence[str]:
        """Return the convention, if there are several, and which operators were called and count 0.

        Raises:
            SpaceError: as `breakdown`.
        """
        uncounted = sorted(self._counts(architecture).uncounted.items(), key=lambda item: (-item[1], item[0]))
        names = ", ".join(f"{name.removeprefix('aten::')} ({calls})" for name, calls in uncounted)
        remark = f"called and not counted: {names}" if names else "everything that was called is counted"
        return [*([self.convention] if self.convention else []), remark]

    @property
    def convention(self) -> str:
        """What one unit is, in words (default: empty, the unit has one meaning only)."""
        return ""


@final
class Flops(OperatorCost):
    """Multiply-adds of convolutions, linear layers and matrix products for one input, as SPOS and DSO-NAS count them.

    Biases, normalisation, activations, pooling and elementwise arithmetic count 0.

    Args:
        space: any search space that can build networks.
        ignore: operators of other libraries that count 0, e.g. ``torchvision::roi_align``. Without this setting an
            operator that might multiply and has no formula raises an error.
        convention: ``multiply_adds``, as papers on architectures count; ``flops`` counts a multiplication and an
            addition as two operations, which doubles every number. The unit is named accordingly.

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
            # The unit is a class attribute of every other model; the setting decides on it.
            self.unit = "operations"  # type: ignore[misc]

    def _select(self, counts: Counts) -> Mapping[str, float]:
        return {path: self.factor * value for path, value in counts.macs.items()}

    @property
    def convention(self) -> str:
        """What one unit is, in words."""
        return "one multiplication and one addition are " + (
            "two operations" if self.factor == 2 else "one multiply-add"
        )


@final
class Params(CostModel):
    """The number of parameters, whether they are trained or frozen; buffers such as BN statistics count 0.

    Args:
        space: any search space that can build networks.
    """

    metric: ClassVar[str] = "params"
    unit: ClassVar[str] = "parameters"
    integral: ClassVar[bool] = True

    def __init__(self, space: SearchSpace) -> None:
        self._space = space

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return module path -> the module's own parameters; a shared parameter counts at its first module.

        Raises:
            SpaceError: the network cannot be built.
        """
        return parameters(self._space, architecture)


@final
class MemoryAccess(OperatorCost):
    """Memory access cost, MAC in ShuffleNetV2 (Ma et al. 2018, guideline 1) and DSO-NAS: elements moved for one input.

    A convolution, linear layer or matrix product counts its inputs, its weights and its output, each element once,
    for every stride, dilation and number of groups; a pooling (windowed, adaptive or global) its input and its output.
    For one stride and ``c1`` to ``c2`` channels that is ``h w (c1 + c2) + weights``, and ``2 h w c`` for a pooling.
    Biases, normalisation, activations and elementwise arithmetic count 0: runtimes fuse them with the layer before.

    Args:
        space: any search space that can build networks.
        ignore: operators of other libraries that count 0; see `Flops`.
    """

    metric: ClassVar[str] = "memory_access"
    unit: ClassVar[str] = "elements"

    def _select(self, counts: Counts) -> Mapping[str, float]:
        return counts.accesses


@final
class PeakMemory(TracedCost):
    """Peak memory of activations for one input in evaluation mode: the largest number of bytes that live at a time.

    Operators run in the order of ``forward``. A tensor lives from the operator that creates it to the last one that
    reads it; during an operator everything that it reads and writes lives. Views share memory. The result of an
    elementwise operator or of batch normalisation overwrites an operand of equal size that no later operator reads,
    except the network's input. So the peak of a convolution with normalisation and activation is its input plus its
    output, and that of a residual block includes the shortcut. Parameters, workspaces of kernels and alignment count 0.

    Peak memory is not a sum over decisions, and networks of different depth can have the same peak. `breakdown` gives
    the bytes at the peak, those of the input under the empty path.

    Args:
        space: any search space that can build networks.
        ignore: operators of other libraries that count 0; see `Flops`.
    """

    metric: ClassVar[str] = "peak_memory"
    unit: ClassVar[str] = "bytes"
    follows_memory: ClassVar[bool] = True

    def estimate(self, architecture: Architecture) -> float:
        """Return the peak in bytes; it is a property of the whole network, so `TabulatedCost` counts each."""
        return super().estimate(architecture)

    def _select(self, counts: Counts) -> Mapping[str, float]:
        return counts.memory
