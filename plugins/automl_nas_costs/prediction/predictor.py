"""Predicting a cost from samples: `Predictor`, whose regressor is chosen by cross-validation."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from automl_nas.blas_threads import one_blas_thread
from automl_nas.errors import ConfigurationError, DataError, SpaceError
from automl_nas.space import Architecture, SearchSpace, Subset, decode
from automl_nas.streams import stream_seed
from automl_nas_costs.blocks.counts import BlockCounts
from automl_nas_costs.blocks.sums import BlockSums
from automl_nas_costs.prediction.accuracy import Accuracy, criterion, selected_accuracy
from automl_nas_costs.prediction.features import CODINGS, Array, CodingName, OptionFeatures, reducers
from automl_nas_costs.prediction.regressors import AdditiveRegressor, BlockProcess, GaussianProcess, Regressor

ModelName: TypeAlias = Literal["auto", "additive", "gaussian_process", "blocks"]
"""The regressors that are tried: all, or one kind."""

Kind: TypeAlias = Literal["least_squares", "ridge", "gaussian_process", "blocks"]

FEWEST = 10
"""With fewer samples a fold of the cross-validation has a single one, and the choice is random."""

_CACHED = 1 << 16
_RESOLUTION = 1e-12  # far above rounding in sums of hundreds of doubles, far below what is verified of tables


@final
@dataclass(frozen=True)
class RegressorCandidate:
    """A regressor and its features.

    Attributes:
        kind: ``least_squares``, ``ridge`` (both additive), ``gaussian_process`` or ``blocks`` (`BlockProcess`).
        coding: of the architectures; always ``raw`` for blocks, whose counts depend on decisions with an effect only.
    """

    kind: Kind
    coding: CodingName = "raw"

    @property
    def name(self) -> str:
        """Its name in messages, e.g. ``gaussian_process, used``."""
        return self.kind if self.kind == "blocks" else f"{self.kind}, {self.coding}"

    @property
    def additive(self) -> bool:
        """Whether it predicts a sum over the options of the coding."""
        return self.kind in ("least_squares", "ridge")


@final
class Predictor:
    """Predicts a cost from the architecture alone, which takes microseconds.

    Every candidate, a regressor on one coding of the architectures (`CodingName`) or on the blocks of their networks,
    is cross-validated on the samples; the one of the smallest `criterion` is fitted to all of them. Codings that are
    the same on all samples are tried once.

    Args:
        space: of the architectures.
        architectures: the samples.
        values: their costs, above 0.
        model: the regressors that are tried.
        counts: whether networks may be split into blocks of which multiply-adds, memory access and so on are
            counted, where that is possible.
        folds: of the cross-validation.
        seed: of the folds.

    Raises:
        DataError: there are too few samples, or a value is not a positive number.
        ConfigurationError: fewer than two folds, or more than samples; ``model`` is ``blocks`` and the space has none.
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
        costs = np.asarray(values, dtype=np.float64)
        _check(samples, costs, folds)
        self._quantum = _RESOLUTION * float(np.abs(costs).max())
        self._options = OptionFeatures(space)
        self._blocks = _block_counts(space, model, counts)
        self._reduced = reducers(space)
        candidates = self._candidates(samples, model)
        order = np.random.default_rng(stream_seed(seed, "prediction/folds")).permutation(len(samples))
        parts = np.array_split(order, folds)
        fitted: dict[str, Regressor] = {}
        held_out: dict[str, Array] = {}
        for candidate in candidates:
            features = self._features(candidate, samples)
            with one_blas_thread():
                regressor = fitted[candidate.name] = self._regressor_of(candidate).fit(features, costs)
                held_out[candidate.name] = self._resolved(_held_out(regressor, features, costs, parts))
        self.scores = {name: criterion(predicted, costs) for name, predicted in held_out.items()}
        names = [candidate.name for candidate in candidates]
        self.chosen = min(candidates, key=lambda candidate: self.scores[candidate.name])
        self.accuracy: Accuracy = selected_accuracy(held_out, costs, names, seed)
        self._regressor = fitted[self.chosen.name]
        self._sums = self._block_sums(self._regressor)
        self._cache: dict[Architecture, float] = {}
        looked_up = space.decisions.keys() if self._sums is None else self._sums[1].decisions
        subsets = any(isinstance(decision, Subset) for decision in space.decisions.values())
        self._looks_up_all = looked_up == space.decisions.keys() and not subsets

    def _candidates(self, samples: Sequence[Architecture], model: ModelName) -> list[RegressorCandidate]:
        codings: list[CodingName] = []
        seen: list[list[Architecture]] = []
        for coding in CODINGS:
            reduced = [self._reduced[coding](sample) for sample in samples]
            if reduced not in seen:
                seen.append(reduced)
                codings.append(coding)
        # Simpler ones first: of candidates with equal scores the first is chosen.
        candidates: list[RegressorCandidate] = []
        if model in ("auto", "additive"):
            candidates += [RegressorCandidate("least_squares", coding) for coding in codings]
            candidates += [RegressorCandidate("ridge", coding) for coding in codings]
        if self._blocks is not None:
            candidates.append(RegressorCandidate("blocks"))
        if model in ("auto", "gaussian_process"):
            candidates += [RegressorCandidate("gaussian_process", coding) for coding in codings]
        return candidates

    def _regressor_of(self, candidate: RegressorCandidate) -> Regressor:
        """Return a new regressor, not yet fitted."""
        if candidate.kind == "blocks":
            assert self._blocks is not None
            return BlockProcess(self._blocks.counted)
        return AdditiveRegressor(ridge=candidate.kind == "ridge") if candidate.additive else GaussianProcess()

    def _features(self, candidate: RegressorCandidate, architectures: Sequence[Architecture]) -> Array:
        if candidate.kind == "blocks":
            assert self._blocks is not None
            return self._blocks(architectures)
        reduce = self._reduced[candidate.coding]
        features = self._options([reduce(architecture) for architecture in architectures])
        return features[:, : self._options.additive_width] if candidate.additive else features

    def _block_sums(self, regressor: Regressor) -> tuple[float, BlockSums] | None:
        """Return the constant and the costs of blocks by a fitted `BlockProcess`; None for another regressor."""
        if not isinstance(regressor, BlockProcess):
            return None
        assert self._blocks is not None
        constant, costs = regressor.coefficients
        values = dict(zip(self._blocks.keys, costs.tolist(), strict=True))
        return constant, BlockSums(self._blocks.structure, values)

    def _resolved(self, predicted: Array) -> Array:
        # Sums that differ by rounding alone become equal: otherwise equal costs would be ranked at random.
        resolved: Array = np.maximum(np.round(predicted / self._quantum) * self._quantum, 0.0)
        return resolved

    def predict(self, architectures: Sequence[Architecture]) -> Array:
        """Return the predicted costs, shape ``(n,)``, at least 0."""
        if self._sums is not None:
            constant, sums = self._sums
            return self._resolved(constant + np.array([sums(item) for item in architectures], dtype=np.float64))
        return self._resolved(self._regressor.predict(self._features(self.chosen, architectures)))

    def estimate(self, architecture: Architecture) -> float:
        """Return the predicted cost of one architecture.

        Raises:
            SpaceError: the architecture is not of the space.
        """
        cost = self._cache.get(architecture)
        if cost is None:
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            cost = self._cache[architecture] = self._estimate(architecture)
        return cost

    def breakdown(self, architecture: Architecture) -> dict[str, float]:
        """Return the whole cost under the empty path, that of the network: a regressor does not divide it."""
        return {"": self.estimate(architecture)}

    def _estimate(self, architecture: Architecture) -> float:
        # Looking up every decision raises an error for a wrong value; validating all of them first takes twice as long.
        if self._looks_up_all and len(architecture) == len(self._space.decisions):
            with contextlib.suppress(SpaceError, KeyError):
                return float(self.predict([architecture])[0])
        return float(self.predict([self._space.validate(architecture)])[0])

    def estimates(self, codes: NDArray[Any]) -> Array:
        """Return the predicted costs for the codes of architectures (`CostTable.encode`), shape ``(n,)``."""
        codes = np.asarray(codes)
        if self._sums is not None:
            constant, sums = self._sums
            return self._resolved(constant + sums.of_codes(codes))
        if self.chosen.coding == "raw":
            features = self._options.of_codes(codes)
            if self.chosen.additive:
                features = features[:, : self._options.additive_width]
            return self._resolved(self._regressor.predict(features))
        return self.predict([decode(code, self._space.decisions) for code in codes.tolist()])


