"""A cost predicted from samples: `Predictor`, whose model is chosen by cross-validation."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.errors import ConfigurationError, DataError, SpaceError
from automl_nas.space import Architecture, SearchSpace, Subset, decode
from automl_nas.streams import stream_seed
from automl_nas_costs.prediction.accuracy import Accuracy, criterion, selected_accuracy
from automl_nas_costs.prediction.block_process import BlockProcess
from automl_nas_costs.prediction.codings import CODINGS, CodingName, reducers
from automl_nas_costs.prediction.counts import BlockCounts
from automl_nas_costs.prediction.features import Array, Options
from automl_nas_costs.prediction.part_sums import PartSums
from automl_nas_costs.prediction.regressors import AdditiveRegressor, GaussianProcess, Regressor

ModelName: TypeAlias = Literal["auto", "additive", "gaussian_process", "blocks"]
"""Which regressors are tried: all, or one kind."""

Kind: TypeAlias = Literal["least_squares", "ridge", "gaussian_process", "blocks"]

FEWEST = 10
"""With fewer samples a fold of the cross-validation has a single one, and its choice is luck."""

_KEPT = 1 << 16
_RESOLUTION = 1e-12  # far above the rounding in sums of a few hundred doubles, far below what is verified of tables


@final
@dataclass(frozen=True)
class RegressorCandidate:
    """A regressor and what it is told.

    Attributes:
        kind: ``least_squares``, ``ridge`` (both additive), ``gaussian_process`` or ``blocks`` (`BlockProcess`).
        coding: of the architectures; always ``raw`` for blocks, which say themselves what matters.
    """

    kind: Kind
    coding: CodingName = "raw"

    @property
    def name(self) -> str:
        """For people, e.g. ``gaussian_process, used``."""
        return self.kind if self.kind == "blocks" else f"{self.kind}, {self.coding}"

    @property
    def additive(self) -> bool:
        """Whether it predicts a sum over the options of the coding."""
        return self.kind in ("least_squares", "ridge")


@final
class Predictor:
    """Predicts a cost from the architecture alone, in microseconds.

    Every candidate, a regressor on one coding of the architectures (`CodingName`) or on the blocks of their networks,
    is cross-validated on the samples; the one of the smallest `criterion` is fitted to all of them. Codings that are
    the same on all samples are tried once.

    Args:
        space: of the architectures.
        architectures: the samples.
        values: their cost, above 0.
        model: which regressors are tried.
        counts: whether networks may be taken apart into blocks of which multiply-adds, memory access and so on are
            counted, where that is possible.
        folds: of the cross-validation.
        seed: of the folds.

    Raises:
        DataError: samples that are too few, or a value that is no positive number.
        ConfigurationError: fewer than two folds, or more than samples; only blocks are wanted, and there are none.
    """

    def __init__(
        self,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        values: Sequence[float],
        *,
        model: ModelName = "auto",
        counts: bool = True,
        folds: int = 5,
        seed: int = 0,
    ) -> None:
        self._space = space
        samples = [space.validate(architecture) for architecture in architectures]
        known = np.asarray(values, dtype=np.float64)
        _check(samples, known, folds)
        self._quantum = _RESOLUTION * float(np.abs(known).max())
        self._options = Options(space)
        self._blocks = _block_counts(space, model, counts)
        self._reduced = reducers(space)
        candidates = self._candidates(samples, model)
        fitted = {c.name: self._regressor_of(c).fit(self._features(c, samples), known) for c in candidates}
        held_out = {c.name: self._held_out(c, fitted[c.name], samples, known, folds, seed) for c in candidates}
        self.scores = {name: criterion(predicted, known) for name, predicted in held_out.items()}
        names = [candidate.name for candidate in candidates]
        self.chosen = min(candidates, key=lambda candidate: self.scores[candidate.name])
        self.accuracy: Accuracy = selected_accuracy(held_out, known, names, seed)
        self._regressor = fitted[self.chosen.name]
        self._sums = self._block_sums(self._regressor)
        self._known: dict[Architecture, float] = {}
        looked_up = space.decisions.keys() if self._sums is None else self._sums[1].decisions
        subsets = any(isinstance(decision, Subset) for decision in space.decisions.values())
        self._finds_errors = looked_up == space.decisions.keys() and not subsets

    def _candidates(self, samples: Sequence[Architecture], model: ModelName) -> list[RegressorCandidate]:
        codings: list[CodingName] = []
        seen: list[list[Architecture]] = []
        for coding in CODINGS:
            reduced = [self._reduced[coding](sample) for sample in samples]
            if reduced not in seen:
                seen.append(reduced)
                codings.append(coding)
        # The simpler one first: of equal ones the first is chosen.
        found: list[RegressorCandidate] = []
        if model in ("auto", "additive"):
            found += [RegressorCandidate("least_squares", coding) for coding in codings]
            found += [RegressorCandidate("ridge", coding) for coding in codings]
        if self._blocks is not None:
            found.append(RegressorCandidate("blocks"))
        if model in ("auto", "gaussian_process"):
            found += [RegressorCandidate("gaussian_process", coding) for coding in codings]
        return found

    def _regressor_of(self, candidate: RegressorCandidate) -> Regressor:
        """Return one that is not fitted."""
        if candidate.kind == "blocks":
            assert self._blocks is not None
            return BlockProcess(self._blocks.counted)
        return AdditiveRegressor(ridge=candidate.kind == "ridge") if candidate.additive else GaussianProcess()

    def _features(self, candidate: RegressorCandidate, architectures: Sequence[Architecture]) -> Array:
        if candidate.kind == "blocks":
            assert self._blocks is not None
            return self._blocks(architectures)
        reduce = self._reduced[candidate.coding]
        found = self._options([reduce(architecture) for architecture in architectures])
        return found[:, : self._options.additive_width] if candidate.additive else found

    def _block_sums(self, regressor: Regressor) -> tuple[float, PartSums] | None:
        """Return what a fitted `BlockProcess` says of each block, from which its predictions are looked up."""
        if not isinstance(regressor, BlockProcess):
            return None
        assert self._blocks is not None
        constant, costs = regressor.coefficients
        values = dict(zip(self._blocks.keys, costs.tolist(), strict=True))
        return constant, PartSums(self._blocks.plan, values)

    def _held_out(
        self,
        candidate: RegressorCandidate,
        fitted: Regressor,
        samples: Sequence[Architecture],
        values: Array,
        folds: int,
        seed: int,
    ) -> Array:
        features, found = self._features(candidate, samples), np.empty(len(samples))
        order = np.random.default_rng(stream_seed(seed, "prediction/folds")).permutation(len(samples))
        for fold in np.array_split(order, folds):
            rest = np.setdiff1d(order, fold)
            found[fold] = fitted.again().fit(features[rest], values[rest]).predict(features[fold])
        return self._resolved(found)

    def _resolved(self, predicted: Array) -> Array:
        # Sums that differ by rounding alone are equal: otherwise equal costs would be ranked by chance.
        found: Array = np.maximum(np.round(predicted / self._quantum) * self._quantum, 0.0)
        return found

    def predict(self, architectures: Sequence[Architecture]) -> Array:
        """Return the predicted costs, shape ``(n,)``, none below 0."""
        if self._sums is not None:
            constant, sums = self._sums
            return self._resolved(constant + np.array([sums(item) for item in architectures], dtype=np.float64))
        return self._resolved(self._regressor.predict(self._features(self.chosen, architectures)))

    def estimate(self, architecture: Architecture) -> float:
        """Return the predicted cost of one architecture.

        Raises:
            SpaceError: it is not of the space.
        """
        found = self._known.get(architecture)
        if found is None:
            if len(self._known) >= _KEPT:
                self._known.clear()
            found = self._known[architecture] = self._estimate(architecture)
        return found

    def _estimate(self, architecture: Architecture) -> float:
        # Looking up every decision finds what is wrong; checking all of them before would take twice as long.
        if self._finds_errors and len(architecture) == len(self._space.decisions):
            with contextlib.suppress(SpaceError, KeyError):
                return float(self.predict([architecture])[0])
        return float(self.predict([self._space.validate(architecture)])[0])

    def estimates(self, codes: NDArray[Any]) -> Array:
        """Return the predicted costs of architectures given by their codes (`CostTable.encode`), shape ``(n,)``."""
        codes = np.asarray(codes)
        if self._sums is not None:
            constant, sums = self._sums
            return self._resolved(constant + sums.of_codes(codes, self._space))
        if self.chosen.coding == "raw":
            features = self._options.of_codes(codes)
            if self.chosen.additive:
                features = features[:, : self._options.additive_width]
            return self._resolved(self._regressor.predict(features))
        return self.predict([decode(code, self._space.decisions) for code in codes.tolist()])


def _block_counts(space: SearchSpace, model: ModelName, counts: bool) -> BlockCounts | None:
    """Return what is counted of blocks, if it is wanted and there is any."""
    if model not in ("auto", "blocks") or not (counts or model == "blocks"):
        return None
    try:
        return BlockCounts(space)
    except SpaceError as error:
        if model == "blocks":
            raise ConfigurationError(
                f"networks cannot be predicted from their blocks: {error}", path="model"
            ) from error
        return None


def _check(samples: Sequence[Architecture], values: Array, folds: int) -> None:
    if len(samples) != len(values):
        raise DataError(f"there are {len(samples)} architectures and {len(values)} values")
    if len(samples) < FEWEST:
        raise DataError(f"a prediction needs at least {FEWEST} samples, and there are {len(samples)}; measure more")
    for sample, value in zip(samples, values.tolist(), strict=True):
        if not (np.isfinite(value) and value > 0):
            raise DataError(f"the sample {sample.key} has the value {value}; a cost is a number above 0; leave it out")
    if not 2 <= folds <= len(samples):
        raise ConfigurationError(f"must be from 2 to the number of samples, {len(samples)}, not {folds}", path="folds")
