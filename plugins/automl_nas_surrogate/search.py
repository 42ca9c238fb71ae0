"""`SurrogateSearch`: local search guided by a Gaussian process."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, final

import numpy as np

from automl_nas.errors import ConfigurationError, InfeasibleError
from automl_nas.evaluation import Evaluator, Task
from automl_nas.space import Architecture, SearchSpace, neighbours, sample_neighbours
from automl_nas.strategy import AskTellStrategy, FeasibleSampler, Preparation, Problem, Proposal, Trial
from automl_nas.streams import stream
from automl_nas_surrogate.candidates import Candidates, Group
from automl_nas_surrogate.evidence import Evidence
from automl_nas_surrogate.features import Featurizer
from automl_nas_surrogate.fitness import Member, fitness, improved
from automl_nas_surrogate.gaussian_process import Array, log_expected_improvement, normal_scores
from automl_nas_surrogate.model import Model
from automl_nas_surrogate.screening import Screening

_MANY = 24
"""Neighbours of a parent from which on comparing them with one more trial takes less time than with all again."""

_PART = 10
"""Candidates of the pool that a step measures at least: the slowest evidence takes a few seconds for each."""


def check_settings(
    space: SearchSpace,
    problem: Problem,
    *,
    initial: int,
    parents: int,
    neighbourhood: int,
    random: int,
    patience: int,
    period: int,
    memory: int,
    attempts: int,
    pool: int,
    screened: int,
) -> None:
    """Check the settings that are numbers.

    Raises:
        ConfigurationError: a setting is outside its range.
    """
    for name, value, low in (
        ("initial", initial, 2),
        ("parents", parents, 1),
        ("neighbourhood", neighbourhood, 1),
        ("random", random, 0),
        ("patience", patience, 1),
        ("period", period, 1),
        ("memory", memory, 4),
        ("pool", pool, 2),
        ("screened", screened, 0),
    ):
        if value < low:
            raise ConfigurationError(f"{name} must be at least {low}, not {value}", path=name)
    FeasibleSampler(space, problem, attempts)


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

    ``evidence`` names cheap evaluators, such as zero-cost proxies or the weights of a supernet. They measure candidates
    before one is proposed, in this process, and the model predicts results by a linear function of these numbers, too:
    each counts as much as it has helped to predict. ``pool`` random candidates are measured when the search begins, in
    steps of at least ten; the first trials are those with the best sum of ranks. Then ``screened`` more are measured
    for each proposal. The numbers are recorded as the trial's info ``evidence``.

    Args:
        space: the search space; no two proposals have the same ``canonical`` architecture.
        problem: objectives and constraints.
        task: which metrics of evidence are better if they are smaller; a search without a task needs none.
        seed: of the run.
        initial: number of random candidates at the beginning.
        parents: number of the best trials whose neighbours are candidates.
        neighbourhood: largest number of neighbours of each parent; if there are more, a random sample of them.
        random: number of random candidates in addition to neighbours.
        patience: trials without an improvement after which uncertain candidates are also proposed.
        period: proposals from one uncertain candidate to the next.
        costs: whether costs are compared.
        memory: number of trials in the model: half of them the best of the earlier ones, and the latest; up to a tenth
            more, since a tenth is forgotten at once.
        attempts: uniform samples for one random candidate before `FeasibleSampler` uses other methods.
        evidence: evaluators, each of which measures candidates before they are proposed.
        pool: number of random candidates that are measured for evidence before the first proposal.
        screened: largest number of other candidates that are measured for evidence for each proposal.

    Raises:
        ConfigurationError: a setting is outside its range.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        task: Task | None = None,
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
        evidence: list[Evaluator] = [],  # noqa: B006 - a default of the configuration, never changed
        pool: int = 1000,
        screened: int = 20,
    ) -> None:
        check_settings(
            space,
            problem,
            initial=initial,
            parents=parents,
            neighbourhood=neighbourhood,
            random=random,
            patience=patience,
            period=period,
            memory=memory,
            attempts=attempts,
            pool=pool,
            screened=screened,
        )
        self._space, self._problem, self._seed = space, problem, seed
        self._initial, self._parents, self._random, self._memory = initial, parents, random, memory
        self._neighbourhood, self._patience, self._period = neighbourhood, patience, period
        self._sampler = FeasibleSampler(space, problem, attempts)
        self._evidence = Evidence(problem, task, evidence, seed)
        self._model = Model(Featurizer(space, problem, self._sampler if costs else None, seed), self._evidence)
        self._screening = Screening(space, self._sampler, self._evidence, self._model, seed, pool, screened)
        self._listed: dict[Architecture, Group | None] = {}
        self._proposed_keys: dict[Architecture, None] = {}
        self._outstanding: dict[Architecture, None] = {}
        self._all: list[Member] = []
        self._counts: Counter[float] = Counter()  # fidelity -> number of trials
        self._members: list[Member] = []  # those of the fidelity that the model uses
        self._proposed = self._since = 0

    @classmethod
    def checker(cls) -> Callable[..., object]:
        """Return the function that checks the numbers; evaluators of evidence may need weights of an earlier stage."""
        return check_settings

    def prepare(self) -> Preparation | None:
        """Measure a part of the pool."""
        return self._screening.fill(max(_PART, self._evidence.taken_ahead))

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
                self._since = 0
                self._model.restart()
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
        self._screening.fill()
        if len(self._members) >= self._initial:
            values = fitness(self._members, rng)
            order = sorted(range(len(values)), key=lambda index: values[index], reverse=True)  # stable: ties by time
            candidates = self._candidates([self._members[index].architecture for index in order], rng)
            remembered = self._remembered(order)
            scores = normal_scores([values[index] for index in remembered])
            if candidates.keys and (proposal := self._best(candidates, remembered, scores)) is not None:
                return proposal
        elif (architecture := self._screening.first(self._proposed_keys)) is not None:
            return self._proposal(architecture, "evidence")
        try:
            architecture = self._sampler.draw(rng, self._proposed_keys)
        except InfeasibleError:
            if self._proposed_keys:
                return None
            raise
        return None if architecture is None else self._proposal(architecture, "random")

    def _proposal(self, architecture: Architecture, origin: str) -> Proposal:
        info: dict[str, object] = {"origin": origin}
        if self._evidence:
            key = self._space.canonical(architecture)
            self._evidence.measure([key])
            info["evidence"] = dict(self._evidence.of(key))
            if origin in ("model", "uncertain"):
                info["weights"] = self._model.weights
        return Proposal(architecture, info=info)

    def _candidates(self, best: Sequence[Architecture], rng: random.Random) -> Candidates:
        """Return the candidates that may be proposed.

        Args:
            best: architectures, the best first.
            rng: of neighbours and random candidates.
        """
        groups: list[Group] = []
        earlier, self._listed = self._listed, {}
        for parent in best[: self._parents]:
            listed = earlier[parent] if parent in earlier else self._neighbours_of(parent)
            self._listed[parent] = listed
            if listed is None:
                listed = Group(
                    self._feasible(sample_neighbours(parent, self._space.decisions, rng, self._neighbourhood))
                )
            groups.append(listed)
        groups.append(Group(self._feasible([self._sampler.sample(rng) for _ in range(self._random)])))
        return Candidates(self._model, groups, self._proposed_keys)

    def _neighbours_of(self, parent: Architecture) -> Group | None:
        """Return all feasible neighbours; None: more than the limit exist.

        The parents of a proposal are often those of the one before, so this is remembered.
        """
        every = list(islice(neighbours(parent, self._space.decisions), self._neighbourhood + 1))
        if len(every) > self._neighbourhood:
            return None
        pairs = self._feasible(every)
        many = len(pairs) >= _MANY
        return Group(pairs, self._model.compared([key for key, _ in pairs], recurring=True) if many else None)

    def _feasible(self, architectures: Sequence[Architecture]) -> list[tuple[Architecture, Architecture]]:
        """Return canonical forms and architectures of those that meet the constraints on costs."""
        feasible = self._problem.feasible
        return [(self._space.canonical(item), item) for item in architectures if feasible(item)]

    def _remembered(self, order: Sequence[int]) -> list[int]:
        """Return the indices of the members in the model: the best half of the earlier ones, then the latest.

        Of the latest, a tenth of the memory is forgotten at once, and there may be so many more. So the model of most
        proposals is that of the one before, and one trial.

        Args:
            order: the indices of all members, the best first.
        """
        count, half, step = len(order), self._memory // 2, max(self._memory // 10, 1)
        if count <= self._memory:
            return list(range(count))
        latest = (count - half) // step * step
        return sorted([index for index in order if index < latest][:half]) + list(range(latest, count))

    def _best(self, candidates: Candidates, remembered: Sequence[int], scores: Array) -> Proposal | None:
        """Return the candidate with the largest utility.

        Args:
            candidates: at least one.
            remembered: indices of the members in the model.
            scores: their scores.
        """
        canonical = self._space.canonical
        members = [canonical(self._members[index].architecture) for index in remembered]
        if self._evidence:
            self._evidence.measure(members)
        self._model.learn(members, scores, list(self._outstanding), len(self._members))
        best, uncertain = float(scores.max()), self._since >= self._patience and not self._proposed % self._period

        def utility(mean: Array, deviation: Array) -> Array:
            return deviation if uncertain else log_expected_improvement(mean, deviation, best)

        if self._evidence:
            architecture = self._screening.best(candidates, self._proposed_keys, utility)
        else:
            keys, whitened = candidates.keys, candidates.whitened()
            place = int(np.argmax(utility(*self._model.predict(whitened, np.zeros((len(keys), 0))))))
            architecture = candidates.architectures[keys[place]]
        return None if architecture is None else self._proposal(architecture, "uncertain" if uncertain else "model")

    def search_state(self) -> dict[str, Any]:
        """Return counters, hyper-parameters, architectures and their results as plain data."""
        return {
            "proposed": self._proposed,
            "since": self._since,
            "model": self._model.state(),
            "claimed": [item.key for item in self._proposed_keys],
            "outstanding": [item.key for item in self._outstanding],
            "members": [member.state() for member in self._all],
            "screening": self._screening.state(),
        }

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        """Load what `search_state` returned."""
        self._proposed, self._since = state["proposed"], state["since"]
        self._model.load(state["model"])
        self._proposed_keys = dict.fromkeys(Architecture.from_json(text) for text in state["claimed"])
        self._outstanding = dict.fromkeys(Architecture.from_json(text) for text in state["outstanding"])
        self._all = [Member.load(item) for item in state["members"]]
        self._counts = Counter(member.fidelity for member in self._all)
        used = self._fidelity() if self._all else math.inf
        self._members = [member for member in self._all if member.fidelity == used]
        self._screening.load(state["screening"])
