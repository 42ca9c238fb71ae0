"""Samplers of a third party, which tests configure by their class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class Cyclic(BaseSampler):
    """Cycles through the options from a random one. It has no state: it counts the trials of the study."""

    def __init__(self, *, stride: int = 1, seed: int | None = None) -> None:
        self._stride, self._rng = stride, np.random.RandomState(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        assert isinstance(param_distribution, CategoricalDistribution)
        position = self._rng.randint(2) + self._stride * len(study.get_trials(deepcopy=False))
        return param_distribution.choices[position % len(param_distribution.choices)]


class Absorbed(Cyclic):
    """Counts its calls in the class, so its proposals depend on more than the seed and the trials."""

    calls = 0

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        Absorbed.calls += 1
        assert isinstance(param_distribution, CategoricalDistribution)
        return param_distribution.choices[Absorbed.calls % len(param_distribution.choices)]

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None: ...
