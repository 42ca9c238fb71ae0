"""`SurrogateSearch`: local search guided by a Gaussian process."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.space import Architecture, SearchSpace, sample_neighbours
from automl_nas.strategy import AskTellStrategy, FeasibleSampler, Problem, Proposal, Trial
from automl_nas.streams import stream
from automl_nas_surrogate.features import Features, Featurizer
from automl_nas_surrogate.fitness import Fitness, Member, fitness, improved
from automl_nas_surrogate.gaussian_process import (
    PRIOR,
    Array,
    GaussianProcess,
    Theta,
    fit,
    log_expected_improvement,
    normal_scores,
)

_REFIT_GROWTH = 1.15  # the hyper-parameters are fitted again when the number of trials has grown by this factor
_ALWAYS_REFIT = 12  # with fewer trials they are fitted at every proposal


@final
class SurrogateSearch(AskTellStrategy):
    """Propose the best candidate by the prediction of a model, among neighbours of the best and random architectures.

    The model is a Gaussian process. It compares architectures by the share of decisions in which they differ and by the
    problem's costs, which are computed before an evaluation, and learns the order of results, not their values. The
    proposal is the candidate with the largest expected improvement. After ``patience`` trials without an improvement of
    the best, every ``period``-th proposal is the candidate with the largest predicted standard deviation.

    Several objectives are combined with random weights at each proposal (ParEGO, Knowles 2006). Candidates that violate
    a constraint on a cost are not proposed; those that violated a constraint on a metric, or failed, have a lower
    fitness than all others. Outstanding trials enter the model with their predicted results.

    Args:
        space: the search space; no two proposals have the same ``canonical`` architecture.
        problem: objectives and constraints.
        seed: of the run.
        initial: number of random candidates at the beginning.
        parents: number of the best trials whose neighbours are candidates.
        neighbourhood: largest number of neighbours of each parent; if there are more, a random sample of them.
        random: number of random candidates in addition to neighbours.
        patience: trials without an improvement after which uncertain candidates are also proposed.
        period: proposals from one uncertain candidate to the next.
        costs: whether costs are compared.
        memory: number of trials in the model: half of them the best, the others the latest.
        attempts: uniform samples for one random candidate before `FeasibleSampler` uses other methods.

    Raises:
        ConfigurationError: a setting is outside its range.
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
        self._sampler = FeasibleSampler(space, problem, attempts)
        self._featurizer = Featurizer(space, problem, self._sampler if costs else None, seed)
        self._proposed_keys: dict[Architecture, None] = {}
        self._outstanding: dict[Architecture, None] = {}
        self._all: list[Member] = []
        self._counts: Counter[float] = Counter()  # fidelity -> number of trials
        self._members: list[Member] = []  # those of the fidelity that the model uses
        self._proposed = self._since = self._fitted = 0
        self._theta: Theta = PRIOR

    def ask(self, n: int) -> list[Proposal]:
        """Propose at most n candidates; see `AskTellStrategy.ask`.

        Raises:
            InfeasibleError: no architecture that meets the constraints has been found.
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

        The trials of one fidelity are used: the highest with at least ``initial`` trials, or the highest of all if none
        has so many. The architectures of the others are not proposed again.

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
            self._all.append(member)
            self._counts[member.fidelity] += 1
            used = self._fidelity()
            if self._members and self._members[0].fidelity != used:
                self._members = [other for other in self._all if other.fidelity == used]
                self._since = self._fitted = 0
            elif member.fidelity == used:
                earlier = [other.scores for other in self._members if other.feasible]
                self._since = 0 if member.feasible and improved(member.scores, earlier) else self._since + 1
                self._members.append(member)

    def _fidelity(self) -> float:
        """Return the fidelity whose trials the model uses; Falkner et al. 2018 (BOHB), section 4.1, choose it so."""
        enough = [fidelity for fidelity, count in self._counts.items() if count >= self._initial]
        return max(enough or self._counts)

    def _propose(self) -> Proposal | None:
        rng = stream(self._seed, "surrogate", self._proposed)
        if len(self._members) >= self._initial:
            values = fitness(self._members, rng)
            order = sorted(range(len(values)), key=lambda index: values[index], reverse=True)  # stable: ties by time
            if candidates := self._candidates([self._members[index].architecture for index in order], rng):
                utilities, origin = self._utilities(list(candidates), self._remembered(order), values)
                return Proposal(list(candidates.values())[int(np.argmax(utilities))], info={"origin": origin})
        try:
            architecture = self._sampler.draw(rng, self._proposed_keys)
        except InfeasibleError:
            if self._proposed_keys:
                return None
            raise
        return None if architecture is None else Proposal(architecture, info={"origin": "random"})

    def _candidates(self, best: Sequence[Architecture], rng: random.Random) -> dict[Architecture, Architecture]:
        """Return canonical form -> architecture of the candidates that may be proposed.

        Args:
            best: architectures, the best first.
            rng: of neighbours and random candidates.
        """
        decisions, canonical, feasible = self._space.decisions, self._space.canonical, self._problem.feasible
        around: list[Architecture] = []
        for parent in best[: self._parents]:
            around += sample_neighbours(parent, decisions, rng, self._neighbourhood)
        around += [self._sampler.sample(rng) for _ in range(self._random)]
        candidates: dict[Architecture, Architecture] = {}
        for architecture in around:
            key = canonical(architecture)
            if key not in candidates and key not in self._proposed_keys and feasible(architecture):
                candidates[key] = architecture
        return candidates

    def _remembered(self, order: Sequence[int]) -> list[int]:
        """Return the ascending indices of the members in the model; ``order`` lists all of them, the best first."""
        if len(order) <= self._memory:
            return list(range(len(order)))
        best = set(order[: self._memory // 2])
        latest = [index for index in range(len(order)) if index not in best][-(self._memory - len(best)) :]
        return sorted(best.union(latest))

    def _utilities(
        self, candidates: Sequence[Architecture], remembered: Sequence[int], fitness_values: Sequence[Fitness]
    ) -> tuple[Array, str]:
        """Return the utility of each candidate, shape ``(m,)``, and the origin of the proposal.

        Args:
            candidates: m architectures in canonical form.
            remembered: indices of the members in the model.
            fitness_values: the fitness of all members.
        """
        canonical = self._space.canonical
        features = self._featurizer([canonical(self._members[index].architecture) for index in remembered])
        values = normal_scores([fitness_values[index] for index in remembered])
        decisions, costs = features.distances(features)
        count = len(self._members)
        if count < _ALWAYS_REFIT or count >= self._fitted * _REFIT_GROWTH:
            self._theta, self._fitted = fit(decisions, costs, values), count
        process = GaussianProcess(decisions, costs, values, self._theta)
        best = float(values.max())
        if self._outstanding:
            process = self._with_outstanding(features, values, process)
            features = features.concatenated(self._featurizer(list(self._outstanding)))
        mean, deviation = process.predict(*features.distances(self._featurizer(candidates)))
        if self._since >= self._patience and not self._proposed % self._period:
            return deviation, "uncertain"
        return log_expected_improvement(mean, deviation, best), "model"

    def _with_outstanding(self, features: Features, values: Array, process: GaussianProcess) -> GaussianProcess:
        """Return the model with predicted means as the values of outstanding trials.

        This is the "kriging believer" of Ginsbourger et al. 2010, section 4.2.
        """
        outstanding = self._featurizer(list(self._outstanding))
        expected, _ = process.predict(*features.distances(outstanding))
        together = features.concatenated(outstanding)
        return GaussianProcess(*together.distances(together), np.concatenate([values, expected]), self._theta)

    def search_state(self) -> dict[str, Any]:
        """Return counters, hyper-parameters, architectures and their results as plain data."""
        return {
            "proposed": self._proposed,
            "since": self._since,
            "fitted": self._fitted,
            "theta": list(self._theta),
            "claimed": [item.key for item in self._proposed_keys],
            "outstanding": [item.key for item in self._outstanding],
            "members": [member.state() for member in self._all],
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Load what `search_state` returned."""
        self._proposed, self._since, self._fitted = state["proposed"], state["since"], state["fitted"]
        decisions, costs, noise = state["theta"]
        self._theta = (decisions, costs, noise)
        self._proposed_keys = dict.fromkeys(Architecture.from_json(text) for text in state["claimed"])
        self._outstanding = dict.fromkeys(Architecture.from_json(text) for text in state["outstanding"])
        self._all = [Member.load(item) for item in state["members"]]
        self._counts = Counter(member.fidelity for member in self._all)
        used = self._fidelity() if self._all else math.inf
        self._members = [member for member in self._all if member.fidelity == used]
