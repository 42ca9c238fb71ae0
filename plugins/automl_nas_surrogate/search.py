"""`SurrogateSearch`: local search guided by a Gaussian process."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.space import Architecture, SearchSpace, neighbours, sample
from automl_nas.strategy import AskTellStrategy, FeasibleSampler, Problem, Proposal, Trial
from automl_nas.streams import stream
from automl_nas_surrogate.features import Features, Featurizer
from automl_nas_surrogate.process import PRIOR, Array, Process, Theta, fit, log_expected_improvement, normal_scores
from automl_nas_surrogate.worth import Member, improved, worths

_GROWTH = 1.15  # the hyper-parameters are fitted again when there are so many times as many trials
_ALWAYS = 12  # and at every trial before this one


@final
class SurrogateSearch(AskTellStrategy):
    """Propose, among neighbours of the best and random architectures, the one that a model expects most of.

    The model is a Gaussian process. It compares architectures by the share of decisions in which they differ and by the
    costs that the problem names, which are known before an evaluation, and learns the order of results, not their
    values. The proposal is the candidate with the largest expected improvement. When the best has not been improved for
    ``patience`` trials, every ``period``-th proposal is the candidate the model knows least about.

    Several objectives are made one with random weights at each proposal (ParEGO, Knowles 2006). Candidates that miss a
    constraint on a cost are not proposed; those that missed one on a metric, or failed, count as worse than all others.
    While results are outstanding the model takes what it expects of them for granted.

    Args:
        space: what is searched; equal networks are recognised by its ``canonical``, and none is proposed twice.
        problem: objectives and constraints.
        seed: of the run.
        initial: random candidates at the beginning.
        parents: of the best so many have their neighbours judged by the model.
        neighbourhood: neighbours of each of them at most, drawn at random where there are more.
        random: random candidates that are judged with them.
        patience: trials without an improvement before uncertainty is looked for, too.
        period: every so many proposals then.
        costs: whether costs are compared.
        memory: trials the model is made of: half of them the best, the others the latest.
        attempts: uniform draws for one random candidate before other ways are tried.

    Raises:
        ConfigurationError: a setting is out of range.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        seed: int,
        initial: int = 4,
        parents: int = 5,
        neighbourhood: int = 60,
        random: int = 100,
        patience: int = 5,
        period: int = 3,
        costs: bool = True,
        memory: int = 300,
        attempts: int = 1000,
    ) -> None:
        for name, value, low in (
            ("initial", initial, 2),
            ("parents", parents, 1),
            ("neighbourhood", neighbourhood, 1),
            ("random", random, 0),
            ("patience", patience, 1),
            ("period", period, 1),
            ("memory", memory, 4),
        ):
            if value < low:
                raise ConfigurationError(f"{name} must be at least {low}, not {value}", path=name)
        self._space, self._problem, self._seed = space, problem, seed
        self._initial, self._parents, self._random, self._memory = initial, parents, random, memory
        self._neighbourhood, self._patience, self._period = neighbourhood, patience, period
        self._featurizer = Featurizer(space, problem, costs, seed)
        self._drawer = FeasibleSampler(space, problem, attempts)
        self._proposed_keys: dict[Architecture, None] = {}
        self._outstanding: dict[Architecture, None] = {}
        self._members: list[Member] = []
        self._proposed = self._since = self._fitted = 0
        self._theta: Theta = PRIOR

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates; see `AskTellStrategy.ask`.

        Raises:
            InfeasibleError: no architecture that meets the constraints was ever found.
        """
        proposals: list[Proposal] = []
        while len(proposals) < n and (proposal := self._propose()) is not None:
            key = self._space.canonical(proposal.architecture)
            self._proposed_keys[key] = self._outstanding[key] = None
            self._proposed += 1
            proposals.append(proposal)
        return proposals

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn from trials; see `AskTellStrategy.tell`.

        Only those of the highest fidelity are learnt from; a lower one is no substitute and no candidate any more.

        Raises:
            SpaceError: a trial that was not asked for has an architecture of another space.
        """
        for trial in trials:
            key = self._space.canonical(trial.architecture)
            if key in self._outstanding:
                del self._outstanding[key]
            else:
                key = self._space.canonical(self._space.validate(trial.architecture))
            self._proposed_keys[key] = None
            member = Member.of(self._problem, trial)
            highest = self._members[0].fidelity if self._members else -math.inf
            if member.fidelity > highest:
                self._members, self._since, self._fitted = [], 0, 0
            if member.fidelity >= highest:
                known = [other.scores for other in self._members if other.feasible]
                self._since = 0 if member.feasible and improved(member.scores, known) else self._since + 1
                self._members.append(member)

    def _propose(self) -> Proposal | None:
        rng = stream(self._seed, "surrogate", self._proposed)
        if len(self._members) >= self._initial:
            worth = worths(self._members, rng)
            order = sorted(range(len(worth)), key=lambda place: worth[place], reverse=True)  # the earlier of equals
            if candidates := self._candidates([self._members[place].architecture for place in order], rng):
                values, origin = self._judge(list(candidates), self._kept(order), worth)
                return Proposal(list(candidates.values())[int(np.argmax(values))], info={"origin": origin})
        try:
            drawn = self._drawer.draw(rng, self._proposed_keys)
        except InfeasibleError:
            if self._proposed_keys:
                return None
            raise
        return None if drawn is None else Proposal(drawn, info={"origin": "random"})

    def _candidates(self, best: Sequence[Architecture], rng: random.Random) -> dict[Architecture, Architecture]:
        """Return canonical form -> architecture of what may be proposed."""
        decisions, canonical, feasible = self._space.decisions, self._space.canonical, self._problem.feasible
        around: list[Architecture] = []
        for parent in best[: self._parents]:
            near = list(neighbours(parent, decisions))
            around += near if len(near) <= self._neighbourhood else rng.sample(near, self._neighbourhood)
        around += [sample(decisions, rng) for _ in range(self._random)]
        found: dict[Architecture, Architecture] = {}
        for architecture in around:
            key = canonical(architecture)
            if key not in found and key not in self._proposed_keys and feasible(architecture):
                found[key] = architecture
        return found

    def _kept(self, order: Sequence[int]) -> list[int]:
        if len(order) <= self._memory:
            return list(range(len(order)))
        best = set(order[: self._memory // 2])
        latest = [place for place in range(len(order)) if place not in best][-(self._memory - len(best)) :]
        return sorted(best.union(latest))

    def _judge(
        self, candidates: Sequence[Architecture], kept: Sequence[int], worth: Sequence[tuple[int, float]]
    ) -> tuple[Array, str]:
        canonical = self._space.canonical
        known = self._featurizer([canonical(self._members[place].architecture) for place in kept])
        values = normal_scores([worth[place] for place in kept])
        decisions, costs = known.distances(known)
        count = len(self._members)
        if count < _ALWAYS or count >= self._fitted * _GROWTH:
            self._theta, self._fitted = fit(decisions, costs, values), count
        process = Process(decisions, costs, values, self._theta)
        best = float(values.max())
        if self._outstanding:
            process = self._believing(known, values, process)
            known = known.followed_by(self._featurizer(list(self._outstanding)))
        mean, deviation = process.predict(*known.distances(self._featurizer(candidates)))
        if self._since >= self._patience and not self._proposed % self._period:
            return deviation, "uncertain"
        return log_expected_improvement(mean, deviation, best), "model"

    def _believing(self, known: Features, values: Array, process: Process) -> Process:
        """Return the model as if what is outstanding had come out as expected (Ginsbourger et al. 2010, 4.2)."""
        awaited = self._featurizer(list(self._outstanding))
        expected, _ = process.predict(*known.distances(awaited))
        together = known.followed_by(awaited)
        return Process(*together.distances(together), np.concatenate([values, expected]), self._theta)

    def search_state(self) -> dict[str, Any]:
        """Return counters, hyper-parameters, architectures and what they were worth, as plain data."""
        return {
            "proposed": self._proposed,
            "since": self._since,
            "fitted": self._fitted,
            "theta": list(self._theta),
            "claimed": [item.key for item in self._proposed_keys],
            "outstanding": [item.key for item in self._outstanding],
            "members": [member.state() for member in self._members],
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what `search_state` returned."""
        self._proposed, self._since, self._fitted = state["proposed"], state["since"], state["fitted"]
        decisions, costs, noise = state["theta"]
        self._theta = (decisions, costs, noise)
        self._proposed_keys = dict.fromkeys(Architecture.from_json(text) for text in state["claimed"])
        self._outstanding = dict.fromkeys(Architecture.from_json(text) for text in state["outstanding"])
        self._members = [Member.load(item) for item in state["members"]]
