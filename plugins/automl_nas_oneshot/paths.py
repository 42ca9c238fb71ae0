"""Sampling the paths on which a supernet is trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.space import Architecture, Choice, Decision, Ordinal, sample
from automl_nas.strategy import Problem
from automl_nas.streams import stream


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
    """Sample every decision uniformly and independently (SPOS, section 3.3).

    Args:
        decisions: the decisions of the space.
        seed: of the stream.
    """

    def __init__(self, decisions: Mapping[str, Decision], seed: int) -> None:
        self._decisions, self._seed = dict(decisions), seed

    def __call__(self, count: int) -> Architecture:
        """Return the path of a pass."""
        return sample(self._decisions, stream(self._seed, "path", count))


class WideningPaths(Paths):
    """Sample uniformly among the open options: of an `Ordinal` first the last option, then more and more.

    Wide networks are trained before narrow networks, which use a part of their weights (progressive shrinking, Cai et
    al. 2020, arXiv 1908.09791). Of k options, the last ``1 + (k - 1) t // n`` are open at pass t. From pass n on all
    options are open, and paths are those of `UniformPaths`.

    Args:
        decisions: the decisions of the space.
        seed: of the stream.
        passes: n, the number of passes until all options are open.

    Raises:
        ConfigurationError: no decision is an `Ordinal`.
    """

    def __init__(self, decisions: Mapping[str, Decision], seed: int, passes: int) -> None:
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


class FeasiblePaths(Paths):
    """Sample uniformly among the paths that meet the problem's constraints on costs, by rejection.

    Args:
        decisions: the decisions of the space.
        seed: of the stream.
        problem: the constraints.
        draws: the largest number of samples for one path.

    Raises:
        ConfigurationError: ``draws`` is less than 1.
    """

    def __init__(self, decisions: Mapping[str, Decision], seed: int, problem: Problem, draws: int) -> None:
        if draws < 1:
            raise ConfigurationError(f"max_draws must be at least 1, not {draws}", path="max_draws")
        self._decisions, self._seed, self._problem, self._draws = dict(decisions), seed, problem, draws

    def __call__(self, count: int) -> Architecture:
        """Return the path of a pass.

        Raises:
            InfeasibleError: none of the samples is feasible.
        """
        rng = stream(self._seed, "path", count)
        smallest, constraint = float("inf"), ""
        for _ in range(self._draws):
            path = sample(self._decisions, rng)
            if self._problem.feasible(path):
                return path
            largest, text = max((value, text) for text, value in self._problem.violations(path).items())
            smallest, constraint = min((smallest, constraint), (largest, text))
        raise InfeasibleError(
            f"none of {self._draws} uniformly sampled paths meets the constraints; the best one violates "
            f"'{constraint}' by {smallest:.1%}; relax this constraint, increase max_draws, or set paths: uniform"
        )


class FairPaths(Paths):
    """Strict fairness (FairNAS, Chu et al. 2019, algorithm 1): m paths share a batch, each option is in one of them.

    For every decision, a uniform permutation of its m options is sampled independently.

    Args:
        decisions: the decisions of the space; each a Choice with the same number m of options.
        seed: of the stream.

    Raises:
        ConfigurationError: the decisions have different numbers of options, or one is not a Choice.
    """

    def __init__(self, decisions: Mapping[str, Decision], seed: int) -> None:
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
