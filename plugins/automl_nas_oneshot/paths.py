"""Drawing the paths that a supernet is trained on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.space import Architecture, Choice, Decision, Ordinal, sample
from automl_nas.strategy import Problem
from automl_nas.streams import stream


class Paths(ABC):
    """A sequence of paths, each a function of (seed, its number): the same on every process, and after a resume.

    Attributes:
        passes: how many consecutive paths share a batch and an update.
    """

    passes: int = 1

    @abstractmethod
    def __call__(self, count: int) -> Architecture:
        """Return the path of pass number ``count``, counted from 0."""


class UniformPaths(Paths):
    """Every decision uniformly and independently (SPOS, section 3.3).

    Args:
        decisions: of the space.
        seed: of the stream.
    """

    def __init__(self, decisions: Mapping[str, Decision], seed: int) -> None:
        self._decisions, self._seed = dict(decisions), seed

    def __call__(self, count: int) -> Architecture:
        """Return the path of a pass."""
        return sample(self._decisions, stream(self._seed, "path", count))


class WideningPaths(Paths):
    """Uniformly among what is open: of an `Ordinal` the last option at first, then one after the other.

    Wide networks are trained before narrow ones, which use a part of their weights (progressive shrinking: Cai et al.
    2020, arXiv 1908.09791). Of k options ``1 + (k - 1) t // n`` are open at pass t; from pass n on all are, and paths
    are those of `UniformPaths`.

    Args:
        decisions: of the space.
        seed: of the stream.
        passes: n, until everything is open.

    Raises:
        ConfigurationError: no decision is ordered.
    """

    def __init__(self, decisions: Mapping[str, Decision], seed: int, passes: int) -> None:
        self._decisions, self._seed, self._until = dict(decisions), seed, passes
        self._ordered = {name: each for name, each in decisions.items() if isinstance(each, Ordinal)}
        if not self._ordered:
            raise ConfigurationError(
                f"none of the decisions {', '.join(list(decisions)[:5])}, ... is ordered, so nothing can be widened; "
                "leave it out",
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


class FeasiblePaths(Paths):
    """Uniformly among the paths that meet the problem's constraints on costs, by rejection.

    Args:
        decisions: of the space.
        seed: of the stream.
        problem: whose constraints count.
        draws: the largest number of draws for one path.
    """

    def __init__(self, decisions: Mapping[str, Decision], seed: int, problem: Problem, draws: int) -> None:
        if draws < 1:
            raise ConfigurationError(f"max_draws must be at least 1, not {draws}", path="max_draws")
        self._decisions, self._seed, self._problem, self._draws = dict(decisions), seed, problem, draws

    def __call__(self, count: int) -> Architecture:
        """Return the path of a pass.

        Raises:
            InfeasibleError: none of the draws is feasible.
        """
        rng = stream(self._seed, "path", count)
        nearest, limit = float("inf"), ""
        for _ in range(self._draws):
            path = sample(self._decisions, rng)
            if self._problem.feasible(path):
                return path
            worst, text = max((miss, text) for text, miss in self._problem.violations(path).items())
            nearest, limit = min((nearest, limit), (worst, text))
        raise InfeasibleError(
            f"none of {self._draws} uniformly drawn paths meets the constraints; the nearest missed '{limit}' by "
            f"{nearest:.1%}; widen it, raise max_draws, or train with paths: uniform"
        )


class FairPaths(Paths):
    """Strict fairness (FairNAS, Chu et al. 2019, algorithm 1): m paths share a batch, each option is in exactly one.

    Every decision is a uniform permutation of its m options, independently of the others.

    Args:
        decisions: of the space; all a Choice with the same number of options.
        seed: of the stream.

    Raises:
        ConfigurationError: the decisions differ in their number of options, or one is a Subset.
    """

    def __init__(self, decisions: Mapping[str, Decision], seed: int) -> None:
        sizes = {name: decision.size for name, decision in decisions.items()}
        if len(set(sizes.values())) != 1 or not all(isinstance(decision, Choice) for decision in decisions.values()):
            raise ConfigurationError(
                f"fair sampling needs choices with one and the same number of options, not {sizes}; use paths: uniform",
                path="paths",
            )
        self._decisions, self._seed = dict(decisions), seed
        self.passes = next(iter(sizes.values()))

    def __call__(self, count: int) -> Architecture:
        """Return the path of a pass: the same place of every decision's permutation."""
        turn, place = divmod(count, self.passes)
        rng = stream(self._seed, "path", turn)
        return Architecture(
            {
                name: rng.sample(decision.options, len(decision.options))[place]
                for name, decision in self._decisions.items()
            }
        )
