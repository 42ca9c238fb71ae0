"""`adapted_trials`: the trials of a study for a new study whose space has other options."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from automl_nas.space import SearchSpace, Subset
from automl_nas_optuna.objective.recorded_options import ARCHITECTURE
from automl_nas_optuna.objective.suggesting import architecture_of, distributions_of, parameters_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_log = logging.getLogger("automl_nas")


def adapted_trials(trials: Iterable[FrozenTrial], space: SearchSpace) -> list[FrozenTrial]:
    """Return the trials whose architecture is in a space, with the parameters that `suggest` uses for this space.

    Trials that do not fit are left out, with one warning that counts them. Parameters of other names, values,
    attributes and times are kept, and the arguments are not changed.

    Args:
        trials: finished trials of a study whose objective used `suggest`, perhaps with other options.
        space: the search space of the new study.
    """
    adapted: list[FrozenTrial] = []
    trials, distributions = list(trials), distributions_of(space)
    warn_of_skipped(trials, space)
    for trial in trials:
        architecture = architecture_of(trial, space)
        if architecture is None:
            continue
        own = parameters_of(architecture, space)
        others = {name for name in trial.params if not _is_decision(name, space)}
        result = copy.deepcopy(trial)
        result.distributions = {name: trial.distributions[name] for name in trial.params if name in others}
        result.distributions |= {name: distributions[name] for name in own}
        result.params = {**{name: trial.params[name] for name in trial.params if name in others}, **own}
        result.set_user_attr(ARCHITECTURE, architecture.to_dict())
        adapted.append(result)
    return adapted


def warn_of_skipped(trials: Sequence[FrozenTrial], space: SearchSpace) -> None:
    """Log one warning that counts the trials whose architecture is not in the space.

    Trials that ended before they suggested an architecture are not counted.

    Args:
        trials: finished trials.
        space: the search space.
    """
    decisions = {name for name, decision in space.decisions.items() if not isinstance(decision, Subset)}
    skipped = [
        trial
        for trial in trials
        if (ARCHITECTURE in trial.user_attrs or (decisions and trial.params.keys() >= decisions))
        and architecture_of(trial, space) is None
    ]
    if skipped:
        _log.warning(
            "%d of %d trials are skipped: their architectures are not in the space, whose decisions or options changed "
            "(the first is trial %d: %s)",
            len(skipped),
            len(trials),
            skipped[0].number,
            skipped[0].user_attrs.get(ARCHITECTURE, skipped[0].params),
        )


def _is_decision(parameter: str, space: SearchSpace) -> bool:
    """Return whether a parameter belongs to a decision, also if the decision had other options."""
    return any(parameter == name or parameter.startswith(f"{name}[") for name in space.decisions)
