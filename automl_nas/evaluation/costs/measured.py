"""Costs that can be measured on a network: `MeasuredCost`, `Measurement`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from automl_nas.evaluation.costs.model import CostModel
from automl_nas.space.architecture import Architecture

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Measurement:
    """A measured cost with its uncertainty.

    Attributes:
        value: in the unit of the cost model.
        low: lower end of the interval.
        high: upper end of the interval.
        confidence: of the interval.
        details: how it was measured, as plain data: device, options, versions, what was noticed.
    """

    value: float
    low: float
    high: float
    confidence: float = 0.95
    details: Mapping[str, Any] = field(default_factory=dict)


class MeasuredCost(CostModel):
    """A cost whose truth is a measurement: `estimate` measures or predicts it, `measure` measures it.

    Where a run limits such a cost, the networks that are to be delivered are measured before they are trained, and the
    exported file once more after it; see `Final`.

    Attributes:
        exported_suffix: of the exported files that `measure_files` takes, e.g. ``.onnx``.
    """

    exported_suffix: ClassVar[str]

    @abstractmethod
    def measure(self, networks: Sequence[nn.Module], input_shape: Sequence[int]) -> list[Measurement]:
        """Measure networks in one session, so that they can be compared.

        Args:
            networks: on the CPU; their weights do not matter. They are not changed.
            input_shape: of one input without the batch.

        Returns:
            One measurement for each, in order.

        Raises:
            SpaceError: a network cannot be measured; names what stands in the way.
        """

    @abstractmethod
    def measure_files(self, paths: Sequence[Path]) -> list[Measurement]:
        """Measure exported files in one session; see `measure`."""

    def learn(self, known: Sequence[tuple[Architecture, Measurement]]) -> None:
        """Keep what a run measured before it delivered a network, for later runs (default: nothing is kept).

        What `estimate` returns must stay the same: the trials of one run hold costs of one table. A network that cannot
        be kept is no reason to end a run.

        Args:
            known: architectures of the model's space, and what `measure` returned for their networks.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements that `estimate` rests on, as plain data (default: none).

        They are kept with a run, so that it goes on with the numbers it began with.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with what `state_dict` returned, measuring none of it again (default: there is nothing to load)."""
