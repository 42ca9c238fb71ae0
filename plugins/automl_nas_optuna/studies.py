"""Studies in memory that can be read back without executing anything."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, final

from optuna.distributions import BaseDistribution
from optuna.pruners import NopPruner
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import Trial, TrialState, create_trial

_NAME = "automl_nas"


def new_study(directions: Sequence[Literal["maximize", "minimize"]], sampler: BaseSampler) -> MemoryStudy:
    """Return an empty study in memory."""
    storage = InMemoryStorage()
    # "A new study created in memory" is no news to anybody.
    logger = logging.getLogger("optuna.storages._in_memory")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        storage.create_new_study([StudyDirection[way.upper()] for way in directions], _NAME)
    finally:
        logger.setLevel(level)
    return MemoryStudy(storage, sampler, tuple(directions))


@final
class MemoryStudy(Study):
    """A study whose trials can be put back, and that a sampler cannot stop.

    Args:
        storage: holds the one study.
        sampler: to ask.
        directions: of the objectives.
    """

    def __init__(
        self,
        storage: InMemoryStorage,
        sampler: BaseSampler,
        directions: tuple[Literal["maximize", "minimize"], ...],
    ) -> None:
        super().__init__(_NAME, storage, sampler, NopPruner())
        self._memory, self._number = storage, storage.get_study_id_from_name(_NAME)
        self.raw_directions = directions

    def stop(self) -> None:
        """Do nothing: samplers that count through a space call it at its end, which is an error outside of a loop."""

    def put_back(self, values: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> Trial:
        """Return a running trial with these parameters."""
        self.add_trial(create_trial(state=TrialState.RUNNING, params=dict(values), distributions=dict(distributions)))
        number = len(self._memory.get_all_trials(self._number, deepcopy=False)) - 1
        return Trial(self, self._memory.get_trial_id_from_study_id_trial_number(self._number, number))

    def put_back_finished(
        self,
        values: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        ending: str,
        objectives: Sequence[float],
        constraints: Mapping[str, float],
        steps: Mapping[int, float],
    ) -> None:
        """Append a finished trial with these parameters."""
        state = TrialState[ending.upper()]
        shown = list(objectives) if state is TrialState.COMPLETE else None
        if state is TrialState.PRUNED and steps:
            shown = [steps[max(steps)]]  # as `Study.tell` does
        self.add_trial(
            create_trial(
                state=state,
                values=shown,
                params=dict(values),
                distributions=dict(distributions),
                intermediate_values=dict(steps),
                constraints=dict(constraints),
            )
        )

    def whole_attributes(self) -> dict[str, Any]:
        """Return those of Optuna's own attributes that are whole numbers or lists of them, as plain data."""
        trials = self._memory.get_all_trials(self._number, deepcopy=False)
        kept = {str(item.number): {k: v for k, v in item.system_attrs.items() if _whole(v)} for item in trials}
        return {
            "study": {k: v for k, v in self._memory.get_study_system_attrs(self._number).items() if _whole(v)},
            "trials": {number: found for number, found in kept.items() if found},
        }

    def restore_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Set what `whole_attributes` returned; anything else is left out."""
        for name, value in attributes["study"].items():
            if _whole(value):
                self._memory.set_study_system_attr(self._number, name, value)
        trials = self._memory.get_all_trials(self._number, deepcopy=False)
        for number, own in attributes["trials"].items():
            # Not through the storage, which refuses to change finished trials.
            trials[int(number)].system_attrs.update({k: v for k, v in own.items() if _whole(v)})


def _whole(value: object) -> bool:
    return type(value) is int or (isinstance(value, list) and all(type(item) is int for item in value))
