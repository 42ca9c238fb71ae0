"""What models of latency that rest on a few measurements have in common: `Remeasured`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from automl_nas.evaluation import MeasuredCost, Measurement
from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.latency.model import LatencyMs
from automl_nas_costs.prediction.predictor_cache import LearnedNetworks

if TYPE_CHECKING:
    from torch import nn


class Remeasured(MeasuredCost):
    """A cost that another one measures, of which estimates come from elsewhere; how is left to the subclass.

    Args:
        space: of the networks.
        latency: what measures.
        learned: the folder of networks that later models learn from; see `LearnedNetworks`.

    Raises:
        ConfigurationError: the folder cannot be used.
    """

    metric: ClassVar[str] = "latency_ms"
    unit: ClassVar[str] = "ms"
    exported_suffix: ClassVar[str] = ".onnx"

    def __init__(self, space: SearchSpace, latency: MeasuredCost, learned: str | None) -> None:
        self._space, self._latency = space, latency
        # The names are a class's own elsewhere; here what measures decides on them.
        self.metric, self.unit = latency.metric, latency.unit  # type: ignore[misc]
        self.exported_suffix = latency.exported_suffix  # type: ignore[misc]
        options = latency.options if isinstance(latency, LatencyMs) else None
        self._kept = LearnedNetworks(space, options, learned)

    def measure(self, networks: Sequence[nn.Module], input_shape: Sequence[int]) -> list[Measurement]:
        """Measure whole networks; see `MeasuredCost.measure`."""
        return self._latency.measure(networks, input_shape)

    def measure_files(self, paths: Sequence[Path]) -> list[Measurement]:
        """Measure exported files; see `MeasuredCost.measure_files`."""
        return self._latency.measure_files(paths)

    def learn(self, measurements: Sequence[tuple[Architecture, Measurement]]) -> None:
        """Keep networks for the next table or predictor; this one stays as it is."""
        self._kept.keep(measurements)
