"""The cost model `latency_table`: latency as a sum over measured blocks, corrected by measured networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, SpaceError
from automl_nas.evaluation import Measurement
from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.blocks.structure import BlockStructure, Key, block_structure
from automl_nas_costs.blocks.sums import BlockSums
from automl_nas_costs.latency.cache import USER
from automl_nas_costs.latency.export import export
from automl_nas_costs.latency.model import LatencyMs
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.latency.session import LatencySession, SessionReport
from automl_nas_costs.network_builder import measurable_shape, network_of
from automl_nas_costs.prediction.accuracy import Accuracy, accuracy
from automl_nas_costs.prediction.features import Array
from automl_nas_costs.prediction.fitted_costs import FittedLatency
from automl_nas_costs.prediction.samples import MeasuredSamples, Sample, draw


@final
@dataclass(frozen=True)
class Correction:
    """From the sum of blocks to the latency of a network: ``constant + factor * sum``.

    A block measured alone reads inputs that a network would still hold in the processor's caches, and converts layouts
    that a network converts once; the time between blocks is not measured.

    Attributes:
        constant: in ms.
        factor: not below 0.
    """

    constant: float = 0.0
    factor: float = 1.0

    @classmethod
    def fit(cls, sums: Array, values: Array) -> Correction:
        """Return the correction of least squared relative error, for sums and values of shape ``(n,)``.

        It is a factor alone where a constant would reverse the order of networks, or where all sums are equal.
        """
        design = np.stack([1 / values, sums / values], axis=1)
        if np.ptp(sums) > 1e-9 * np.abs(sums).max():
            constant, factor = np.linalg.lstsq(design, np.ones(len(values)), rcond=None)[0]
            if factor > 0:
                return cls(float(constant), float(factor))
        # The same criterion with one unknown.
        return cls(0.0, float(design[:, 1].sum() / (design[:, 1] ** 2).sum()))

    def __call__(self, sums: Array) -> Array:
        """Return the corrected latencies."""
        return self.constant + self.factor * sums


@final
class BlockTable:
    """The latency of every network of a space from the latencies of its distinct blocks.

    Args:
        structure: the blocks of the space's networks.
        blocks: the latency of each distinct block, in ms.
        calibration: networks measured in the same session, in ms; without any the sums are not corrected.

    Attributes:
        correction: fitted to the calibration networks.
        accuracy: of the corrected table on each calibration network, fitted to the others; None if there are fewer
            than four.
    """

    def __init__(
        self, structure: BlockStructure, blocks: Mapping[Key, float], calibration: Sequence[Sample] = ()
    ) -> None:
        self._sums = BlockSums(structure, blocks)
        self.correction = Correction()
        self.accuracy: Accuracy | None = None
        if calibration:
            sums = np.array([self._sums(sample.architecture) for sample in calibration])
            values = np.array([sample.value for sample in calibration])
            self.correction = Correction.fit(sums, values)
            self.accuracy = _leave_one_out(sums, values) if len(values) > 3 else None

    def raw(self, architecture: Architecture) -> float:
        """Return the plain sum over blocks.

        Raises:
            SpaceError: the architecture is not of the space.
        """
        return self._sums(architecture)

    def estimate(self, architecture: Architecture) -> float:
        """Return the corrected latency in ms, not below 0."""
        return max(self.correction.constant + self.correction.factor * self._sums(architecture), 0.0)

    def estimates(self, codes: NDArray[Any]) -> Array:
        """Return the corrected latencies for the codes of architectures, shape ``(n,)``."""
        latencies: Array = np.maximum(self.correction(self._sums.of_codes(np.asarray(codes))), 0.0)
        return latencies

    def breakdown(self, architecture: Architecture) -> dict[str, float]:
        """Return path of the part -> latency in ms.

        The constant is listed under the empty path; a negative one is spread over all parts.
        """
        total, raw = self.estimate(architecture), self.raw(architecture)
        spread = self.correction.constant < 0
        factor = total / raw if spread and raw else self.correction.factor
        latencies = {} if spread else {"": self.correction.constant}
        for name, value in self._sums.parts(architecture):
            latencies[name] = latencies.get(name, 0.0) + factor * value
        return latencies


def _leave_one_out(sums: Array, values: Array) -> Accuracy:
    predicted = np.empty(len(values))
    for place in range(len(values)):
        others = np.arange(len(values)) != place
        predicted[place] = Correction.fit(sums[others], values[others])(sums[place : place + 1])[0]
    return accuracy(predicted, values)


def measure_blocks(
    space: SearchSpace, architectures: Sequence[Architecture], options: LatencyOptions, *, seed: int = 0
) -> tuple[dict[Key, Measurement], list[Measurement], SessionReport]:
    """Measure every distinct block of a space and some whole networks in one session, all of them in every round.

    Args:
        space: of the networks.
        architectures: of the whole networks.
        options: of the measurement.
        seed: of the order in the rounds.

    Raises:
        SpaceError: a block or a network cannot be exported or run; names the block or the network.
    """
    session = LatencySession(options, seed=seed)
    structure = block_structure(space)
    for key in structure.blocks:
        block = structure.block(space, key)
        try:
            model = export(block.module, *block.shapes, batch=options.batch)
        except SpaceError as error:
            raise SpaceError(f"the block '{block.name}' cannot be measured alone: {error}") from error
        session.add(model, f"the block '{block.name}'")
    for architecture in architectures:
        model = export(network_of(space, architecture), measurable_shape(space), batch=options.batch)
        session.add(model, f"the network {architecture.key}")
    measurements, report = session.run()
    count = len(structure.blocks)
    return dict(zip(structure.blocks, measurements[:count], strict=True)), measurements[count:], report


@final
class LatencyTable(FittedLatency[BlockTable]):
    """Latency as a sum over blocks, each distinct one measured once, corrected by a few measured networks.

    Blocks and networks are measured in one session of ONNX Runtime when a value is first needed. The table is for
    networks whose decisions each shape a small part of them; other networks have too many blocks to measure, which
    raises an error.

    Args:
        space: any search space that can build networks.
        seed: of the networks drawn for the correction, and of the order of measurements.
        calibration: number of networks measured for the correction; 0: the sums are not corrected.
        options: how latency is measured.
        learned: folder of the networks that runs measure before they deliver one, which also correct the tables of
            later runs (with ``calibration: 0`` they do not); ``user`` for the one in the user's cache folder, null for
            none.

    Raises:
        ConfigurationError: a setting out of range.
    """

    rows: ClassVar[str] = "networks"

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
        self._blocks: dict[Key, float] = {}

    def _fit(self) -> BlockTable:
        structure = block_structure(self._space)
        if not self._blocks:
            drawn = draw(self._space, self._calibration, self._seed) if self._calibration else []
            blocks, networks, report = measure_blocks(self._space, drawn, self.options, seed=self._seed)
            measured = [Sample(item, network.value) for item, network in zip(drawn, networks, strict=True)]
            learned = self._learned_networks.samples(report.control_ms, without=set(drawn)) if drawn else []
            self._samples = MeasuredSamples(measured, learned)
            self._blocks = {key: block.value for key, block in blocks.items()}
        return BlockTable(structure, self._blocks, self._samples.samples)

    def _origin(self, model: BlockTable) -> str:
        origin = f"a table of {len(self._blocks)} measured blocks"
        return f"{origin}, corrected by {self._samples.text()}" if self._samples.measured else origin

    def state_dict(self) -> dict[str, Any]:
        """Return the measured blocks and networks, and the accuracy of the table for readers of the file."""
        return {
            "blocks": dict(self._blocks),
            **self._samples.to_rows(self.rows),
            "accuracy": self._accuracy_row(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the measurements of `state_dict`, measuring none again."""
        super().load_state_dict(state)
        self._blocks = {str(key): float(value) for key, value in state["blocks"].items()}
