"""Sampling the paths on which a supernet is trained."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation import CostTable, TabulatedCost
from automl_nas.space import Architecture, Choice, Decision, Ordinal, SearchSpace, sample
from automl_nas.strategy import Constraint, Problem
from automl_nas.streams import stream

_SHARE_SAMPLES = 2000
"""Samples from which the share of feasible paths is estimated before the training."""


class Paths(ABC):
    """A sequence of paths, each a function of the seed and its number: the same on every process and after a resume.

    Attributes:
        passes: number of consecutive paths that share a batch and an update of the weights.
    """

    passes: int = 1

    @abstractmethod
    def __call__(self, count: int) -> Architecture:
        """Return the path of pass number ``count``, counted from 0."""


class UniformPaths(Paths):
    """Sample every decision uniformly and independently (SPOS, section 3.3); excluded paths are drawn again.

    Args:
        space: the space.
        seed: the seed of the random stream.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space, self._seed = space, seed

    def __call__(self, count: int) -> Architecture:
        """Return the path of a pass."""
        return self._space.sample(stream(self._seed, "path", count))


class WideningPaths(Paths):
    """Sample uniformly among the open options: of an `Ordinal` first the last option, then more and more.

    Wide networks are trained before narrow networks, which use a part of their weights (progressive shrinking, Cai et
    al. 2020, arXiv 1908.09791). Of k options, the last ``1 + (k - 1) t // n`` are open at pass t. From pass n on all
    options are open, and paths are those of `UniformPaths`.

    Args:
        space: the space.
        seed: the seed of the random stream.
        passes: n, the number of passes until all options are open.

    Raises:
        ConfigurationError: no decision is an `Ordinal`, or the space excludes combinations of options.
    """

    def __init__(self, space: SearchSpace, seed: int, passes: int) -> None:
        _refuse_exclusions(space, "widen_epochs: a few open options may have no combination that is allowed; set 0")
        decisions = space.decisions
        self._decisions, self._seed, self._until = dict(decisions), seed, passes
        self._ordered = {name: each for name, each in decisions.items() if isinstance(each, Ordinal)}
        if not self._ordered:
            raise ConfigurationError(
                f"none of the decisions {', '.join(list(decisions)[:5])}, ... is an Ordinal, so widen_epochs has no "
                "effect; remove it",
                path="widen_epochs",
            )

    def __call__(self, count: int) -> Architecture:
        """Return the path of a pass."""
        open_now = self._decisions
        if count < self._until:
            open_now = dict(open_now)
            for name, decision in self._ordered.items():
                number = 1 + (len(decision.options) - 1) * count // self._until
                open_now[name] = Ordinal(decision.options[-number:])
        return sample(open_now, stream(self._seed, "path", count))


class SandwichPaths(Paths):
    """The sandwich rule: the largest path, the smallest one and random ones share a batch (Yu & Huang 2019).

    The last option of each `Ordinal` is its largest and the first one its smallest; decisions of other kinds have no
    order and are sampled uniformly in every path. (arXiv 1903.05134, section 3.2; BigNAS, arXiv 2003.11142, trains
    supernets with it.)

    Args:
        space: the space.
        seed: the seed of the random stream.
        between: the number of random paths in each batch, at least 1.

    Raises:
        ConfigurationError: no decision is an `Ordinal`, ``between`` is less than 1, or the space excludes combinations
            of options.
    """

    def __init__(self, space: SearchSpace, seed: int, between: int) -> None:
        _refuse_exclusions(space, "paths: the largest path or the smallest one may be excluded; set paths: uniform")
        decisions = space.decisions
        if between < 1:
            raise ConfigurationError(f"must be at least 1, not {between}", path="sandwich_paths")
        ordered = {name: each for name, each in decisions.items() if isinstance(each, Ordinal)}
        if not ordered:
            raise ConfigurationError(
                f"none of the decisions {', '.join(list(decisions)[:5])}, ... is an Ordinal, so no path is the largest "
                "or the smallest; set paths: uniform or fair",
                path="paths",
            )
        self._seed, self.passes = seed, 2 + between
        largest = {name: Ordinal(each.options[-1:]) for name, each in ordered.items()}
        smallest = {name: Ordinal(each.options[:1]) for name, each in ordered.items()}
        # The first pass of a batch is the largest: in-place distillation makes it the teacher of the others.
        self._places = [{**decisions, **largest}, {**decisions, **smallest}, *[dict(decisions)] * between]

    def __call__(self, count: int) -> Architecture:
        """Return the path of a pass: the largest, the smallest, then random ones."""
        return sample(self._places[count % self.passes], stream(self._seed, "path", count))


