"""Clauses of ask-and-tell strategies about repeating and resuming: `AskTellRepeats`."""

from __future__ import annotations

from dataclasses import replace

from automl_nas.strategy.trial import Proposal
from automl_nas.testing.ask_tell_searches import AskTellSearches
from automl_nas.testing.clock import fast_clock
from automl_nas.testing.contract import require
from automl_nas.testing.handed import state_size
from automl_nas.testing.services import SimulatedServices
from automl_nas.testing.states import require_plain, same, stored


class AskTellRepeats(AskTellSearches):
    """A search is a function of its seed and of the trials, wherever it was interrupted."""

    def test_the_same_seed_proposes_the_same(self) -> None:
        """Proposals are a function of the seed and of the trials.

        Way out: draw every random number from `automl_nas.streams.stream(seed, purpose, counter)`, and keep all data in
        the instance.
        """
        require(self.run(1) == self._whole(), "a second instance with the same seed makes other proposals")

    def test_another_seed_proposes_others(self) -> None:
        """The proposals of several seeds are not all the same.

        Way out: use the constructor's seed; a constant seed repeats one search.
        """
        searches = {tuple(p.architecture.key for p in self.run(seed, budget=8)) for seed in range(4)}
        require(len(searches) > 1, "4 seeds make the same proposals")

    def test_every_seed_is_accepted(self) -> None:
        """Seeds of a run have up to 63 bits.

        Way out: pass the seed to `automl_nas.streams.stream`, or give NumPy's old generator `seed % 2**32`.
        """
        for seed in (0, 2**32 + 5, 2**63 - 1):
            require(self.run(seed, budget=4), f"with the seed {seed} it proposes nothing")

    def test_instances_are_independent(self) -> None:
        """Two searches in one process, which take steps in turn, make the proposals that each makes alone.

        Way out: keep data in attributes of the instance, set in the constructor; a mutable attribute of the class or a
        mutable default of a parameter is shared by all instances.
        """
        space = self.space()
        problem = self.problem(space)
        evaluate = self.evaluation(space, problem)
        pairs = [
            (self.make(space, problem, seed), SimulatedServices(evaluate, batch=3, ahead=6, budget=self.trials))
            for seed in (1, 2)
        ]
        for _ in range(10 * self.trials):
            for strategy, services in pairs:
                if not strategy.done and services.remaining:
                    strategy.step(services)
        alone = self._whole()
        submitted = pairs[0][1].submitted
        require(submitted[: len(alone)] == alone[: len(submitted)], "another instance changed the proposals")

    def test_it_resumes_at_every_step(self) -> None:
        """Stopped before any step and resumed from a stored state, the strategy makes the same proposals.

        Way out: `search_state` returns everything that `ask` and `tell` read and change, whatever the length of the
        search: proposals that were not told, counters, the order of dicts and lists. `load_search_state` sets all of
        it.
        """
        whole = self._whole()
        require(len(whole) >= min(self.trials, self._most()), f"it made only {len(whole)} of {self.trials} proposals")
        for stop in sorted({1, 2, 3, *range(4, self.trials // 3 + 1, max(1, self.trials // 15))}):
            require(self.run(stop=stop) == whole, f"resuming before step {stop} changed the proposals")
        length = max(self.trials, self.search_length)
        plain, resumed = self._long(length, "never"), self._long(length, "resume")
        first = _first_difference(plain, resumed)
        require(first is None, f"resumed before every step of {length} trials, proposal {first} is another one")

    def test_reading_the_state_changes_nothing(self) -> None:
        """A search whose state is read after every step makes the proposals of a search whose state is never read.

        Way out: `search_state` returns copies, and neither draws random numbers nor clears anything.
        """
        length = max(self.trials, self.search_length)
        first = _first_difference(self._long(length, "never"), self._long(length, "read"))
        require(first is None, f"reading the state changed proposal {first}")

    def test_a_loaded_state_is_not_changed(self) -> None:
        """`load_search_state` copies what it keeps: the state that it received stays the same.

        Way out: copy lists and dicts of the state, for example `self._population = list(state["population"])`.
        """
        space = self.space()
        problem = self.problem(space)
        strategy, evaluate = self.make(space, problem, 1), self.evaluation(space, problem)
        strategy.tell([evaluate(number, proposal) for number, proposal in enumerate(strategy.ask(6))])
        state = stored(strategy.search_state())
        before = stored(state)
        other = self.make(space, problem, 1)
        other.load_search_state(state)
        for _ in range(3):
            other.tell([evaluate(20 + number, proposal) for number, proposal in enumerate(other.ask(3))])
        require(same(state, before), "the loaded state was changed by the search that loaded it")

    def test_the_state_is_plain(self) -> None:
        """The state has dicts with string keys, lists, JSON scalars and tensors, which checkpoints can store.

        Way out: store an architecture as `dict(architecture)` or its key, a generator as `list(rng.getstate())`.
        """
        space = self.space()
        problem = self.problem(space)
        strategy, evaluate = self.make(space, problem, 1), self.evaluation(space, problem)
        proposals = strategy.ask(9)
        for count in (0, 1, 6):
            strategy.tell([evaluate(number, proposal) for number, proposal in enumerate(proposals[:count])])
            require_plain(strategy.search_state(), "search_state()")

    def test_the_state_is_bounded(self) -> None:
        """The size of the state grows at most by `state_limit` bytes for each trial.

        Way out: store numbers of trials instead of copies of lists; do not store what can be computed again.
        """
        space = self.space()
        problem = self.problem(space)
        strategy = self.make(space, problem, 1)
        services = SimulatedServices(self.evaluation(space, problem), batch=3, ahead=6, budget=self.trials)
        for _ in range(self.trials):
            if not strategy.done and services.remaining:
                strategy.step(services)
            size, allowed = state_size(strategy.state_dict()), self.state_limit * (50 + len(services.submitted))
            require(size <= allowed, f"after {len(services.submitted)} trials it has {size:,} bytes, over {allowed:,}")

    def test_the_order_of_completion_changes_nothing(self) -> None:
        """The proposals are the same in every order in which trials finish.

        Way out: `tell` receives trials in the order of proposals; use neither `Trial.seconds` nor the time of the call.
        """
        ordered = self.run(batch=2, ahead=8)
        for shuffle in range(3):
            require(self.run(batch=2, ahead=8, shuffle=shuffle) == ordered, "another order changed the proposals")

    def test_steps_do_not_depend_on_the_clock(self) -> None:
        """On a slower machine the strategy makes the same proposals.

        Way out: bound the work of a step by a number of draws, not by a time.
        """
        with fast_clock():
            slow = self.run(1)
        require(slow == self._whole(), "with a clock that runs faster the proposals are other ones")

    def test_durations_change_nothing(self) -> None:
        """The proposals do not depend on how long evaluations took.

        Way out: do not read `Trial.seconds`, nor a clock: a resumed search would make other proposals.
        """
        space = self.space()
        problem = self.problem(space)
        evaluate, proposals = self.evaluation(space, problem), []
        for factor in (0.0, 3.7):
            services = SimulatedServices(
                lambda n, p, factor=factor: replace(evaluate(n, p), seconds=factor * (1 + n % 5)),  # type: ignore[misc]
                batch=3,
                ahead=6,
                budget=self.trials,
            )
            strategy = self.make(space, problem, 1)
            for _ in range(10 * self.trials):
                if not strategy.done and services.remaining:
                    strategy.step(services)
            proposals.append(services.submitted)
        require(proposals[0] == proposals[1], "other durations changed the proposals")


def _first_difference(first: list[Proposal], second: list[Proposal]) -> int | None:
    pairs = zip(first, second, strict=False)
    different = [number for number, (one, two) in enumerate(pairs) if one != two]
    if different:
        return different[0]
    return None if len(first) == len(second) else min(len(first), len(second))
