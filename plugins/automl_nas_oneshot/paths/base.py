"""Sampling the paths on which a supernet is trained: uniformly, or fairly."""

from __future__ import annotations

from abc import ABC, abstractmethod

from automl_nas.errors import ConfigurationError
from automl_nas.space import Architecture, Choice, SearchSpace
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
        refuse_exclusions(space, "paths: the m paths of a batch have all options in all combinations; set uniform")
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


def refuse_exclusions(space: SearchSpace, reason: str) -> None:
    """Refuse a space that excludes combinations of options.

    Args:
        space: the space.
        reason: the name of the setting, a colon, and why and what to set instead.

    Raises:
        ConfigurationError: the space has exclusions.
    """
    setting, _, text = reason.partition(": ")
    if space.exclusions:
        raise ConfigurationError(f"the space excludes combinations of options, and {text}", path=setting)
