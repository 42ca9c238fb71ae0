"""The cost model `latency_table`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.measured import MeasuredCost, Measurement
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream_seed
from automl_nas_costs.counting import untouched
from automl_nas_costs.latency.export import export
from automl_nas_costs.latency.graphs import fixed
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.latency.session import measure
from automl_nas_costs.prediction.blocks import Plan, plan
from automl_nas_costs.prediction.models import draw
from automl_nas_costs.prediction.table import BlockTable, measure_blocks

if TYPE_CHECKING:
    from torch import nn

_log = logging.getLogger(__name__)


@final
class LatencyTable(MeasuredCost):
    """Latency as a sum over blocks, each distinct one measured once, corrected by a few measured networks.

    Blocks and networks are measured in one session of ONNX Runtime when a value is first asked for. For networks whose
    decisions each shape a small part of them; others have blocks too many to measure, and an error says so.

    Args:
        space: any search space that can build networks.
        seed: of the networks drawn for the correction, and of the order in which things are measured.
        calibration: how many networks are measured for the correction; 0: the plain sum.
        options: how latency is measured.

    Raises:
        ConfigurationError: a setting out of range.
    """

    metric: ClassVar[str] = "latency_ms"
    unit: ClassVar[str] = "ms"
    exported_suffix: ClassVar[str] = ".onnx"

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        calibration: int = 20,
        options: LatencyOptions | None = None,
    ) -> None:
        if calibration < 0:
            raise ConfigurationError(f"must be at least 0, not {calibration}", path="calibration")
        self._space, self._seed, self._calibration = space, seed, calibration
        self.options = options or LatencyOptions()
        self._plan: Plan | None = None
        self._table: BlockTable | None = None
        self._measured: dict[str, float] = {}
        self._networks: list[tuple[Architecture, float]] = []
        self._sessions = 0

    @property
    def table(self) -> BlockTable:
        """The table; measured when it is first asked for.

        Raises:
            SpaceError: too many decisions shape one block, or one cannot be measured.
        """
        if self._table is None:
            found = self._plan = plan(self._space)
            if not self._measured:
                drawn = draw(self._space, self._calibration, self._seed) if self._calibration else []
                blocks, networks, _ = measure_blocks(self._space, found, drawn, self.options, seed=self._seed)
                self._measured = {key: item.value for key, item in blocks.items()}
                self._networks = [(item, known.value) for item, known in zip(drawn, networks, strict=True)]
            self._table = BlockTable(found, self._measured, self._networks)
            if self._table.accuracy is not None:
                _log.info("latency table of %d blocks: %s", len(self._measured), self._table.accuracy.text())
        return self._table

    def note(self) -> str:
        """Return of how many measured blocks it consists, and the error of its sums on whole networks."""
        accuracy = self.table.accuracy
        measured = "" if accuracy is None else f"; on whole networks {accuracy.text()}"
        return f"a table of {len(self._measured)} measured blocks{measured}"

    def estimate(self, architecture: Architecture) -> float:
        """Return the corrected sum over blocks, in ms."""
        return self.table.estimate(architecture)

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return place -> latency in ms; see `BlockTable.breakdown`."""
        return self.table.breakdown(self._space.validate(architecture))

    def measure(self, networks: Sequence[nn.Module], input_shape: Sequence[int]) -> list[Measurement]:
        """Measure whole networks; see `MeasuredCost.measure`."""
        models = []
        for network in networks:
            with untouched():
                models.append(export(network, input_shape, batch=self.options.batch))
        return self._session(models)

    def measure_files(self, paths: Sequence[Path]) -> list[Measurement]:
        """Measure ONNX files; see `MeasuredCost.measure_files`."""
        return self._session([fixed(Path(path), self.options.batch) for path in paths])

    def _session(self, models: Sequence[bytes]) -> list[Measurement]:
        if not models:
            return []
        self._sessions += 1
        return measure(models, self.options, seed=stream_seed(self._seed, "latency/session", self._sessions))

    def state_dict(self) -> dict[str, Any]:
        """Return the measured blocks and networks, and the accuracy of the table for whoever reads them."""
        known = self._table.accuracy if self._table else None
        return {
            "blocks": dict(self._measured),
            "networks": [{"architecture": item.to_dict(), "value": value} for item, value in self._networks],
            "accuracy": known.as_dict() if known else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the measurements of `state_dict`, measuring none again."""
        self._measured = {str(key): float(value) for key, value in state["blocks"].items()}
        self._networks = [
            (self._space.validate(item["architecture"]), float(item["value"])) for item in state["networks"]
        ]
        self._table = None
