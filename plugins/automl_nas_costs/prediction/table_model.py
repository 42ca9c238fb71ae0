"""The cost model `latency_table`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError
from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.latency.cache import USER
from automl_nas_costs.latency.model import LatencyMs
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.prediction.blocks import plan
from automl_nas_costs.prediction.measuring import Remeasured
from automl_nas_costs.prediction.predicted import draw
from automl_nas_costs.prediction.predictor_cache import as_rows, from_rows, said
from automl_nas_costs.prediction.table import BlockTable, measure_blocks

_log = logging.getLogger(__name__)


@final
class LatencyTable(Remeasured):
    """Latency as a sum over blocks, each distinct one measured once, corrected by a few measured networks.

    Blocks and networks are measured in one session of ONNX Runtime when a value is first asked for. For networks whose
    decisions each shape a small part of them; others have blocks too many to measure, and an error says so.

    Args:
        space: any search space that can build networks.
        seed: of the networks drawn for the correction, and of the order in which things are measured.
        calibration: how many networks are measured for the correction; 0: the plain sum.
        options: how latency is measured.
        learned: folder of networks that runs measured before they delivered one, which correct the tables of later
            runs, too (but no plain sum); ``user`` for the one in the user's cache folder, null for none.

    Raises:
        ConfigurationError: a setting out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int = 0,
        calibration: int = 20,
        options: LatencyOptions | None = None,
        learned: str | None = USER,
    ) -> None:
        if calibration < 0:
            raise ConfigurationError(f"must be at least 0, not {calibration}", path="calibration")
        self.options = options or LatencyOptions()
        super().__init__(space, LatencyMs(space, seed=seed, cache=None, **asdict(self.options)), learned)
        self._seed, self._calibration = seed, calibration
        self._table: BlockTable | None = None
        self._measured: dict[str, float] = {}
        self._networks: list[tuple[Architecture, float]] = []
        self._learned: list[tuple[Architecture, float]] = []

    @property
    def table(self) -> BlockTable:
        """The table; measured when it is first asked for.

        Raises:
            SpaceError: too many decisions shape one block, or one cannot be measured.
        """
        if self._table is None:
            found = plan(self._space)
            if not self._measured:
                drawn = draw(self._space, self._calibration, self._seed) if self._calibration else []
                blocks, networks, report = measure_blocks(self._space, found, drawn, self.options, seed=self._seed)
                self._networks = [(item, known.value) for item, known in zip(drawn, networks, strict=True)]
                self._learned = self._kept.known(report.control_ms, but=set(drawn)) if drawn else []
                self._measured = {key: item.value for key, item in blocks.items()}
            self._table = BlockTable(found, self._measured, [*self._networks, *self._learned])
            _log.info("latency: %s", self._text(self._table))
        return self._table

    def note(self) -> str:
        """Return of how many measured blocks it consists, what corrects it, and the error of its sums on networks."""
        return self._text(self.table)

    def _text(self, table: BlockTable) -> str:
        made = f"a table of {len(self._measured)} measured blocks"
        if not self._networks:
            return made
        made += f", corrected by {said(len(self._networks), len(self._learned))}"
        return made if table.accuracy is None else f"{made}; on whole networks {table.accuracy.text()}"

    def estimate(self, architecture: Architecture) -> float:
        """Return the corrected sum over blocks, in ms."""
        return self.table.estimate(architecture)

    def estimates(self, codes: NDArray[Any]) -> NDArray[np.float64]:
        """Return the corrected sums of architectures given by their codes, shape ``(n,)``."""
        return self.table.estimates(np.asarray(codes), self._space)

    def breakdown(self, architecture: Architecture) -> Mapping[str, float]:
        """Return place -> latency in ms; see `BlockTable.breakdown`."""
        return self.table.breakdown(self._space.validate(architecture))

    def state_dict(self) -> dict[str, Any]:
        """Return the measured blocks and networks, and the accuracy of the table for whoever reads them."""
        known = self._table.accuracy if self._table else None
        return {
            "blocks": dict(self._measured),
            "networks": as_rows(self._networks),
            "learned": as_rows(self._learned),
            "accuracy": known.as_dict() if known else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the measurements of `state_dict`, measuring none again."""
        self._measured = {str(key): float(value) for key, value in state["blocks"].items()}
        self._networks = from_rows(state["networks"], self._space)
        self._learned = from_rows(state.get("learned", ()), self._space)
        self._table = None
