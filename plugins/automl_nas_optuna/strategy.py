"""`OptunaStrategy`: a sampler of Optuna as a search strategy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation import State
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import AskTellStrategy, FeasibleSampler, Problem, Proposal, Trial
from automl_nas.streams import stream
from automl_nas_optuna.parameters import Parameters
from automl_nas_optuna.replayable_study import FAILED, ReplayableStudy, Told
from automl_nas_optuna.samplers import Sampler, SamplerName, sampler_of

# Where evaluators write how far a pruned candidate had come.
_STEPS = ("step", "epochs")


@final
class OptunaStrategy(AskTellStrategy):
    """Propose what one of Optuna's samplers suggests.

    A suggestion that misses a constraint on costs is not evaluated: the first one for each candidate is told back as
    pruned, with its constraint values, the others count as never made. One that equals an earlier candidate is not
    evaluated again: samplers with a population are told that candidate's result once more, for others it counts as
    never made. After ``attempts`` such suggestions in a row one candidate is
    drawn uniformly from what is feasible and new, and the sampler learns of it like of its own. The search ends when
    nothing new is left.

    Args:
        space: what is searched.
        problem: objectives and constraints.
        seed: of the run.
        sampler: its name, or ``{name: ..., settings: ...}``; any other sampler by its class.
        duplicates: whether a network may be proposed again.
        attempts: suggestions for one candidate before it is drawn at random.
        draws: uniform draws for one random candidate before other ways are tried.

    Raises:
        ConfigurationError: a setting is out of range, or the sampler cannot serve this space or problem.
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
                raise ConfigurationError(f"{name} must be at least 1, not {value}", path=name)
        self._space, self._problem, self._seed = space, problem, seed
        self._duplicates, self._attempts = duplicates, attempts
        self._drawer = FeasibleSampler(space, problem, draws)
        self._parameters = Parameters(space)
        chosen = sampler_of(sampler)
        _check(chosen, problem, self._parameters)
        self._constrained, self._population = chosen.traits.measured, chosen.traits.population
        self._notebook = ReplayableStudy(self._parameters, tuple(problem.objectives.values()), chosen, seed)
        self._metrics = {*problem.objectives, *(item.metric for item in problem.constraints)}
        # Canonical architecture -> state and metrics of the evaluation.
        self._known: dict[Architecture, tuple[State, dict[str, float], tuple[tuple[int, float], ...]]] = {}
        # Canonical architecture -> the study's trials that wait for its evaluation.
        self._pending: dict[Architecture, list[int]] = {}
        self._exhausted_space = False

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates; see `AskTellStrategy.ask`.

        Raises:
            InfeasibleError: no architecture that meets the constraints was ever found.
        """
        proposals: list[Proposal] = []
        while len(proposals) < n and (proposal := self._propose()) is not None:
            proposals.append(proposal)
        return proposals

    def _propose(self) -> Proposal | None:
        if self._exhausted_space:
            return None
        warned = False
        for _ in range(self._attempts):
            number, architecture = self._suggestion()
            violations = self._problem.violations(architecture)
            if any(missed > 0 for missed in violations.values()):
                # Told of all, a model of densities counts them among the results of which it takes the best tenth.
                told = FAILED if warned else Told("pruned", constraints=self._limits(violations))
                self._notebook.tell(number, told)
                warned = True
                continue
            key = self._space.canonical(architecture)
            waiting = self._pending.get(key)
            if self._duplicates or (waiting is None and key not in self._known):
                self._pending.setdefault(key, []).append(number)
                return Proposal(architecture, info={"origin": "sampler"})
            if not self._population:
                self._notebook.tell(number, FAILED)
            elif waiting is not None:
                waiting.append(number)
            else:
                self._notebook.tell(number, self._told(architecture, *self._known[key]))
        return self._draw()

    def _suggestion(self) -> tuple[int, Architecture]:
        number, code = self._notebook.ask()
        if not self._parameters.fits(code):
            # The sampler is to learn what was evaluated, so its own suggestion counts as never made.
            self._notebook.tell(number, FAILED)
            code = self._parameters.mended(code, stream(self._seed, "optuna/mend", self._notebook.asked))
            number = self._notebook.add(code)
        return number, self._parameters.architecture(code)

    def _draw(self) -> Proposal | None:
        taken = () if self._duplicates else _Either(self._known, self._pending)
        rng = stream(self._seed, "optuna/draw", self._notebook.asked)
        try:
            drawn = self._drawer.draw(rng, taken)
        except InfeasibleError:
            if not self._known and not self._pending:
                raise
            drawn = None
        if drawn is None:
            self._exhausted_space = True
            return None
        number = self._notebook.add(self._parameters.encode(drawn))
        self._pending.setdefault(self._space.canonical(drawn), []).append(number)
        return Proposal(drawn, info={"origin": "random"})

    def tell(self, trials: Sequence[Trial]) -> None:
        """Pass trials on to the sampler; see `AskTellStrategy.tell`.

        A trial of a lower fidelity is passed on as a pruned one, with its value at the step of that number.

        Raises:
            SpaceError: a trial that was not asked for has an architecture of another space.
        """
        for trial in trials:
            key = self._space.canonical(trial.architecture)
            whole = trial.fidelity is None or math.isinf(trial.fidelity)
            numbers = self._pending.get(key) if whole else None
            metrics = {name: trial.metrics[name] for name in self._metrics if name in trial.metrics}
            result = (trial.state, metrics, self._steps(trial))
            if numbers is None:
                architecture = self._space.validate(trial.architecture)
                key = self._space.canonical(architecture)
                number = self._notebook.add(self._parameters.encode(architecture))
                if not whole and trial.state is State.COMPLETE:
                    result = (State.PRUNED, metrics, self._steps(trial))
                self._notebook.tell(number, self._told(architecture, *result))
            else:
                # All suggestions of this network, or the first when each is evaluated by itself.
                for number in [numbers.pop(0)] if self._duplicates else numbers:
                    self._notebook.tell(number, self._told(trial.architecture, *result))
                if not self._duplicates or not numbers:
                    del self._pending[key]
            if whole:
                self._known[key] = result

    def _steps(self, trial: Trial) -> tuple[tuple[int, float], ...]:
        """Return (step, value) of a trial that did not run to its end; Optuna knows none for several objectives."""
        (name, *others) = self._problem.objectives
        value = trial.metrics.get(name, math.nan)
        if others or math.isnan(value) or (trial.state is not State.PRUNED and trial.fidelity is None):
            return ()
        found = [trial.info[name] for name in _STEPS if isinstance(trial.info.get(name), int)]
        step = found[0] if found else (trial.fidelity or 0)
        return ((int(step), value),)  # type: ignore[call-overload]

    def _told(
        self,
        architecture: Architecture,
        state: State,
        metrics: Mapping[str, float],
        steps: tuple[tuple[int, float], ...],
    ) -> Told:
        if state is State.FAILED:
            return FAILED
        if state is State.PRUNED:
            return Told("pruned", constraints=self._limits(self._problem.violations(architecture)), steps=steps)
        costs = self._problem.costs(architecture)
        values = tuple(metrics.get(name, costs.get(name, math.nan)) for name in self._problem.objectives)
        limits = self._limits(self._problem.violations(architecture, metrics))
        if not all(map(math.isfinite, (*values, *limits.values()))):
            return FAILED
        return Told("complete", values, limits)

    def _limits(self, violations: Mapping[str, float]) -> Mapping[str, float]:
        return violations if self._constrained else {}

    def search_state(self) -> dict[str, Any]:
        """Return the study's events, what is known and what is outstanding, as plain data."""
        return {
            **self._notebook.state(),
            "known": [
                [key.to_dict(), state.value, dict(metrics), [list(step) for step in steps]]
                for key, (state, metrics, steps) in self._known.items()
            ],
            "pending": [[key.to_dict(), list(numbers)] for key, numbers in self._pending.items()],
            "exhausted": self._exhausted_space,
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `search_state` returned.

        Raises:
            ReplayError: a sampler that has to be asked for its proposals again proposes something else.
        """
        self._notebook.load(state)
        self._known = {
            Architecture(key): (State(ending), dict(metrics), tuple((step, value) for step, value in steps))
            for key, ending, metrics, steps in state["known"]
        }
        self._pending = {Architecture(key): list(numbers) for key, numbers in state["pending"]}
        self._exhausted_space = state["exhausted"]


class _Either:
    """Contains what either mapping contains."""

    def __init__(self, *parts: Mapping[Architecture, object]) -> None:
        self._parts = parts

    def __contains__(self, key: object) -> bool:
        return any(key in part for part in self._parts)


def _check(sampler: Sampler, problem: Problem, parameters: Parameters) -> None:
    traits = sampler.traits
    if len(problem.objectives) > 1 and not traits.several:
        raise ConfigurationError(
            f"the sampler '{sampler.name}' takes one objective, and the problem has {len(problem.objectives)}: "
            "use tpe, gp, nsgaii or nsgaiii",
            path="sampler",
        )
    if traits.ordered and not parameters.ordered:
        raise ConfigurationError(
            f"the sampler '{sampler.name}' models ordered decisions (Ordinal) only, and the space has none: it would "
            "draw at random; use tpe, gp or nsgaii",
            path="sampler",
        )
    measured = [item.metric for item in problem.constraints if item.metric not in problem.cost_models]
    if measured and not traits.measured:
        raise ConfigurationError(
            f"the sampler '{sampler.name}' does not learn from constraints on metrics, and the problem limits "
            f"'{measured[0]}': use tpe, gp, nsgaii or nsgaiii",
            path="sampler",
        )
