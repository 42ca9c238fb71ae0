"""Evolutionary search in generations, as in SPOS."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, final

from automl_nas.errors import ConfigurationError
from automl_nas.space import Architecture, SearchSpace
from automl_nas.strategy import Problem, Proposal, Trial
from automl_nas_evolution.deduplicating_search import DeduplicatingSearch, make_proposal
from automl_nas_evolution.members import Member, fittest


@final
class EvolutionarySearch(DeduplicatingSearch):
    """Evolutionary architecture search of "Single Path One-Shot NAS" (Guo et al. 2020, arXiv 1904.00420, algorithm 1).

    The first generation is random. The parents of each later generation are the ``top_k`` best of *all* candidates
    evaluated before, in any generation or by any other means. A generation consists of children by mutation (each
    decision is sampled again with a probability) and by crossover (each decision is copied from one of two parents).
    Children that violate a constraint on costs or were proposed before are rejected. If a bounded number of attempts
    gives too few children, random candidates complete the generation. A generation is proposed after the trials of the
    previous one have been received.

    With several objectives, the order of NSGA-II over an archive of ``population`` members defines the best:
    non-dominated front, then crowding distance. Candidates that miss a constraint on a *measured* metric become parents
    only if there are too few feasible ones.

    Args:
        space: the search space.
        problem: objectives and constraints.
        seed: of the run.
        population: number of candidates in a generation.
        generations: number of generations, including the first; None: until the budget is spent.
        top_k: number of parents.
        mutations: number of children by mutation; None: half of the population.
        crossovers: number of children by crossover; None: half of the population.
        mutation_probability: probability of sampling one decision again.
        child_attempts: attempts for each child, on average, before random candidates complete the generation.
        duplicates: whether a network may be evaluated twice.
        attempts: uniform samples for one random candidate before `FeasibleSampler` uses other methods.

    Raises:
        ConfigurationError: a setting is outside its range, or mutations and crossovers exceed the population.
    """

    def __init__(
        self,
        space: SearchSpace,
        problem: Problem,
        *,
        seed: int,
        population: int = 50,
        generations: int | None = 20,
        top_k: int = 10,
        mutations: int | None = None,
        crossovers: int | None = None,
        mutation_probability: float = 0.1,
        child_attempts: int = 10,
        duplicates: bool = False,
        attempts: int = 1000,
    ) -> None:
        super().__init__(space, problem, seed=seed, duplicates=duplicates, attempts=attempts)
        self._mutations = population // 2 if mutations is None else mutations
        self._crossovers = population // 2 if crossovers is None else crossovers
        for name, value, low in (
            ("population", population, 1),
            ("generations", 1 if generations is None else generations, 1),
            ("top_k", top_k, 1),
            ("mutations", self._mutations, 0),
            ("crossovers", self._crossovers, 0),
            ("child_attempts", child_attempts, 1),
        ):
            if value < low:
                raise ConfigurationError(f"{name} must be at least {low}, not {value}", path=name)
        if not 0 <= mutation_probability <= 1:
            raise ConfigurationError(
                f"must be between 0 and 1, not {mutation_probability}", path="mutation_probability"
            )
        if self._mutations + self._crossovers > population:
            raise ConfigurationError(
                f"{self._mutations} mutations and {self._crossovers} crossovers exceed a population of {population}",
                path="mutations",
            )
        self._population, self._generations, self._top_k = population, generations, top_k
        self._probability, self._child_attempts = mutation_probability, child_attempts
        self._archive_size = top_k if len(problem.objectives) == 1 else max(population, top_k)
        self._generation = 0
        self._pending: deque[Proposal] = deque()
        self._archive: list[Member] = []
        self._fresh: list[Member] = []

    @property
    def planned(self) -> int | None:
        """The trials of all generations, unless the space is exhausted before; see `Strategy.planned`."""
        return None if self._generations is None else self._population * self._generations

    def _propose(self) -> Proposal | None:
        if not self._pending:
            if self._outstanding or self._generation == self._generations:
                return None
            self._breed()
        return self._pending.popleft() if self._pending else None

    def _learn(self, architecture: Architecture, trial: Trial, asked: bool) -> None:
        if (member := Member.of(self._problem, trial)) is not None:
            self._fresh.append(member)
            # Bounds memory and the cost of sorting; the best of the selected members are the best of all members.
            if len(self._fresh) >= 4 * self._population:
                self._select()
        if not asked and not self._duplicates:
            canonical = self._space.canonical
            self._pending = deque(p for p in self._pending if canonical(p.architecture) != architecture)

    def _select(self) -> None:
        self._archive = fittest(self._archive + self._fresh, self._archive_size)
        self._fresh = []

    def _breed(self) -> None:
        self._select()
        rng = self._stream("evolution", self._generation)
        parents = self._archive[: self._top_k]
        if parents:
            codec = self._codec
            codes = [codec.encode(member.architecture) for member in parents]
            mutants = codec.mutants(codes, rng, self._probability)
            self._children("mutation", parents, mutants, self._mutations)
            self._children("crossover", parents, codec.crossings(codes, rng), self._crossovers)
        info: dict[str, object] = {"generation": self._generation, "origin": "random"}
        while len(self._pending) < self._population and (child := self._sample(rng)) is not None:
            self._pending.append(make_proposal(child, info))
        self._generation += 1

    def _children(
        self, origin: str, parents: Sequence[Member], children: Iterator[tuple[int, tuple[int, ...]]], count: int
    ) -> None:
        if not count:
            return
        rejected = self._rejected_codes
        for code, places in islice(children, count * self._child_attempts):
            if code not in rejected and (child := self._claim_code(code)) is not None:
                numbers = [parents[place].number for place in places]
                info = {"generation": self._generation, "origin": origin, "parents": numbers}
                self._pending.append(make_proposal(child, info))
                count -= 1
                if not count:
                    break

    def _own_state(self) -> dict[str, Any]:
        return {
            "generation": self._generation,
            "pending": [[p.architecture.to_dict(), dict(p.info)] for p in self._pending],
            "archive": [member.state() for member in self._archive],
            "fresh": [member.state() for member in self._fresh],
        }

    def _load_own_state(self, state: Mapping[str, Any]) -> None:
        self._generation = state["generation"]
        self._pending = deque(Proposal(Architecture(item), info=info) for item, info in state["pending"])
        self._archive = [Member.load(item) for item in state["archive"]]
        self._fresh = [Member.load(item) for item in state["fresh"]]
