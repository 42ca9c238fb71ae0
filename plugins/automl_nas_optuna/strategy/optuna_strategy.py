"""`OptunaStrategy`: one of Optuna's samplers as a search strategy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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

    A search with several fidelities compares results of one fidelity only: the highest that has as many results as the
    sampler waits for (`Sampler.enough`), after Falkner et al. 2018 (BOHB, arXiv 1807.01774), section 4.1. A network has
    one trial in the study, which changes with its results: it is complete with a result of that fidelity, otherwise
    pruned with the highest result below it, and failed if there are results above it only. Until a fidelity has enough
    results, only trials without a fidelity are complete.

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
        # Canonical architecture -> fidelity -> result of its evaluation. Such a network is not proposed again.
        self._evaluated: dict[Architecture, dict[float, _Evaluation]] = {}
        # Number of a trial of the study -> fidelity -> complete result.
        self._complete: dict[int, dict[float, TrialResult]] = {}
        # Canonical architecture -> numbers of its trials in `_complete`.
        self._numbers: dict[Architecture, list[int]] = {}
        # Fidelity -> number of results in `_complete`.
        self._counts: Counter[float] = Counter()
        self._enough, self._fidelity = sampler.enough, math.inf
        self._measured = {item.text for item in problem.constraints if item.metric not in problem.cost_models}
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
                results = {at: self._result(architecture, item) for at, item in self._evaluated[key].items()}
                self._tell(number, key, results)
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

        A trial of a network that was proposed answers the proposal, whatever its fidelity. Complete trials of other
        fidelities that follow change the trial of the network in the study.

        Raises:
            SpaceError: a trial that was not asked for has an architecture of another space.
        """
        for trial in trials:
            key = self._space.canonical(trial.architecture)
            fidelity = trial.effective_fidelity
            metrics = {name: trial.metrics[name] for name in self._metrics if name in trial.metrics}
            evaluation = _Evaluation(trial.state, metrics, self._steps(trial))
            numbers = self._pending.get(key)
            if numbers is None:
                architecture = self._space.validate(trial.architecture)
                key = self._space.canonical(architecture)
                result = self._result(architecture, evaluation)
                if not self._add_fidelity(key, fidelity, result):
                    self._tell(self._study.add(self._parameters.encode(architecture)), key, {fidelity: result})
            else:
                result = self._result(trial.architecture, evaluation)
                # All suggestions of this network; only the first one if each of them is evaluated.
                for number in [numbers.pop(0)] if self._duplicates else numbers:
                    self._tell(number, key, {fidelity: result})
                if not self._duplicates or not numbers:
                    del self._pending[key]
            if numbers is not None or math.isinf(fidelity) or key in self._evaluated:
                self._evaluated.setdefault(key, {})[fidelity] = evaluation
            self._choose_fidelity()

    def _add_fidelity(self, key: Architecture, fidelity: float, result: TrialResult) -> bool:
        """Add a complete result to trials of its network that have none of its fidelity; return whether there are."""
        numbers = [number for number in self._numbers.get(key, ()) if fidelity not in self._complete[number]]
        if result.state != "complete" or not numbers:
            return False
        changed: dict[int, TrialResult] = {}
        for number in numbers[:1] if self._duplicates else numbers:
            before = self._present(self._complete[number])
            self._complete[number][fidelity] = result
            self._counts[fidelity] += 1
            if (present := self._present(self._complete[number])) != before:
                changed[number] = present
        if changed:
            self._study.retell(changed, restart=False)
        return True

    def _tell(self, number: int, key: Architecture, results: Mapping[float, TrialResult]) -> None:
        """Finish a trial of the study.

        Args:
            number: of the trial.
            key: the canonical architecture.
            results: fidelity -> result; at least one.
        """
        complete = {fidelity: result for fidelity, result in results.items() if result.state == "complete"}
        if not complete:
            self._study.tell(number, results[max(results)])
            return
        self._remember(number, key, complete)
        self._study.tell(number, self._present(complete))

    def _remember(self, number: int, key: Architecture, complete: dict[float, TrialResult]) -> None:
        self._complete[number] = complete
        self._numbers.setdefault(key, []).append(number)
        self._counts.update(list(complete))

    def _choose_fidelity(self) -> None:
        """Choose the fidelity whose results are complete trials; if it is another one, change the trials."""
        fidelity = self._fidelity_with_enough()
        if fidelity == self._fidelity:
            return
        before = {number: self._present(results) for number, results in self._complete.items()}
        self._fidelity = fidelity
        after = {number: self._present(results) for number, results in self._complete.items()}
        # Trials that stay complete are among them: they begin the new generations.
        changed = {number: item for number, item in after.items() if item.state == "complete" or item != before[number]}
        self._study.retell(changed, restart=True)

    def _fidelity_with_enough(self) -> float:
        return max((at for at, count in self._counts.items() if count >= self._enough), default=math.inf)

    def _present(self, results: Mapping[float, TrialResult]) -> TrialResult:
        """Return the result that the sampler receives of complete results: fidelity -> result."""
        if self._fidelity in results:
            return results[self._fidelity]
        lower = max((fidelity for fidelity in results if fidelity < self._fidelity), default=None)
        if lower is None:
            return FAILED
        values, constraints = results[lower].values, results[lower].constraints
        return TrialResult(
            "pruned",
            constraints={name: constraints[name] for name in constraints if name not in self._measured},
            steps=((int(lower), values[0]),) if len(values) == 1 else (),
        )

    def _steps(self, trial: Trial) -> tuple[tuple[int, float], ...]:
        """Return (step, value) of a pruned trial; empty with several objectives, as in Optuna."""
        (name, *others) = self._problem.objectives
        value = trial.metrics.get(name, math.nan)
        if others or math.isnan(value) or trial.state is not State.PRUNED:
            return ()
        steps = [trial.info[key] for key in _STEPS if isinstance(trial.info.get(key), int)]
        fidelity = 0 if trial.fidelity is None or math.isinf(trial.fidelity) else trial.fidelity
        step = steps[0] if steps else fidelity
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
                [key.to_dict(), item.state.value, dict(item.metrics), [list(step) for step in item.steps], _finite(at)]
                for key, results in self._evaluated.items()
                for at, item in results.items()
            ],
            "pending": [[key.to_dict(), list(numbers)] for key, numbers in self._pending.items()],
            # Without a finite fidelity, the study has the results.
            "fidelities": [
                [number, [[_finite(at), list(item.values), [*map(list, item.constraints.items())]] for at, item in own]]
                for number, own in ((number, results.items()) for number, results in self._complete.items())
                if any(map(math.isfinite, self._counts))
            ],
            "exhausted": self._exhausted,
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from the state that `search_state` returned.

        Raises:
            ReplayError: a sampler that is resumed by replay makes another proposal than the recorded one.
        """
        self._study.load(state)
        self._evaluated = {}
        for key, name, metrics, steps, *fidelity in state["known"]:  # an earlier version wrote no fidelity
            evaluation = _Evaluation(State(name), dict(metrics), tuple((step, value) for step, value in steps))
            self._evaluated.setdefault(Architecture(key), {})[_infinite(*fidelity)] = evaluation
        self._pending = {Architecture(key): list(numbers) for key, numbers in state["pending"]}
        self._complete, self._numbers, self._counts = {}, {}, Counter()
        codes = self._study.codes()
        for number, results in self._results(state.get("fidelities", ())):
            self._remember(number, self._space.canonical(self._parameters.architecture(codes[number])), results)
        self._fidelity = self._fidelity_with_enough()
        self._exhausted = state["exhausted"]

    def _results(self, fidelities: Sequence[Any]) -> list[tuple[int, dict[float, TrialResult]]]:
        if not fidelities:
            results = self._study.results().items()
            return [(number, {math.inf: item}) for number, item in results if item.state == "complete"]
        return [
            (
                number,
                {_infinite(at): TrialResult("complete", tuple(values), dict(limits)) for at, values, limits in results},
            )
            for number, results in fidelities
        ]


def _finite(fidelity: float) -> float | None:
    """Return a fidelity as JSON: None for infinity."""
    return fidelity if math.isfinite(fidelity) else None


def _infinite(fidelity: float | None = None) -> float:
    return math.inf if fidelity is None else fidelity


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
