"""The cost of networks: `CostModel`."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from automl_nas.errors import PluginError, SpaceError
from automl_nas.evaluation.plain_number import plain_number
from automl_nas.space.architecture import Architecture


class CostModel(ABC):
    """One cost metric of the networks of a space, such as FLOPs, parameters or a device's latency.

    A cost does not need training. The constructor takes the SearchSpace as a collaborator (and the Runtime, if it
    measures); settings are keyword-only.

    Attributes:
        metric: the name in constraints and tables, e.g. ``flops``.
        unit: e.g. ``multiply-adds``, ``ms``.
        integral: whether all values are whole numbers, so that sums are exact.
        noisy: whether each estimate is a new, slow measurement: such a cost is neither tabulated nor enumerated, and
            two estimates of an architecture may differ. All other costs are functions of the architecture alone: a run
            asks for the cost of one architecture twice, in its process and in worker processes, and refuses a model
            that returns two values.
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

        A cost is at least 0. Infinity means that the network does not run where the cost is measured; it violates every
        limit.

        Raises:
            PluginError: `breakdown` does not return numbers by module paths.
        """
        return sum(checked_breakdown(self, architecture).values())

    def listing(self) -> tuple[Sequence[Architecture], float] | None:
        """Return the architectures that have a cost of their own, and the cost of all others; None (default): all have.

        A table that lacks most combinations returns its rows. If the cost of all others violates a limit, random
        architectures are drawn from the rows, since uniform draws would not meet one of them.
        """
        return None

    def remarks(self, architecture: Architecture) -> Sequence[str]:
        """Return remarks about the cost of an architecture, in sentences (default: none).

        For example the convention by which it is counted, what is not counted, how it was measured, its uncertainty.
        """
        return ()


def checked_breakdown(model: CostModel, architecture: Architecture) -> Mapping[str, float]:
    """Return the breakdown of a cost model.

    Args:
        model: the cost model.
        architecture: of the network.

    Raises:
        PluginError: the model returns no mapping, or one with a value that is not a number.
    """
    costs: object = model.breakdown(architecture)
    wrong = f"{type(model).__name__}.breakdown returned"
    if not isinstance(costs, Mapping):
        raise PluginError(f"{wrong} {costs!r}, a {type(costs).__name__}; it must return {{module path: number}}")
    for path, value in costs.items():
        try:
            plain_number(value)
        except TypeError as error:
            raise PluginError(f"{wrong} for {path!r} {error}; it must return {{module path: number}}") from None
    return costs


def checked_cost(cost: object, name: str, model: CostModel, architecture: Architecture) -> int | float:
    """Return what a cost model estimated as a plain number: at least 0, or infinity.

    Args:
        cost: the estimate.
        name: of the cost in the problem.
        model: that returned it.
        architecture: of the network.

    Raises:
        SpaceError: it is not a number, or it is NaN or negative.
    """
    with contextlib.suppress(TypeError):
        number = plain_number(cost)
        if number >= 0:
            return number
    raise SpaceError(
        f"the cost model '{name}' ({type(model).__qualname__}) returns {cost!r} for {architecture.key}; a cost is a "
        "number of at least 0, or infinity for a network that does not run where the cost is measured"
    )
