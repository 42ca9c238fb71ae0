"""Samplers of third parties, named by their class in the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class Cyclic(BaseSampler):
    """Goes through the options in turn, from a random first one; counts finished trials, so it needs no memory."""

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
        place = self._rng.randint(2) + self._stride * len(study.get_trials(deepcopy=False))
        return param_distribution.choices[place % len(param_distribution.choices)]


class Absorbed(Cyclic):
    """Keeps a count of the process in the class: neither seed nor trials say what it proposes."""

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
