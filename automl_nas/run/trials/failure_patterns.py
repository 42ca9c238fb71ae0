"""Which options failed trials have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TypeAlias

from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Scalar
from automl_nas.space.exclusions import describe_combination
from automl_nas.strategy.trial import Trial

Taken: TypeAlias = tuple[str, type, Scalar]
"""Decision, type of the option (1 and True are two options), option."""

FEWEST = 3
"""The smallest number of failed trials, and of complete ones, from which something is concluded."""


def failure_pattern(trials: Sequence[Trial]) -> str:
    """Return the option, or else the pair of options, that all failed trials have and no complete trial has.

    Args:
        trials: of one stage.

    Returns:
        A sentence with the way out; an empty string if that is true for no option and no pair, or for several, or if
        fewer than `FEWEST` trials failed, or fewer are complete.
    """
    failed, complete = ([trial for trial in trials if trial.state is each] for each in (State.FAILED, State.COMPLETE))
    if min(len(failed), len(complete)) < FEWEST:
        return ""
    shared = set.intersection(*(set(_taken(trial)) for trial in failed))
    common = [item for item in _taken(failed[0]) if item in shared]
    healthy = [set(_taken(trial)) for trial in complete]
    for count in (1, 2):
        possible = [group for group in combinations(common, count) if not any(own.issuperset(group) for own in healthy)]
        if possible:
            return _describe(possible[0], len(failed), len(complete)) if len(possible) == 1 else ""
    return ""


def _describe(group: Sequence[Taken], failed: int, complete: int) -> str:
    options: dict[str, tuple[Scalar, ...]] = {}
    for name, _, option in group:
        options[name] = (*options.get(name, ()), option)
    way_out = (
        "correct or remove this option"
        if len(options) == 1
        else "if they exclude each other, the space can exclude them (exclude= of ModuleSpace, SearchSpace.excluded)"
    )
    return (
        f"all {failed} failed trials have {describe_combination(options, 'and')}, and none of the {complete} complete "
        f"ones has: {way_out}"
    )


def _taken(trial: Trial) -> Iterator[Taken]:
    for name, value in trial.architecture.items():
        for option in value if isinstance(value, tuple) else (value,):
            yield name, type(option), option
