"""Deriving networks: the architectures with the highest sum of log-probabilities among those that meet all limits."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation import CostInterval, CostModel, CostTable, NotAdditiveError, TabulatedCost
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import Constraint, Problem
from automl_nas_gradient.deriving.expected import GroupedExpectation
from automl_nas_gradient.deriving.items import make_items
from automl_nas_gradient.deriving.ranked import in_order, k_best_under_limits


@dataclass(frozen=True)
class DeriveSettings:
    """How networks are derived from probabilities.

    Attributes:
        method: ``exact``: the best sum of log-probabilities under all limits on costs, for additive costs;
            ``in_order``: architectures in the order of falling probability, until one meets all limits, for any cost.
        top: the number of networks in the list of the most probable ones; the first one is the result.
        exclude: options that no derived network has, such as ``none``, although they are among the probabilities.
        most_candidates: the largest number of architectures that ``in_order`` looks at.

    Raises:
        ConfigurationError: a number is below 1.
    """

    method: Literal["exact", "in_order"] = "exact"
    top: int = 1
    exclude: tuple[str, ...] = ()
    most_candidates: int = 10_000

    def __post_init__(self) -> None:
        for name in ("top", "most_candidates"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"must be at least 1, not {getattr(self, name)}", path=name)


@dataclass(frozen=True)
class Derived:
    """A derived network.

    Attributes:
        architecture: the network.
        log_probability: the sum of the log-probabilities of its options, without decisions that make no difference.
        exact: whether no feasible architecture has a higher sum.
    """

    architecture: Architecture
    log_probability: float
    exact: bool


@final
class Deriver:
    """Derives networks of a space.

    Args:
        space: the space.
        problem: its limits on costs are met by every derived network.
        settings: how networks are derived.

    Raises:
        ConfigurationError: ``exact`` is not possible for a cost with a limit; the message contains the alternative.
        InfeasibleError: no architecture meets all limits.
    """

    def __init__(self, space: SearchSpace, problem: Problem, settings: DeriveSettings) -> None:
        self._space, self._problem, self._settings = space, problem, settings
        self._items = make_items(space, settings.exclude, top=settings.top)
        self._tables: dict[str, CostTable] = {}
        self._limits = self._make_limits() if settings.method == "exact" else []
        # The limits alone, whatever the probabilities: that nothing meets them is an error before the training.
        if self._limits:
            self({name: [0.0] * len(decision.options) for name, decision in space.decisions.items()})

    def __call__(self, log_probabilities: Mapping[str, Sequence[float]]) -> list[Derived]:
        """Return the ``top`` best architectures, the best one first.

        Args:
            log_probabilities: decision -> contribution of each option to the score.

        Raises:
            InfeasibleError: none meets the limits (``in_order``: none of ``most_candidates``).
        """
        scores = self._items.scores(log_probabilities)
        if self._settings.method == "in_order":
            return self._in_order(scores)
        optima = k_best_under_limits(self._items.decisions, scores, self._limits, self._settings.top)
        return [Derived(self._items.architecture(each.architecture), each.score, each.exact) for each in optima]

    def expectation(self, metric: str) -> GroupedExpectation:
        """Return the expectation of a cost over the derived networks of a `GroupedSpace`.

        Args:
            metric: the name of a cost of the problem.

        Raises:
            NotAdditiveError: the cost is not a sum over the parts, or it is measured.
        """
        assert self._items.values is not None
        tabulated = self._tabulated(self._problem.cost_models[metric])
        if tabulated.noisy:
            raise NotAdditiveError(tabulated.reason)
        return GroupedExpectation(self._space.decisions, self._items.values, self._table(metric, tabulated))

    def _tabulated(self, model: CostModel) -> TabulatedCost:
        return model if isinstance(model, TabulatedCost) else TabulatedCost(model, self._space)

    def _table(self, metric: str, tabulated: TabulatedCost) -> CostTable:
        """Return the table of a cost over the parts, made once."""
        if metric not in self._tables:
            self._tables[metric] = self._items.table(tabulated.model)
        return self._tables[metric]

    def _in_order(self, scores: Mapping[str, Sequence[float]]) -> list[Derived]:
        results: list[Derived] = []
        candidates = in_order(self._items.decisions, scores)
        for score, chosen in itertools.islice(candidates, self._settings.most_candidates):
            architecture = self._items.architecture(chosen)
            if self._problem.feasible(architecture):
                results.append(Derived(architecture, score, True))
                if len(results) == self._settings.top:
                    break
        if not results:
            limits = " and ".join(f"'{each.metric} {each.text}'" for each in self._problem.constraints)
            raise InfeasibleError(
                f"none of the {self._settings.most_candidates:,} most probable architectures meets {limits}; relax a "
                "limit, raise derive.most_candidates, or set cost, so that cheap options become more probable"
            )
        return results

    def _make_limits(self) -> list[CostInterval]:
        limits: list[CostInterval] = []
        for constraint in self._problem.constraints:
            model = self._problem.cost_models.get(constraint.metric)
            if model is None:
                continue  # a metric, which is known after the evaluation only
            limits.append(self._interval(self._tabulated(model), constraint))
        return limits

    def _interval(self, tabulated: TabulatedCost, constraint: Constraint) -> CostInterval:
        reason = tabulated.reason if self._items.values is None or tabulated.noisy else ""
        if not reason:
            try:
                table = tabulated.table if self._items.values is None else self._table(constraint.metric, tabulated)
                assert table is not None
                return CostInterval(table, constraint.low, constraint.high)
            except NotAdditiveError as error:
                reason = str(error)
        raise ConfigurationError(
            f"the most probable network under the limit '{constraint.metric} {constraint.text}' cannot be computed "
            f"exactly ({reason}); set derive: "
            "{method: in_order}, which looks at architectures in the order of their probability until one meets all "
            "limits",
            path="derive.method",
        )
