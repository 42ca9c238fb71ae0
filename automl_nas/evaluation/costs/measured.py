"""Costs that are measured on networks: `MeasuredCost`, `Measurement`."""

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
        value: the cost, in the unit of the cost model.
        low: the lower end of the confidence interval.
        high: the upper end of the confidence interval.
        confidence: the level of the confidence interval, between 0 and 1.
        details: how it was measured, as JSON values: device, options, versions, warnings.
    """

    value: float
    low: float
    high: float
    confidence: float = 0.95
    details: Mapping[str, Any] = field(default_factory=dict)


class MeasuredCost(CostModel):
    """A cost that is defined by a measurement: `estimate` measures or predicts it, `measure` measures it.

    If a run limits such a cost, the final stage measures the networks before it trains them, and the exported file
    afterwards.

    Attributes:
        exported_suffix: the suffix of the exported files that `measure_files` accepts, e.g. ``.onnx``.
    """

    exported_suffix: ClassVar[str]

    @abstractmethod
    def measure(self, networks: Sequence[nn.Module], input_shape: Sequence[int]) -> list[Measurement]:
        """Measure networks in one session, so that the results are comparable.

        Args:
            networks: networks on the CPU, which are not changed. Their weights have no influence.
            input_shape: the shape of one input without the batch.

        Returns:
            One measurement for each network, in their order.

        Raises:
            SpaceError: a network cannot be measured; the message names the reason.
        """

    @abstractmethod
    def measure_files(self, paths: Sequence[Path]) -> list[Measurement]:
        """Measure exported files in one session; see `measure`."""

    def learn(self, measurements: Sequence[tuple[Architecture, Measurement]]) -> None:
        """Store the measurements of a run for later runs (default: nothing is stored).

        `estimate` must return the same values as before, since the costs of a run's trials must be comparable. If a
        measurement cannot be stored, do not raise an error.

        Args:
            measurements: architectures of the model's space, with the results of `measure` for their networks.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements that `estimate` uses, as JSON values (default: none).

        A run stores them, so that it uses the same numbers after it is resumed.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Use the measurements that `state_dict` returned instead of measuring again (default: nothing is loaded)."""
