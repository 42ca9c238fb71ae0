"""A strategy that begins a search with the uniformly narrower networks of a space."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, TypeAlias, cast, final

from automl_nas.errors import ConfigurationError
from automl_nas.space import Architecture, Ordinal, SearchSpace
from automl_nas.strategy import AskTellStrategy, Preparation, Problem, Proposal, Trial

_NAMES = ("*.width", "*.heads", "*.groups")

Widths: TypeAlias = Mapping[str, Sequence[float]]
"""Name of a decision -> its options, ascending."""


@final
class NarrowedFirst(AskTellStrategy):
    """Propose the uniformly narrower networks under the constraints first, then what another strategy proposes.

    In a uniformly narrower network each width is the same share of the largest one, as far as its options allow, and
    everything else has its largest option. The largest share under the constraints leaves room where options are far
    apart; so there are three such networks, which use it in different ways: widths are increased by one option each, as
    long as the constraints allow, beginning with those nearest to the input, with those nearest to the output, or with
    those that are furthest below the share.

    Args:
        space: the search space.
        problem: its constraints on costs are checked.
        strategy: the strategy that goes on; it learns from the trials of these networks, too.
        widths: patterns of the names of decisions; null: ``*.width``, ``*.heads`` and ``*.groups``, the names of
            `from_model`. If no decision has one of these, there are no narrower networks.

    Raises:
        ConfigurationError: no decision has a name like the given patterns, or one that has it is not a choice among
            ordered numbers.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        strategy: AskTellStrategy,
        widths: list[str] | None = None,
    ) -> None:
        self._space, self._inner = space, strategy
        self._widths, self._problem = _options(space, widths), problem
        self._first: list[Architecture] | None = None
        self._asked = 0

    def prepare(self) -> Preparation | None:
        """Prepare the other strategy."""
        return self._inner.prepare()

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates: those of the other strategy once the narrower networks are proposed."""
        if self._first is None:
            self._first = _narrower(self._space, self._problem, self._widths)
        proposals = [
            Proposal(architecture, info={"origin": "narrower"})
            for architecture in self._first[self._asked : self._asked + n]
        ]
        self._asked += len(proposals)
        if len(proposals) < n:
            proposals += self._inner.ask(n - len(proposals))
        return proposals

    def tell(self, trials: Sequence[Trial]) -> None:
        """Pass trials on."""
        self._inner.tell(trials)

    def search_state(self) -> dict[str, Any]:
        """Return how many narrower networks were proposed, and the other strategy's state."""
        return {"asked": self._asked, "inner": self._inner.search_state()}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `search_state` returned."""
        self._asked = state["asked"]
        self._inner.load_search_state(state["inner"])


def _options(space: SearchSpace, patterns: Sequence[str] | None) -> Widths:
    widths: dict[str, Sequence[float]] = {}
    names = _NAMES if patterns is None else patterns
    for name, decision in space.decisions.items():
        if any(fnmatchcase(name, pattern) for pattern in names):
            if not isinstance(decision, Ordinal) or not all(isinstance(each, int | float) for each in decision.options):
                raise ConfigurationError(f"'{name}' is not a choice among ordered numbers", path="widths")
            widths[name] = sorted(cast("Sequence[float]", decision.options))
    if not widths and patterns is not None:
        raise ConfigurationError(
            f"no decision of the space has a name like {' or '.join(patterns)}; name those that are widths",
            path="widths",
        )
    return widths


def _narrower(space: SearchSpace, problem: Problem, widths: Widths) -> list[Architecture]:
    """Return the largest uniformly narrower networks under the constraints, without those that are equal."""
    if not widths:
        return []
    others = {
        name: decision.options[-1 if isinstance(decision, Ordinal) else 0]
        for name, decision in space.decisions.items()
        if name not in widths
    }

    def feasible(values: Mapping[str, float]) -> bool:
        return problem.feasible(space.validate({**others, **values}))

    shares = sorted({option / options[-1] for options in widths.values() for option in options}, reverse=True)
    for share in shares:
        values = {name: _largest(options, share * options[-1]) for name, options in widths.items()}
        if feasible(values):
            names = list(widths)
            by_ratio = sorted(names, key=lambda name: values[name] / (share * widths[name][-1]))
            filled = [_filled(values, widths, order, feasible) for order in (names, names[::-1], by_ratio)]
            architectures = [space.validate({**others, **each}) for each in filled]
            return list({space.canonical(each): each for each in architectures}.values())
    return []


def _largest(options: Sequence[float], most: float) -> float:
    return max((each for each in options if each <= most), default=options[0])


def _filled(
    values: Mapping[str, float],
    widths: Widths,
    order: Sequence[str],
    feasible: Callable[[Mapping[str, float]], bool],
) -> dict[str, float]:
    """Return the values after each width was increased by one option, in an order, if the constraints allow it."""
    filled = dict(values)
    for name in order:
        larger = [each for each in widths[name] if each > filled[name]]
        if larger and feasible(filled | {name: larger[0]}):
            filled[name] = larger[0]
    return filled
