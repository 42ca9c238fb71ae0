"""`StrategySampler`: a search strategy of this framework as a sampler of an Optuna study."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
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
from automl_nas_optuna.objective.adapted_trials import warn_of_skipped
from automl_nas_optuna.objective.suggesting import architecture_of, distributions_of, parameters_of

_log = logging.getLogger("automl_nas")
_DRAWS = 1000  # the maximum number of uniform draws for one architecture; see `FeasibleSampler`
_STATES = {TrialState.COMPLETE: State.COMPLETE, TrialState.PRUNED: State.PRUNED, TrialState.FAIL: State.FAILED}


@dataclass(frozen=True)
class _Chosen:
    """The architecture chosen for a trial.

    Attributes:
        architecture: the architecture.
        parameters: its parameters, as `suggest` reads them.
        by_strategy: whether the strategy proposed it; otherwise it was drawn.
    """

    architecture: Architecture
    parameters: dict[str, Any]
    by_strategy: bool


@final
class StrategySampler(BaseSampler):
    """A sampler that lets a search strategy choose the architectures, and another sampler all other parameters.

    An objective reads its architecture with `suggest` and suggests its own hyper-parameters as usual. The strategy is
    asked when the first decision of a trial is suggested. Before that, it receives all trials that have finished since
    it was last asked, its own and others, in the order of their numbers. It may therefore join a study that already has
    trials; those whose architecture is not in the space, because its options changed, are skipped with one warning that
    counts them. Several processes may share a study: each has its own strategy object, which learns from all trials. A
    continued study is not reproducible bit for bit, because a study does not store the state of its sampler.

    If the strategy has no proposal (it waits for running trials, or no new architecture is left), the architecture is
    drawn uniformly. Strategies with several fidelities are refused at their first proposal.

    Args:
        space: the search space of the architectures.
        problem: the objectives, which name the study's values in the order of its directions, and the constraints.
            Violations of constraints on metrics are read from the trial's constraints of the same name, if it has any.
        strategy: the strategy, its name, or its configuration: ``{"name": "evolution", "population": 20}``.
        sampler: the sampler of all other parameters; None: Optuna's TPE.
        seed: the seed of a strategy constructed here, of random draws, and of the default sampler.

    Raises:
        ConfigurationError: the strategy or one of its settings is unknown or invalid, or it is not an ask-and-tell
            strategy.
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
        self._feasible_sampler = FeasibleSampler(space, problem, _DRAWS)
        self._strategy = (
            strategy if isinstance(strategy, AskTellStrategy) else _construct(strategy, space, problem, seed)
        )
        self._other = TPESampler(seed=stream_seed(seed, "optuna/other") >> 31) if sampler is None else sampler
        self._decision_distributions = distributions_of(space)
        self._lock = threading.RLock()
        # Trial number -> its architecture, until the strategy has received the trial.
        self._chosen: dict[int, _Chosen] = {}
        # Numbers of the trials that the strategy has received.
        self._received: set[int] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the distributions that the other sampler infers, without the decisions of the space."""
        inferred = self._other.infer_relative_search_space(study, trial)
        return {
            name: distribution for name, distribution in inferred.items() if name not in self._decision_distributions
        }

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the values that the other sampler suggests."""
        return self._other.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value of a decision from the strategy's proposal, or of another parameter from the other sampler.

        Raises:
            ConfigurationError: the study's directions are not those of the problem's objectives, or the strategy
                proposes a fidelity.
            InfeasibleError: no architecture meets the constraints on costs.
        """
        if self._decision_distributions.get(param_name) != param_distribution:
            return self._other.sample_independent(study, trial, param_name, param_distribution)
        with self._lock:
            if trial.number not in self._chosen:
                self._chosen[trial.number] = self._choose(study, trial)
            parameters = self._chosen[trial.number].parameters
        if param_name in parameters:
            return parameters[param_name]
        # An option of a subset that the proposal determines, but values fixed by the user do not.
        return self._other.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Call the other sampler."""
        self._other.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Call the other sampler; the strategy receives the trial when it is asked next."""
        self._other.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Reseed the other sampler; all threads share the strategy, so it is not reseeded."""
        self._other.reseed_rng()

    def _choose(self, study: Study, trial: FrozenTrial) -> _Chosen:
        self._check(study)
        self._tell(study)
        fixed = trial.system_attrs.get("fixed_params", {})
        # If the user fixed a part of the architecture, the strategy is not asked for the rest.
        proposals = [] if self._decision_distributions.keys() & fixed.keys() else self._strategy.ask(1)
        if proposals and proposals[0].fidelity is not None:
            raise ConfigurationError(
                f"the strategy {type(self._strategy).__name__} proposes fidelities (the first one is "
                f"{proposals[0].fidelity:g}), and the trials of a study have none: use it in a stage of a run, or in "
                "the study another strategy, with Optuna's HyperbandPruner and trial.report",
                path="strategy",
            )
        if proposals:
            architecture = proposals[0].architecture
        else:
            architecture = self._draw(stream(self._seed, "optuna/chosen", trial.number))
        parameters = parameters_of(architecture, self._space, conditional=False)
        return _Chosen(architecture, parameters, by_strategy=bool(proposals))

    def _draw(self, rng: Random) -> Architecture:
        architecture = self._feasible_sampler.draw(rng, ())
        if architecture is None:
            raise InfeasibleError("no architecture meets the constraints; relax them")
        return architecture

    def _tell(self, study: Study) -> None:
        """Pass all trials that have finished to the strategy."""
        new = [
            item
            for item in study.get_trials(deepcopy=False, states=tuple(_STATES))
            if item.number not in self._received
        ]
        self._received.update(item.number for item in new)
        warn_of_skipped(new, self._space)
        finished = [trial for item in new for trial in self._finished(item)]
        if finished:
            self._strategy.tell(finished)

    def _finished(self, item: FrozenTrial) -> list[Trial]:
        chosen = self._chosen.pop(item.number, None)
        architecture = architecture_of(item, self._space)
        trials: list[Trial] = []
        if architecture is not None:
            trials.append(self._trial(item, architecture))
        if chosen is not None and chosen.by_strategy and chosen.architecture != architecture:
            # The proposal was never evaluated (the objective raised an error before it suggested all decisions, or
            # evaluated another architecture), but the strategy waits for its result.
            trials.append(Trial(item.number, chosen.architecture, state=State.FAILED, error="not evaluated"))
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
        measured = dict(item.constraints) if state is State.COMPLETE else {}
        return Trial(
            number=item.number,
            architecture=architecture,
            metrics=metrics,
            costs=self._problem.costs(architecture),
            violations={**measured, **self._problem.violations(architecture)},
            state=state,
            info=info,
        )

    def _check(self, study: Study) -> None:
        directions = [StudyDirection[direction.upper()] for direction in self._problem.objectives.values()]
        if study.directions != directions:
            objectives = ", ".join(f"{name}: {direction}" for name, direction in self._problem.objectives.items())
            of_study = ", ".join(direction.name.lower() for direction in study.directions)
            raise ConfigurationError(
                f"the study's directions ({of_study}) are not those of the problem's objectives ({objectives}); pass "
                "the same directions to create_study, in the same order"
            )


def _construct(spec: str | Mapping[str, Any], space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
    from automl_nas.plugin import PluginManager

    registry = PluginManager().load().registry
    strategy = registry.construct("strategies", spec, (space, problem), seed, path="strategy")
    if not isinstance(strategy, AskTellStrategy):
        raise ConfigurationError(f"{type(strategy).__name__} is not an ask-and-tell strategy", path="strategy")
    return strategy
