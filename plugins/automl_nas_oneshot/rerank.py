"""Evaluating the best few candidates of earlier stages again, more thoroughly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import Direction, Problem, Proposal, Services, Strategy, Trial, spread_front


def best_trials(problem: Problem, space: SearchSpace, trials: list[Trial], count: int) -> list[Trial]:
    """Return the best trials, no two of the same canonical architecture.

    With one objective they are ordered by it. With several they are those of the Pareto front; where it has too few,
    those of the front of the others follow, and so on; of the last front as many are taken as are needed, spread along
    it (`spread_front`).

    Args:
        problem: its objectives.
        space: of the search.
        trials: of one stage.
        count: maximum number of trials to return.
    """
    best: dict[Architecture, Trial] = {}
    if len(problem.objectives) == 1:
        for trial in problem.rank(trials):
            best.setdefault(space.canonical(trial.architecture), trial)
        return list(best.values())[:count]
    while len(best) < count:
        trials = [trial for trial in trials if space.canonical(trial.architecture) not in best]
        front = spread_front(problem, space, trials, count - len(best))
        if not front:
            break
        best.update({space.canonical(trial.architecture): trial for trial in front})
    return list(best.values())


class Rerank(Strategy):
    """Have the best candidates of earlier stages evaluated again, by the evaluator of this stage.

    A supernet ranks the best candidates of a search hardly better than chance, so a second look at a few of them pays:
    the evaluator ``supernet_weights`` with ``finetune_steps`` trains them a little further from the supernet's weights,
    ``train`` trains them from scratch for some epochs. Both score them on images held out of training, and the stage's
    best trial is the best by that score. Its trials are recorded like those of other stages, and ``final: {from:
    rerank}`` retrains its best. Candidates that miss this stage's constraints on costs are left out. An architecture
    that is among the best of several stages is evaluated once.

    Args:
        space: the search space.
        problem: of this stage.
        stages: names of the earlier stages; trials of different stages are not compared with each other.
        top_k: number of best candidates of each of these stages.
        by: objectives by which the best candidates of the earlier stages are chosen, such as ``{loss: minimize}``;
            null: the objectives of this stage.
        fidelity: of the evaluations, in the evaluator's unit; null: the evaluator's default.

    Raises:
        ConfigurationError: ``stages`` is empty, or a number is outside its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        stages: list[str],
        top_k: int = 10,
        by: dict[str, Direction] | None = None,
        fidelity: float | None = None,
    ) -> None:
        _check(stages=stages, top_k=top_k, by=by)
        self._space, self._problem = space, problem
        self._stages, self._top_k, self._fidelity = list(dict.fromkeys(stages)), top_k, fidelity
        self._order = Problem(by or problem.objectives, (), problem.cost_models, problem.exclusions)
        self._candidates: list[tuple[Architecture, int]] | None = None
        self._asked = 0
        self._waiting: list[int] = []

    def step(self, services: Services) -> None:
        """Have the next candidates evaluated; the first step chooses them.

        Raises:
            RunFailedError: an earlier stage has no trial that can be compared, or none that meets the constraints.
        """
        if self._candidates is None:
            self._candidates = self._choose(services)
        room = services.ahead - len(self._waiting)
        if services.remaining is not None:
            room = min(room, services.remaining)
        next_ones = self._candidates[self._asked : self._asked + max(room, 0)]
        if next_ones:
            proposals = [
                Proposal(architecture, self._fidelity, {"trial": number}) for architecture, number in next_ones
            ]
            self._waiting += services.submit(proposals)
            self._asked += len(next_ones)
        numbers = self._waiting[: services.batch]
        if numbers:
            services.results(numbers)
            self._waiting = self._waiting[len(numbers) :]
        services.progress(self._asked - len(self._waiting), len(self._candidates), "trials")

    @property
    def done(self) -> bool:
        """Whether all candidates are evaluated."""
        return self._candidates is not None and self._asked == len(self._candidates) and not self._waiting

    @property
    def planned(self) -> int:
        """The number of candidates; before they are chosen the largest possible number."""
        return len(self._stages) * self._top_k if self._candidates is None else len(self._candidates)

    def state_dict(self) -> dict[str, Any]:
        """Return the candidates with the numbers of their earlier trials, and how far their evaluation is."""
        chosen = self._candidates
        return {
            "candidates": None if chosen is None else [[a.to_dict(), number] for a, number in chosen],
            "asked": self._asked,
            "waiting": list(self._waiting),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        chosen = state["candidates"]
        self._candidates = None if chosen is None else [(Architecture(values), number) for values, number in chosen]
        self._asked, self._waiting = state["asked"], list(state["waiting"])

    @classmethod
    def fidelities(cls, settings: Mapping[str, Any]) -> tuple[float, ...]:
        """Return the setting ``fidelity``; see `Strategy.fidelities`."""
        return () if settings.get("fidelity") is None else (settings["fidelity"],)

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the function that checks the settings."""
        return _check

    def _choose(self, services: Services) -> list[tuple[Architecture, int]]:
        chosen: dict[Architecture, tuple[Architecture, int]] = {}
        for stage in self._stages:
            trials = self._order.comparable(services.trials(stage))
            if not trials:
                raise RunFailedError(f"rerank: the stage '{stage}' has no feasible trial to evaluate again")
            for name in self._order.objectives:
                if not any(name in trial.metrics or name in trial.costs for trial in trials):
                    measured = ", ".join(sorted({key for trial in trials for key in trial.metrics}))
                    raise RunFailedError(
                        f"rerank: the stage '{stage}' did not measure '{name}', by which its best candidates are to be "
                        f"chosen; name one of its metrics ({measured}) in the setting by, such as {{loss: minimize}}"
                    )
            feasible = [trial for trial in trials if self._problem.feasible(trial.architecture)]
            if not feasible:
                limits = ", ".join(f"{each.metric} {each.text}" for each in self._problem.constraints)
                raise RunFailedError(f"rerank: no trial of the stage '{stage}' meets the constraints ({limits})")
            for trial in best_trials(self._order, self._space, feasible, self._top_k):
                key = self._space.canonical(trial.architecture)
                chosen.setdefault(key, (trial.architecture, trial.number))
        return list(chosen.values())


def _check(*, stages: list[str], top_k: int, by: dict[str, Direction] | None) -> None:
    if not stages:
        raise ConfigurationError("name at least one earlier stage, such as stages: [search]", path="stages")
    if top_k < 1:
        raise ConfigurationError(f"top_k must be at least 1, not {top_k}", path="top_k")
    if by is not None and not by:
        raise ConfigurationError("name an objective, such as {loss: minimize}, or leave it out", path="by")
