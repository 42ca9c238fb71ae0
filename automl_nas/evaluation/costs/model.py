"""The cost of networks: `CostModel`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from automl_nas.space.architecture import Architecture


class CostModel(ABC):
    """One cost metric of the networks of a space, such as FLOPs, parameters or a device's latency.

    A cost does not need training. The constructor takes the SearchSpace as a collaborator (and the Runtime, if it
    measures); settings are keyword-only.

    Attributes:
        metric: the name in constraints and tables, e.g. ``flops``.
        unit: e.g. ``multiply-adds``, ``ms``.
        integral: whether all values are whole numbers, so that sums are exact.
        noisy: whether each estimate is a new, slow measurement: such a cost is neither tabulated nor enumerated.
    """

    metric: ClassVar[str]
    unit: ClassVar[str]
    integral: ClassVar[bool] = False
    noisy: ClassVar[bool] = False

    @abstractmethod
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the cost of each module: module path in the built network -> value, in the metric's unit."""

    def note(self) -> str:
        """Return a note for users about all values, e.g. the error of a prediction (default: an empty string).

        A run prints the note when it begins, so the call must be fast: what it describes is measured or fitted before.
        """
        return ""

    def estimate(self, architecture: Architecture) -> float:
        """Return the cost of the whole network (default: the sum of `breakdown`).

        Infinity means that the network does not run where the cost is measured; it violates every limit.
        """
        return sum(self.breakdown(architecture).values())

    def remarks(self, architecture: Architecture) -> Sequence[str]:
        """Return remarks about the cost of an architecture, in sentences (default: none).

        For example the convention by which it is counted, what is not counted, how it was measured, its uncertainty.
        """
        return ()
