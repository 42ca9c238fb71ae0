"""Latency as a sum over measured blocks, corrected by whole networks of the same session: `BlockTable`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import SpaceError
from automl_nas.evaluation import Measurement
from automl_nas.space import Architecture, SearchSpace
from automl_nas_costs.counting import preserve_rng
from automl_nas_costs.latency.export import export
from automl_nas_costs.latency.options import LatencyOptions
from automl_nas_costs.latency.session import LatencySession, SessionReport
from automl_nas_costs.network_builder import networks_of
from automl_nas_costs.prediction.accuracy import Accuracy, accuracy
from automl_nas_costs.prediction.blocks import Key, Plan
from automl_nas_costs.prediction.features import Array
from automl_nas_costs.prediction.part_sums import PartSums


@final
@dataclass(frozen=True)
class Correction:
    """From the sum of blocks to the latency of a network: ``constant + factor * sum``.

    Blocks alone read inputs that a network would still hold in the processor's caches, and convert layouts that a
    network converts once; what stands between blocks they leave out.

    Attributes:
        constant: in ms.
        factor: none below 0.
    """

    constant: float = 0.0
    factor: float = 1.0

    @classmethod
    def fit(cls, sums: Array, values: Array) -> Correction:
        """Return the correction of least squared relative error, for sums and values of shape ``(n,)``.

        Where it would turn the order of networks around, or there is nothing to tell a slope from, it is a factor.
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
    """The latency of every network of a space from that of its distinct blocks.

    Args:
        plan: how the networks are put together.
        blocks: the latency of each distinct block, in ms.
        calibration: networks measured in the same session, and their latency in ms; without any nothing is corrected.

    Attributes:
        correction: fitted to the calibration networks.
        accuracy: of the corrected table on each calibration network when it is fitted without that one; None if there
            are fewer than four.
    """

    def __init__(
        self, plan: Plan, blocks: Mapping[Key, float], calibration: Sequence[tuple[Architecture, float]] = ()
    ) -> None:
        self._sums = PartSums(plan, blocks)
        self.correction = Correction()
        self.accuracy: Accuracy | None = None
        if calibration:
            sums = np.array([self._sums(architecture) for architecture, _ in calibration])
            values = np.array([value for _, value in calibration])
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

    def estimates(self, codes: NDArray[Any], space: SearchSpace) -> Array:
        """Return the corrected latencies of architectures of the space given by their codes, shape ``(n,)``."""
        found: Array = np.maximum(self.correction(self._sums.of_codes(codes, space)), 0.0)
        return found

    def breakdown(self, architecture: Architecture) -> dict[str, float]:
        """Return place -> latency in ms.

        The constant stands under the empty path; a negative one is spread over all places.
        """
        total, raw = self.estimate(architecture), self.raw(architecture)
        spread = self.correction.constant < 0
        factor = total / raw if spread and raw else self.correction.factor
        found = {} if spread else {"": self.correction.constant}
        for name, value in self._sums.parts(architecture):
            found[name] = found.get(name, 0.0) + factor * value
        return found


def _leave_one_out(sums: Array, values: Array) -> Accuracy:
    predicted = np.empty(len(values))
    for place in range(len(values)):
        others = np.arange(len(values)) != place
        predicted[place] = Correction.fit(sums[others], values[others])(sums[place : place + 1])[0]
    return accuracy(predicted, values)


def measure_blocks(
    space: SearchSpace,
    plan: Plan,
    architectures: Sequence[Architecture],
    options: LatencyOptions,
    *,
    seed: int = 0,
) -> tuple[dict[Key, Measurement], list[Measurement], SessionReport]:
    """Measure every distinct block and some whole networks in one session, all of them in every round.

    Args:
        space: of the networks.
        plan: how they are put together.
        architectures: of the whole networks.
        options: how it is measured.
        seed: of the order in the rounds.

    Raises:
        SpaceError: a block or a network cannot be exported or run; names the place.
    """
    session = LatencySession(options, seed=seed)
    for key in plan.blocks:
        block = plan.block(space, key)
        try:
            with preserve_rng():
                model = export(block.module, *block.shapes, batch=options.batch)
        except SpaceError as error:
            raise SpaceError(f"the block '{block.name}' cannot be measured alone: {error}") from error
        session.add(model, f"the block '{block.name}'")
    for architecture in architectures:
        (network,) = networks_of(space, [architecture])
        with preserve_rng():
            session.add(export(network, space.input_shape, batch=options.batch), f"the network {architecture.key}")
    measured, report = session.run()
    count = len(plan.blocks)
    return dict(zip(plan.blocks, measured[:count], strict=True)), measured[count:], report