class FeasiblePaths(Paths):
    """Sample uniformly among the paths that meet the problem's constraints on costs.

    The constraint on an additive cost that fewest paths meet is met by construction: paths are drawn exactly uniformly
    in its interval, from the cost table. What other constraints there are is met by rejection.

    Args:
        decisions: the decisions of the space.
        seed: the seed of the random stream.
        problem: the constraints.
        draws: the largest number of samples for one path.

    Raises:
        ConfigurationError: ``draws`` is less than 1.
    """

    def __init__(self, decisions: Mapping[str, Decision], seed: int, problem: Problem, draws: int) -> None:
        if draws < 1:
            raise ConfigurationError(f"max_draws must be at least 1, not {draws}", path="max_draws")
        self._decisions, self._seed, self._problem, self._draws = dict(decisions), seed, problem, draws
        self._limited = [each for each in problem.constraints if each.metric in problem.cost_models]
        self._table, self._exact = self._tightest()

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
        if self._table is not None and len(self._limited) == 1:
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
        if self._table is None or self._exact is None:
            return sample(self._decisions, rng)
        return self._table.sample(rng, self._exact.low, self._exact.high)

    def _tightest(self) -> tuple[CostTable | None, Constraint | None]:
        tables: list[tuple[int, CostTable, Constraint]] = []
        for constraint in self._limited:
            model = self._problem.cost_models[constraint.metric]
            if isinstance(model, TabulatedCost) and model.table is not None:
                tables.append((model.table.count(constraint.low, constraint.high), model.table, constraint))
        if not tables:
            return None, None
        _, table, constraint = min(tables, key=lambda item: item[0])
        return table, constraint


class FairPaths(Paths):
    """Strict fairness (FairNAS, Chu et al. 2019, algorithm 1): m paths share a batch, each option is in one of them.

    For every decision, a uniform permutation of its m options is sampled independently.

    Args:
        space: the space; each decision is a Choice with the same number m of options.
        seed: the seed of the random stream.

    Raises:
        ConfigurationError: the decisions have different numbers of options, one is not a Choice, or the space excludes
            combinations of options.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        _refuse_exclusions(space, "paths: the m paths of a batch have all options in all combinations; set uniform")
        decisions = space.decisions
        sizes = {name: decision.size for name, decision in decisions.items()}
        if len(set(sizes.values())) != 1 or not all(isinstance(decision, Choice) for decision in decisions.values()):
            raise ConfigurationError(
                f"fair sampling needs Choice decisions with equal numbers of options, not {sizes}; set paths: uniform",
                path="paths",
            )
        self._decisions, self._seed = dict(decisions), seed
        self.passes = next(iter(sizes.values()))

    def __call__(self, count: int) -> Architecture:
        """Return the path of a pass: the option at the same position of each decision's permutation."""
        turn, place = divmod(count, self.passes)
        rng = stream(self._seed, "path", turn)
        return Architecture(
            {
                name: rng.sample(decision.options, len(decision.options))[place]
                for name, decision in self._decisions.items()
            }
        )


def _refuse_exclusions(space: SearchSpace, reason: str) -> None:
    setting, _, text = reason.partition(": ")
    if space.exclusions:
        raise ConfigurationError(f"the space excludes combinations of options, and {text}", path=setting)
