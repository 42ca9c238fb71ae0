"""What Optuna's pruners have in common in runs: `OptunaPruner`."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, final

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation import Earlier, EarlierTrial, Judge, Pruner, State
from automl_nas.strategy import Problem
from automl_nas_optuna.optuna_version import require_optuna

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial


class OptunaPruner(Pruner):
    """A pruner of Optuna. It sees a study with the earlier trials of the stage, and the judged one as running.

    Trials that it is not compared with have the state FAIL in this study, so that each has the number that it has in
    its stage. What the pruner writes to the attributes of a trial (successive halving: the values at its rungs) is
    noted, and is in the study again when later trials are judged.

    Args:
        problem: its first objective is the value that evaluations report.
    """

    def __init__(self, problem: Problem) -> None:
        require_optuna()
        self._direction = next(iter(problem.objectives.values()))
        try:
            self.make()
        except (TypeError, ValueError) as error:
            if isinstance(error, ConfigurationError):
                raise
            raise ConfigurationError(f"Optuna's pruner rejects its settings: {error}") from error

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the class itself: constructing it is fast."""
        return cls

    def make(self) -> BasePruner:
        """Return a new pruner of Optuna."""
        with warnings.catch_warnings():
            from optuna.exceptions import ExperimentalWarning

            warnings.simplefilter("ignore", ExperimentalWarning)
            return self._construct()

    @abstractmethod
    def _construct(self) -> BasePruner:
        """Return a new pruner of Optuna."""

    def judge(self, earlier: Earlier) -> Judge:
        """Return what judges the evaluation of one trial; see `Pruner.judge`."""
        return OptunaJudge(self.make(), self._direction, earlier)


@final
class OptunaJudge(Judge):
    """Judges one trial by a pruner of Optuna.

    Args:
        pruner: a new one.
        direction: of the objective.
        earlier: see `Pruner.judge`.
    """

    def __init__(self, pruner: BasePruner, direction: Any, earlier: Earlier) -> None:
        from optuna.samplers import RandomSampler
        from optuna.trial import TrialState, create_trial

        from automl_nas_optuna.strategy.memory_study import new_study

        study = self._study = new_study([direction], RandomSampler(0))
        study.pruner = pruner
        trials = {trial.number: trial for trial in earlier.trials}
        for number in range(earlier.number):
            trial = trials.get(number)
            study.add_trial(create_trial(state=TrialState.FAIL) if trial is None else _frozen(trial))
        self._trial, self._steps = study.restore_running({}, {}), set[int]()

    def prunes(self, step: int, value: float) -> bool:
        """Report a value and ask the pruner; as in Optuna, the first value of a step counts."""
        if step not in self._steps:
            self._steps.add(step)
            self._trial.report(value, step)
        return bool(self._trial.should_prune())

    @property
    def notes(self) -> Mapping[str, object]:
        """The attributes of the trial that the pruner set."""
        return dict(self._study.get_trials(deepcopy=False)[-1].system_attrs)


def _frozen(trial: EarlierTrial) -> FrozenTrial:
    from optuna.trial import TrialState, create_trial

    steps: dict[int, float] = {}
    for step, reported in trial.reports:
        steps.setdefault(step, reported)
    value, state = trial.value, TrialState[{State.FAILED: "FAIL"}.get(trial.state, trial.state.name)]
    if state is TrialState.PRUNED and steps:
        last = steps[max(steps)]  # as `Study.tell` does
        value = None if math.isnan(last) else last
    if state is TrialState.COMPLETE and value is None:
        state = TrialState.FAIL
    return create_trial(state=state, value=value, intermediate_values=steps, system_attrs=dict(trial.notes))
