"""What a network costs: `CostModel`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from automl_nas.space.architecture import Architecture


class CostModel(ABC):
    """One cost metric of the networks of a space, such as FLOPs, parameters or a device's latency.

    A cost is known without training. The constructor takes the SearchSpace as a collaborator (and Runtime where it
    measures); settings are keyword-only.

    Attributes:
        metric: its name in constraints and tables, e.g. ``flops``.
        unit: e.g. ``multiply-adds``, ``ms``.
        integral: whether all values are whole numbers (then sums are exact).
        noisy: whether each estimate measures anew and takes its time: nothing is tabulated or enumerated then.
    """

    metric: ClassVar[str]
    unit: ClassVar[str]
    integral: ClassVar[bool] = False
    noisy: ClassVar[bool] = False

    @abstractmethod
    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the cost of each module: module path in the built network -> value, in the metric's unit."""

    def note(self) -> str:
        """Return what a user should know of all values, e.g. the error of a prediction (default: nothing).

        A run says it when it begins. It must not take long: what it speaks of has been measured or fitted by then.
        """
        return ""

    def estimate(self, architecture: Architecture) -> float:
        """Return the cost of the whole network (default: the sum of `breakdown`).

        Infinity says that the network does not run where the cost is measured: it violates every limit.
        """
        return sum(self.breakdown(architecture).values())

    def remarks(self, architecture: Architecture) -> Sequence[str]:
        """Return what whoever reads the cost of an architecture should know, in sentences (default: nothing).

        The convention it is counted by, say, what was left out, how it was measured and how sure it is.
        """
        return ()
