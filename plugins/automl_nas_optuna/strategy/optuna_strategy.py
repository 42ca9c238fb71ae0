"""`OptunaStrategy`: one of Optuna's samplers as a search strategy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation import State
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import AskTellStrategy, FeasibleSampler, Problem, Proposal, Trial
from automl_nas.streams import stream
from automl_nas_optuna.strategy.code_parameters import CodeParameters
from automl_nas_optuna.strategy.fixed_decisions import fixed_values, restricted, with_codes
from automl_nas_optuna.strategy.memory_study import FAILED, TrialResult
from automl_nas_optuna.strategy.replayable_study import ReplayableStudy
from automl_nas_optuna.strategy.samplers import Sampler, SamplerName, to_sampler

# Keys of `Trial.info` in which evaluators record how long a pruned candidate was trained.
_STEPS = ("step", "epochs")


@dataclass(frozen=True)
class _Evaluation:
    """The parts of an evaluated trial that the strategy stores.

    Attributes:
        state: the state of the trial.
        metrics: the metrics that objectives and constraints use.
        steps: (step, value of the objective), if the trial ended early.
    """

    state: State
    metrics: Mapping[str, float]
    steps: tuple[tuple[int, float], ...]


@final
class OptunaStrategy(AskTellStrategy):
    """Propose the suggestions of one of Optuna's samplers.

    A suggestion that violates a constraint on costs is not evaluated. For each candidate, the first such suggestion is
    passed back to the sampler as a pruned trial with its constraint values; the others are discarded. A suggestion that
    equals an earlier candidate is not evaluated again: a sampler with a population receives that candidate's result
    once more, for other samplers the suggestion is discarded. After ``attempts`` unusable suggestions in a row, one
    candidate is drawn uniformly from the feasible new architectures, and the sampler receives its result like any
    other. The search ends when no new architecture is left.

    Args:
        space: the search space.
        problem: the objectives and constraints.
        seed: the seed of the run.
        sampler: the name of a sampler, or ``{name: ..., settings: ...}``; other samplers by their class.
        duplicates: whether a network may be proposed more than once.
        attempts: the maximum number of suggestions for one candidate before it is drawn at random.
        draws: the maximum number of uniform draws for a random candidate; see `FeasibleSampler`.

    Raises:
        ConfigurationError: a setting is out of range, or the sampler does not support this space or problem.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        seed: int,
        sampler: SamplerName | Sampler = "tpe",
        duplicates: bool = False,
        attempts: int = 10,
        draws: int = 1000,
    ) -> None:
        for name, value in (("attempts", attempts), ("draws", draws)):
            if value < 1:
                raise ConfigurationError(f"must be at least 1, got {value}", path=name)
        self._space, self._problem, self._seed = space, problem, seed
        self._duplicates, self._attempts = duplicates, attempts
        self._parameters = CodeParameters(space)
        sampler = to_sampler(sampler)
        self._fixed = fixed_values(sampler, space)
        self._feasible_sampler = FeasibleSampler(restricted(space, self._fixed), problem, draws)
        sampler = with_codes(sampler, self._fixed, self._parameters)
        _check(sampler, problem, self._parameters)
        self._constrained, self._population = sampler.traits.measured, sampler.traits.population
        self._study = ReplayableStudy(self._parameters, tuple(problem.objectives.values()), sampler, seed)
        self._metrics = {*problem.objectives, *(item.metric for item in problem.constraints)}
        # Canonical architecture -> result of its evaluation.
        self._evaluated: dict[Architecture, _Evaluation] = {}
        # Canonical architecture -> numbers of the study's trials that wait for its evaluation.
        self._pending: dict[Architecture, list[int]] = {}
        self._exhausted = False

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates; see `AskTellStrategy.ask`.

        Raises:
            InfeasibleError: no architecture that meets the constraints was found.
        """
        proposals: list[Proposal] = []
        while len(proposals) < n and (proposal := self._propose()) is not None:
            proposals.append(proposal)
        return proposals

    def _propose(self) -> Proposal | None:
        if self._exhausted:
            return None
        passed_back = False
        for _ in range(self._attempts):
            number, architecture = self._suggest()
            violations = self._problem.violations(architecture)
            if any(violation > 0 for violation in violations.values()):
                # Only the first one: TPE models the best tenth of all results, and would count each of these as one.
                result = FAILED if passed_back else TrialResult("pruned", constraints=self._constraints(violations))
                self._study.tell(number, result)
                passed_back = True
                continue
            key = self._space.canonical(architecture)
            waiting = self._pending.get(key)
            if self._duplicates or (waiting is None and key not in self._evaluated):
                self._pending.setdefault(key, []).append(number)
                return Proposal(architecture, info={"origin": "sampler"})
            if not self._population:
                self._study.tell(number, FAILED)
            elif waiting is not None:
                waiting.append(number)
            else:
                self._study.tell(number, self._result(architecture, self._evaluated[key]))
        return self._draw()

    def _suggest(self) -> tuple[int, Architecture]:
        number, code = self._study.ask()
        if not self._parameters.fits(code):
            # The sampler receives the result of the repaired code. Its own suggestion is discarded.
            self._study.tell(number, FAILED)
            code = self._parameters.repaired(code, stream(self._seed, "optuna/mend", self._study.asked))
            number = self._study.add(code)
        return number, self._parameters.architecture(code)

    def _draw(self) -> Proposal | None:
        taken = () if self._duplicates else _AnyOf(self._evaluated, self._pending)
        rng = stream(self._seed, "optuna/draw", self._study.asked)
        try:
            drawn = self._feasible_sampler.draw(rng, taken)
        except InfeasibleError:
            if not self._evaluated and not self._pending:
                raise
            drawn = None
        if drawn is None or any(drawn[name] != value for name, value in self._fixed.items()):
            self._exhausted = True
            return None
        number = self._study.add(self._parameters.encode(drawn))
        self._pending.setdefault(self._space.canonical(drawn), []).append(number)
        return Proposal(drawn, info={"origin": "random"})

    def tell(self, trials: Sequence[Trial]) -> None:
        """Pass trials to the sampler; see `AskTellStrategy.tell`.

        A trial with a finite fidelity becomes a pruned trial, whose step is the fidelity.

        Raises:
            SpaceError: a trial that was not asked for has an architecture of another space.
        """
        for trial in trials:
            key = self._space.canonical(trial.architecture)
            full_fidelity = trial.fidelity is None or math.isinf(trial.fidelity)
            numbers = self._pending.get(key) if full_fidelity else None
            metrics = {name: trial.metrics[name] for name in self._metrics if name in trial.metrics}
            evaluation = _Evaluation(trial.state, metrics, self._steps(trial))
            if numbers is None:
                architecture = self._space.validate(trial.architecture)
                key = self._space.canonical(architecture)
                number = self._study.add(self._parameters.encode(architecture))
                if not full_fidelity and trial.state is State.COMPLETE:
                    evaluation = replace(evaluation, state=State.PRUNED)
                self._study.tell(number, self._result(architecture, evaluation))
            else:
                # All suggestions of this network; only the first one if each of them is evaluated.
                for number in [numbers.pop(0)] if self._duplicates else numbers:
                    self._study.tell(number, self._result(trial.architecture, evaluation))
                if not self._duplicates or not numbers:
                    del self._pending[key]
            if full_fidelity:
                self._evaluated[key] = evaluation

    def _steps(self, trial: Trial) -> tuple[tuple[int, float], ...]:
        """Return (step, value) of a trial that ended early; empty with several objectives, as in Optuna."""
        (name, *others) = self._problem.objectives
        value = trial.metrics.get(name, math.nan)
        if others or math.isnan(value) or (trial.state is not State.PRUNED and trial.fidelity is None):
            return ()
        steps = [trial.info[key] for key in _STEPS if isinstance(trial.info.get(key), int)]
        step = steps[0] if steps else (trial.fidelity or 0)
        return ((int(step), value),)  # type: ignore[call-overload]

    def _result(self, architecture: Architecture, evaluation: _Evaluation) -> TrialResult:
        metrics = evaluation.metrics
        if evaluation.state is State.FAILED:
            return FAILED
        if evaluation.state is State.PRUNED:
            constraints = self._constraints(self._problem.violations(architecture))
            return TrialResult("pruned", constraints=constraints, steps=evaluation.steps)
        costs = self._problem.costs(architecture)
        values = tuple(metrics.get(name, costs.get(name, math.nan)) for name in self._problem.objectives)
        constraints = self._constraints(self._problem.violations(architecture, metrics))
        if not all(map(math.isfinite, (*values, *constraints.values()))):
            return FAILED
        return TrialResult("complete", values, constraints)

    def _constraints(self, violations: Mapping[str, float]) -> Mapping[str, float]:
        return violations if self._constrained else {}

    def search_state(self) -> dict[str, Any]:
        """Return the study's events and the evaluated and outstanding architectures, as plain data."""
        return {
            **self._study.state(),
            "known": [
                [key.to_dict(), item.state.value, dict(item.metrics), [list(step) for step in item.steps]]
                for key, item in self._evaluated.items()
            ],
            "pending": [[key.to_dict(), list(numbers)] for key, numbers in self._pending.items()],
            "exhausted": self._exhausted,
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `search_state` returned.

        Raises:
            ReplayError: a sampler that is resumed by replay makes another proposal than the recorded one.
        """
        self._study.load(state)
        self._evaluated = {
            Architecture(key): _Evaluation(State(name), dict(metrics), tuple((step, value) for step, value in steps))
            for key, name, metrics, steps in state["known"]
        }
        self._pending = {Architecture(key): list(numbers) for key, numbers in state["pending"]}
        self._exhausted = state["exhausted"]


class _AnyOf:
    """Contains the keys of all given mappings."""

    def __init__(self, *mappings: Mapping[Architecture, object]) -> None:
        self._mappings = mappings

    def __contains__(self, key: object) -> bool:
        return any(key in mapping for mapping in self._mappings)


def _check(sampler: Sampler, problem: Problem, parameters: CodeParameters) -> None:
    traits = sampler.traits
    if len(problem.objectives) > 1 and not traits.several:
        raise ConfigurationError(
            f"the sampler '{sampler.name}' takes one objective, and the problem has {len(problem.objectives)}: "
            "use tpe, gp, nsgaii or nsgaiii",
            path="sampler",
        )
    if traits.ordered and not parameters.ordered:
        raise ConfigurationError(
            f"the sampler '{sampler.name}' models ordered decisions (Ordinal) only, and the space has none, so all "
            "proposals would be random; use tpe, gp or nsgaii",
            path="sampler",
        )
    measured = [item.metric for item in problem.constraints if item.metric not in problem.cost_models]
    if measured and not traits.measured:
        raise ConfigurationError(
            f"the sampler '{sampler.name}' does not learn from constraints on metrics, and the problem limits "
            f"'{measured[0]}': use tpe, gp, nsgaii or nsgaiii",
            path="sampler",
        )
