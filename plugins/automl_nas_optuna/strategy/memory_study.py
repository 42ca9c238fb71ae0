"""`MemoryStudy`: a study in memory whose trials can be restored from plain data, without unpickling."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

from optuna.distributions import BaseDistribution
from optuna.pruners import NopPruner
from optuna.samplers import BaseGASampler, BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import Study, StudyDirection
from optuna.trial import Trial, TrialState, create_trial

_NAME = "automl_nas"
_CONSTRAINTS = "constraints"  # the system attributes of a trial in which Optuna stores them begin so


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial, as a sampler receives it.

    Attributes:
        state: Optuna's state of the trial. Samplers ignore failed trials.
        values: the values of the objectives, if complete.
        constraints: name -> violation; the constraint is met if it is <= 0.
        steps: (step, value of the objective) of reports, if pruned.
    """

    state: Literal["complete", "pruned", "fail"]
    values: tuple[float, ...] = ()
    constraints: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[tuple[int, float], ...] = ()


FAILED = TrialResult("fail")


def new_study(directions: Sequence[Literal["maximize", "minimize"]], sampler: BaseSampler) -> MemoryStudy:
    """Return an empty study in memory."""
    storage = InMemoryStorage()
    # Suppress the message "A new study created in memory".
    logger = logging.getLogger("optuna.storages._in_memory")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        storage.create_new_study([StudyDirection[direction.upper()] for direction in directions], _NAME)
    finally:
        logger.setLevel(level)
    return MemoryStudy(storage, sampler, tuple(directions))


@final
class MemoryStudy(Study):
    """A study whose trials can be restored, and which a sampler cannot stop.

    Args:
        storage: contains this study only.
        sampler: the sampler of the study.
        directions: the directions of the objectives.
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
        """Do nothing.

        A sampler that enumerates a space calls it at the end; outside of `Study.optimize` Optuna raises an error.
        """

    def restore_running(self, values: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> Trial:
        """Append a running trial with these parameters, and return it."""
        self.add_trial(create_trial(state=TrialState.RUNNING, params=dict(values), distributions=dict(distributions)))
        number = len(self._memory.get_all_trials(self._number, deepcopy=False)) - 1
        return Trial(self, self._memory.get_trial_id_from_study_id_trial_number(self._number, number))

    def restore_finished(
        self, values: Mapping[str, Any], distributions: Mapping[str, BaseDistribution], result: TrialResult
    ) -> None:
        """Append a finished trial with these parameters and this result."""
        state, steps = TrialState[result.state.upper()], dict(result.steps)
        objectives = list(result.values) if state is TrialState.COMPLETE else None
        if state is TrialState.PRUNED and steps:
            objectives = [steps[max(steps)]]  # as `Study.tell` does
        self.add_trial(
            create_trial(
                state=state,
                values=objectives,
                params=dict(values),
                distributions=dict(distributions),
                intermediate_values=steps,
                constraints=dict(result.constraints),
            )
        )

    def reopen(self, numbers: Collection[int]) -> list[Trial]:
        """Take the results of finished trials away, so that they run again, and return them.

        Optuna has no such call, and its storage refuses to change finished trials, so they are changed in its memory.
        """
        trials = self._memory.get_all_trials(self._number, deepcopy=False)
        for number in numbers:
            trial = trials[number]
            attributes = trial.system_attrs.items()
            trial.system_attrs = {name: value for name, value in attributes if not name.startswith(_CONSTRAINTS)}
            trial.state, trial.values, trial.intermediate_values = TrialState.RUNNING, None, {}
            trial.datetime_complete = None
        self._thread_local.cached_all_trials = None
        # The storage remembers which trial is the best one.
        self._memory._studies[self._number].best_trial_id = None
        for trial in trials:
            self._memory._update_cache(trial._trial_id, self._number)
        return [Trial(self, trials[number]._trial_id) for number in numbers]

    def forget_generations(self, numbers: Collection[int] | None = None) -> None:
        """Let trials belong to no generation of a genetic algorithm; None: all trials, and their parents are forgotten.

        `join_generation` assigns them again.
        """
        if not isinstance(self.sampler, BaseGASampler):
            return
        trials = self._memory.get_all_trials(self._number, deepcopy=False)
        for trial in trials if numbers is None else [trials[number] for number in numbers]:
            trial.system_attrs.pop(self.sampler._get_generation_key(), None)
        if numbers is None:
            attributes = self._memory._studies[self._number].system_attrs
            for name in [name for name in attributes if name.startswith(self.sampler._get_parent_cache_key_prefix())]:
                del attributes[name]

    def join_generation(self, number: int) -> None:
        """Let a running trial join the present generation of a genetic algorithm: without one it becomes no parent."""
        if isinstance(self.sampler, BaseGASampler):
            trials = self._memory.get_all_trials(self._number, deepcopy=False)
            self._thread_local.cached_all_trials = None
            self.sampler.get_trial_generation(self, trials[number])

    def integer_attributes(self) -> dict[str, Any]:
        """Return those of Optuna's own attributes whose values are integers or lists of integers, as plain data."""
        trials = self._memory.get_all_trials(self._number, deepcopy=False)
        of_trials = {str(trial.number): _integer_items(trial.system_attrs) for trial in trials}
        return {
            "study": _integer_items(self._memory.get_study_system_attrs(self._number)),
            "trials": {number: attributes for number, attributes in of_trials.items() if attributes},
        }

    def restore_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Restore the attributes that `integer_attributes` returned; ignore values of any other kind."""
        for name, value in _integer_items(attributes["study"]).items():
            self._memory.set_study_system_attr(self._number, name, value)
        trials = self._memory.get_all_trials(self._number, deepcopy=False)
        for number, of_trial in attributes["trials"].items():
            # Not through the storage, which refuses to change finished trials.
            trials[int(number)].system_attrs.update(_integer_items(of_trial))


def _integer_items(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if _is_integer_data(value)}


def _is_integer_data(value: object) -> bool:
    return type(value) is int or (isinstance(value, list) and all(type(item) is int for item in value))
