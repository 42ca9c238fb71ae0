"""Sampling paths by their costs: among those that meet the constraints, or in intervals of one cost."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from automl_nas.errors import ConfigurationError, InfeasibleError, SpaceError, did_you_mean
from automl_nas.evaluation import CostInterval, CostSampler, TabulatedCost
from automl_nas.space import Architecture, Decision, sample
from automl_nas.strategy import Problem, parse_constraint
from automl_nas.streams import stream
from automl_nas_oneshot.paths.base import Paths

_SHARE_SAMPLES = 2000
"""Samples from which the share of feasible paths is estimated before the training."""


class FeasiblePaths(Paths):
    """Sample uniformly among the paths that meet the problem's constraints on costs.

    Constraints on additive costs are met by construction: paths are drawn exactly uniformly in the intervals, from the
    cost tables, all intervals at once (`CostSampler`). Only if there are too many distinct costs for that, the
    constraint that fewest paths meet is met by construction and the others by rejection. Constraints on costs that are
    not additive are met by rejection. The paths are exactly uniform in each case.

    Args:
        decisions: the decisions of the space.
        seed: the seed of the random stream.
        problem: the constraints.
        draws: the largest number of samples for one path.

    Raises:
        ConfigurationError: ``draws`` is less than 1.
        InfeasibleError: no path meets the constraints on additive costs.
    """

    def __init__(self, decisions: Mapping[str, Decision], seed: int, problem: Problem, draws: int) -> None:
        if draws < 1:
            raise ConfigurationError(f"max_draws must be at least 1, not {draws}", path="max_draws")
        self._decisions, self._seed, self._problem, self._draws = dict(decisions), seed, problem, draws
        limited = [each for each in problem.constraints if each.metric in problem.cost_models]
        intervals: list[CostInterval] = []
        for constraint in limited:
            model = problem.cost_models[constraint.metric]
            if isinstance(model, TabulatedCost) and model.table is not None:
                intervals.append(CostInterval(model.table, constraint.low, constraint.high))
        self._sampler: CostSampler | None = None
        met = len(intervals)
        if intervals:
            try:
                self._sampler = CostSampler(intervals)
            except SpaceError:
                met = 1
                self._sampler = CostSampler([min(intervals, key=lambda each: each.table.count(each.low, each.high))])
        self.exact = met == len(limited) and problem.exclusions is None
        """Whether every draw meets all constraints."""

    def __call__(self, count: int) -> Architecture:
        """Return the path of a pass.

        Raises:
            InfeasibleError: none of the samples is feasible.
        """
        rng = stream(self._seed, "path", count)
        smallest, constraint = float("inf"), ""
        for _ in range(self._draws):
            path = self._draw(rng)
            if self._problem.feasible(path):
                return path
            largest, text = max((value, text) for text, value in self._problem.violations(path).items())
            smallest, constraint = min((smallest, constraint), (largest, text))
        raise InfeasibleError(
            f"none of {self._draws} uniformly sampled paths meets the constraints; the best one violates "
            f"'{constraint}' by {smallest:.1%}; relax this constraint, increase max_draws, or set paths: uniform"
        )

    def check(self, passes: int) -> None:
        """Check that training can be expected to find a path for every pass.

        Args:
            passes: number of passes of the whole training.

        Raises:
            InfeasibleError: with the measured share of feasible samples, a pass without a path is likely (more than
                once in a hundred trainings).
        """
        if self.exact:
            return
        rng = stream(self._seed, "share of feasible paths")
        share = sum(self._problem.feasible(self._draw(rng)) for _ in range(_SHARE_SAMPLES)) / _SHARE_SAMPLES
        # The expected number of passes in which every sample is rejected.
        missing = passes * (1 - share) ** self._draws
        if missing > 0.01:
            needed = math.ceil(math.log(0.01 / passes) / math.log1p(-share)) if share else None
            way_out = f"set max_draws to {needed:,} or more, " if needed else ""
            raise InfeasibleError(
                f"{share:.2%} of {_SHARE_SAMPLES:,} samples meet all constraints on costs, so with max_draws "
                f"{self._draws:,} about {missing:,.2g} of {passes:,} training passes would find no path; {way_out}"
                "relax a constraint, or set paths: uniform"
            )

    def _draw(self, rng: random.Random) -> Architecture:
        return sample(self._decisions, rng) if self._sampler is None else self._sampler.sample(rng)


class BinnedPaths(Paths):
    """Draw one of several intervals of an additive cost uniformly, then a path exactly uniformly inside it.

    So cheap, medium and expensive networks are trained equally often, however rare they are. The authors' code for
    ImageNet trains with FLOPs from 290M to 360M in bins of 10M (github.com/megvii-model/SinglePathOneShot); it draws
    paths until one is in the bin, 24.6 on average.

    Args:
        seed: the seed of the random stream.
        problem: has the cost model. Its constraints do not matter here.
        bins: cost -> intervals, written like constraints (``290M..300M``, ``<= 0.5 * largest``); one cost.

    Raises:
        ConfigurationError: there is not exactly one cost, the problem has no such cost, it is not additive, or an
            interval cannot be read.
        InfeasibleError: an interval has no path; the message names the nearest costs.
    """

    def __init__(self, seed: int, problem: Problem, bins: Mapping[str, Sequence[str]]) -> None:
        if len(bins) != 1:
            raise ConfigurationError(
                f"needs one cost with its intervals, such as {{flops: [290M..300M, 300M..310M]}}, not {len(bins)}",
                path="bins",
            )
        ((name, texts),) = bins.items()
        model = problem.cost_models.get(name)
        if model is None:
            hint = did_you_mean(name, problem.cost_models) if problem.cost_models else "; it has none"
            raise ConfigurationError(
                f"the problem has no cost '{name}'{hint}; add it to problem.costs", path=f"bins.{name}"
            )
        if not isinstance(model, TabulatedCost) or model.table is None:
            reason = model.reason if isinstance(model, TabulatedCost) else "it has no table"
            raise ConfigurationError(
                f"paths are drawn from the cost table, and the cost has none ({reason}); set paths: feasible, with a "
                "constraint on the cost",
                path=f"bins.{name}",
            )
        if not texts:
            raise ConfigurationError("needs at least one interval, such as 290M..300M", path=f"bins.{name}")
        extremes = model.extremes()
        self._seed, self._samplers = seed, []
        for place, text in enumerate(texts):
            try:
                limits = parse_constraint(name, text, lambda: (extremes.smallest_value, extremes.largest_value))
                self._samplers.append(CostSampler([CostInterval(model.table, limits.low, limits.high)]))
            except ConfigurationError as error:
                raise ConfigurationError(error.message, path=f"bins.{name}[{place}]") from None
            except InfeasibleError as error:
                raise InfeasibleError(f"bins.{name}[{place}]: {error}") from None

    def __call__(self, count: int) -> Architecture:
        """Return the path of a pass."""
        rng = stream(self._seed, "path", count)
        return self._samplers[rng.randrange(len(self._samplers))].sample(rng)
