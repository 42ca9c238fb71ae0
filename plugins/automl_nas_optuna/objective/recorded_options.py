"""The options with which a study was begun, as an attribute of the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from optuna.distributions import BaseDistribution, check_distribution_compatibility

from automl_nas.errors import SpaceError
from automl_nas.space import SearchSpace

if TYPE_CHECKING:
    from optuna.study import Study

OPTIONS: Final = "automl_nas:options"
"""Attribute of a study: decision -> its options."""

ARCHITECTURE: Final = "automl_nas:architecture"
"""Attribute of a trial: its architecture."""

_checked: WeakKeyDictionary[Study, Mapping[str, list[Any]]] = WeakKeyDictionary()
"""What this process has recorded or compared, so that a trial does not read the study's attributes again."""


def record_options(study: Study, space: SearchSpace, distributions: Mapping[str, BaseDistribution]) -> None:
    """Record the options of a space in a study; compare them with those that the study was begun with.

    Numbers in equal steps may change, since Optuna supports other ranges of a parameter in later trials.

    Args:
        study: whose trials have architectures of the space.
        space: the search space.
        distributions: of all parameters of the space.

    Raises:
        SpaceError: options changed that Optuna cannot change within a study.
    """
    options = {name: list(decision.options) for name, decision in space.decisions.items()}
    if _checked.get(study) == options:
        return
    recorded = study.user_attrs.get(OPTIONS)
    if recorded != options:
        _check_parameters(study, distributions)
        study.set_user_attr(OPTIONS, options)
    _checked[study] = options


def _check_parameters(study: Study, distributions: Mapping[str, BaseDistribution]) -> None:
    """Compare distributions with those of the study's trials, of which Optuna accepts compatible ones only."""
    recorded: dict[str, BaseDistribution] = {}
    for trial in study.get_trials(deepcopy=False):
        recorded |= trial.distributions
    for name, distribution in distributions.items():
        if name in recorded:
            try:
                check_distribution_compatibility(recorded[name], distribution)
            except ValueError as error:
                raise SpaceError(
                    f"the study '{study.study_name}' has trials whose parameter '{name}' is {recorded[name]}, and the "
                    f"space needs {distribution}, which Optuna does not support in one study; create a new study, and "
                    "take over the trials that fit: study.add_trials(adapted_trials(old_study.trials, space)), from "
                    "automl_nas_optuna"
                ) from error