def _block_counts(space: SearchSpace, model: ModelName, counts: bool) -> BlockCounts | None:
    """Return the counts of blocks; None if they are not used or the space has no blocks."""
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


def _held_out(fitted: Regressor, features: Array, costs: Array, folds: Sequence[NDArray[Any]]) -> Array:
    """Return the prediction of each sample by a regressor fitted to the samples of the other folds."""
    predicted = np.empty(len(costs))
    everything = np.arange(len(costs))
    for fold in folds:
        rest = np.setdiff1d(everything, fold)
        predicted[fold] = fitted.again().fit(features[rest], costs[rest]).predict(features[fold])
    return predicted


def _check(samples: Sequence[Architecture], values: Array, folds: int) -> None:
    if len(samples) != len(values):
        raise DataError(f"there are {len(samples)} architectures and {len(values)} values")
    if len(samples) < FEWEST:
        raise DataError(f"a prediction needs at least {FEWEST} samples, not {len(samples)}; measure more")
    for sample, value in zip(samples, values.tolist(), strict=True):
        if not (np.isfinite(value) and value > 0):
            raise DataError(f"the sample {sample.key} has the value {value}; a cost is a number above 0; leave it out")
    if not 2 <= folds <= len(samples):
        raise ConfigurationError(f"must be from 2 to the number of samples, {len(samples)}, not {folds}", path="folds")
