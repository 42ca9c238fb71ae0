"""Sampling paths in spaces with ordered decisions, such as widths: widening ranges, and the sandwich rule."""

from __future__ import annotations

from automl_nas.errors import ConfigurationError
from automl_nas.space import Architecture, Ordinal, SearchSpace, sample
from automl_nas.streams import stream
from automl_nas_oneshot.paths.base import Paths, refuse_exclusions


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
        refuse_exclusions(space, "widen_epochs: a few open options may have no combination that is allowed; set 0")
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
        refuse_exclusions(space, "paths: the largest path or the smallest one may be excluded; set paths: uniform")
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
