"""`StrategySampler`: a search strategy as a sampler of Optuna."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, final

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation import State
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import AskTellStrategy, FeasibleSampler, Problem, Trial
from automl_nas.streams import stream, stream_seed
from automl_nas_optuna.suggesting import architecture_of, distributions_of, parameters_of

_log = logging.getLogger("automl_nas")
_DRAWS = 1000  # uniform draws for one architecture before other ways are tried
_STATES = {TrialState.COMPLETE: State.COMPLETE, TrialState.PRUNED: State.PRUNED, TrialState.FAIL: State.FAILED}


@final
class StrategySampler(BaseSampler):
    """Lets a search strategy choose the architectures of a study, and another sampler everything else.

    An objective reads its architecture with `suggest` and its own hyper-parameters as always. The strategy is asked
    when the first decision of a trial is suggested; before that it is told of all trials that have finished since, its
    own and others', in the order of their numbers. So it may join a study that has trials, and share one with other
    processes: each has a strategy of its own, which learns from all of them. Continuing a study does not repeat it bit
    for bit, for a study does not store the state of its sampler.

    When the strategy has nothing to propose (it waits for trials that run, or nothing new is left) the architecture is
    drawn uniformly.

    Args:
        space: of the architectures.
        problem: what the study's values are called, in the order of its directions, and the constraints. Those on
            metrics are read from the trial's own constraints, if it has any of that name.
        strategy: the strategy, or its name or configuration: ``{"name": "evolution", "population": 20}``.
        sampler: for all other parameters; by default Optuna's TPE.
        seed: of the strategy, if it is made here, of random draws, and of the default sampler.

    Raises:
        ConfigurationError: an unknown strategy or a wrong setting of it, or a strategy that is none for ask and tell.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        strategy: AskTellStrategy | str | Mapping[str, Any] = "evolution",
        *,
        sampler: BaseSampler | None = None,
        seed: int = 0,
    ) -> None:
        self._space, self._problem, self._seed = space, problem, seed
        self._drawer = FeasibleSampler(space, problem, _DRAWS)
        self._strategy = strategy if isinstance(strategy, AskTellStrategy) else _made(strategy, space, problem, seed)
        self._other = TPESampler(seed=stream_seed(seed, "optuna/other") >> 31) if sampler is None else sampler
        self._own = distributions_of(space)
        self._lock = threading.RLock()
        # Trial number -> what was proposed for it and whether by the strategy, until the strategy is told.
        self._chosen: dict[int, tuple[Architecture, dict[str, Any], bool]] = {}
        self._told: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return what the other sampler infers, without the decisions of the space."""
        found = self._other.infer_relative_search_space(study, trial)
        return {name: distribution for name, distribution in found.items() if name not in self._own}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return what the other sampler says."""
        return self._other.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a decision as the strategy proposes it, or what the other sampler says.

        Raises:
            ConfigurationError: the study's directions are not those of the problem's objectives.
            InfeasibleError: no architecture meets the constraints on costs.
        """
        if self._own.get(param_name) != param_distribution:
            return self._other.sample_independent(study, trial, param_name, param_distribution)
        with self._lock:
            if trial.number not in self._chosen:
                self._chosen[trial.number] = self._choose(study, trial)
            _, parameters, _ = self._chosen[trial.number]
        if param_name in parameters:
            return parameters[param_name]
        # Options of a subset that others, fixed by the user, leave open.
        return self._other.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Pass it on."""
        self._other.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Pass it on; the strategy learns of the trial when it is asked next."""
        self._other.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Pass it on: the strategy is shared by all threads and needs no other seed."""
        self._other.reseed_rng()

    def _choose(self, study: Study, trial: FrozenTrial) -> tuple[Architecture, dict[str, Any], bool]:
        self._check(study)
        self._tell(study)
        fixed = trial.system_attrs.get("fixed_params", {})
        # An architecture that the user fixed in part is his, not the strategy's.
        proposals = [] if self._own.keys() & fixed.keys() else self._strategy.ask(1)
        if proposals:
            chosen = proposals[0].architecture
        else:
            rng = stream(self._seed, "optuna/chosen", trial.number)
            chosen = self._drawn(rng)
        return chosen, parameters_of(chosen, self._space), bool(proposals)

    def _drawn(self, rng: Any) -> Architecture:
        found = self._drawer.draw(rng, ())
        if found is None:
            raise InfeasibleError("no architecture was found that meets the constraints; relax them")
        return found

    def _tell(self, study: Study) -> None:
        """Tell the strategy of all trials that have finished."""
        told: list[Trial] = []
        for item in study.get_trials(deepcopy=False, states=tuple(_STATES)):
            if item.number not in self._told:
                self._told.add(item.number)
                told += self._finished(item)
        if told:
            self._strategy.tell(told)

    def _finished(self, item: FrozenTrial) -> list[Trial]:
        proposed, _, by_strategy = self._chosen.pop(item.number, (None, {}, False))
        found = architecture_of(item.params, self._space)
        trials: list[Trial] = []
        if found is not None:
            trials.append(self._trial(item, found))
        if by_strategy and proposed is not None and proposed != found:
            # What it waits for was never evaluated: the objective changed its mind, or raised before it had asked.
            trials.append(Trial(item.number, proposed, state=State.FAILED, error="not evaluated"))
        return trials

    def _trial(self, item: FrozenTrial, architecture: Architecture) -> Trial:
        state = _STATES[item.state]
        names = tuple(self._problem.objectives)
        metrics: dict[str, float] = {}
        info: dict[str, object] = {}
        if state is State.COMPLETE:
            metrics = dict(zip(names, item.values, strict=True))
        elif state is State.PRUNED and item.last_step is not None:
            info["step"] = item.last_step
            metrics = {names[0]: item.intermediate_values[item.last_step]}
        own = {text: value for text, value in item.constraints.items() if state is State.COMPLETE}
        return Trial(
            number=item.number,
            architecture=architecture,
            metrics=metrics,
            costs=self._problem.costs(architecture),
            violations={**own, **self._problem.violations(architecture)},
            state=state,
            info=info,
        )

    def _check(self, study: Study) -> None:
        wanted = [StudyDirection[way.upper()] for way in self._problem.objectives.values()]
        if study.directions != wanted:
            told = ", ".join(f"{name}: {way}" for name, way in self._problem.objectives.items())
            found = ", ".join(direction.name.lower() for direction in study.directions)
            raise ConfigurationError(
                f"the study's directions ({found}) are not those of the problem's objectives ({told}); give "
                "create_study the same directions in the same order"
            )


def _made(spec: str | Mapping[str, Any], space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
    from automl_nas.plugin import PluginManager

    made = PluginManager().load().registry.construct("strategies", spec, (space, problem), seed, path="strategy")
    if not isinstance(made, AskTellStrategy):
        raise ConfigurationError(f"{type(made).__name__} is no strategy for ask and tell", path="strategy")
    return made
