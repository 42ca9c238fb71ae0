"""Ask-and-tell strategies that break their contract."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from automl_nas.errors import InfeasibleError
from automl_nas.evaluation import State
from automl_nas.space import Architecture, SearchSpace, operators
from automl_nas.strategy import AskTellStrategy, Problem, Proposal, Trial
from automl_nas.streams import stream
from automl_nas.testing import AskTellContract, Contract
from broken_plugins.cases import Cases


def contract(component: Any) -> type[Contract]:
    class Subject(AskTellContract):
        trials: ClassVar[int] = 30
        search_length: ClassVar[int] = 150

        def make(self, space: SearchSpace, problem: Problem, seed: int) -> AskTellStrategy:
            made: AskTellStrategy = component(space, problem, seed=seed)
            return made

    return Subject


CASES = Cases("searches", contract)


@CASES.keeps
class Climber(AskTellStrategy):
    """Mutates the best architecture so far; keeps the contract."""

    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
        self.space, self.problem, self.seed = space, problem, seed
        self.asked = self.told = 0
        self.best: list[Any] | None = None
        self.seen: set[Architecture] = set()

    def rng(self) -> random.Random:
        return stream(self.seed, "ask", self.asked)

    def usable(self, candidate: Architecture) -> bool:
        return self.space.canonical(candidate) not in self.seen and self.problem.feasible(candidate)

    def draw(self) -> Architecture | None:
        rng = self.rng()
        for attempt in range(400):
            if self.best is not None and attempt < 100:
                candidate = operators.mutate_one(Architecture(self.best[1]), self.space.decisions, rng)
            else:
                candidate = self.space.sample(rng)
            if self.usable(candidate):
                return self.space.validate(candidate)
        if not self.seen:
            raise InfeasibleError(f"no architecture meets {[c.metric for c in self.problem.constraints]}")
        return None

    def propose(self, architecture: Architecture) -> Proposal:
        return Proposal(architecture)

    def ask(self, n: int) -> list[Proposal]:
        proposals: list[Proposal] = []
        while len(proposals) < n and (candidate := self.draw()) is not None:
            self.seen.add(self.space.canonical(candidate))
            self.asked += 1
            proposals.append(self.propose(candidate))
        return proposals

    def score(self, trial: Trial) -> float:
        return self.problem.scores(trial)[0]

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self.told += 1
            self.seen.add(self.space.canonical(trial.architecture))
            if trial.state is State.COMPLETE and trial.feasible:
                score = self.score(trial)
                if score > float("-inf") and (self.best is None or score > self.best[0]):
                    self.best = [score, dict(trial.architecture)]

    def search_state(self) -> dict[str, Any]:
        seen = sorted(item.key for item in self.seen)
        best = None if self.best is None else list(self.best)
        return {"asked": self.asked, "told": self.told, "best": best, "seen": seen}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        self.asked, self.told = state["asked"], state["told"]
        self.best = None if state["best"] is None else list(state["best"])
        self.seen = {Architecture.from_json(key) for key in state["seen"]}


# --- Another process --------------------------------------------------------------------------------------------------


@CASES.breaks("another_process_gives_the_same")
class HashOfText(Climber):
    def rng(self) -> random.Random:
        return random.Random(hash(("ask", str(self.seed), self.asked)))


@CASES.breaks("another_process_gives_the_same")
class OrderOfASet(Climber):
    def draw(self) -> Architecture | None:
        drawn = {super(OrderOfASet, self).draw().key for _ in range(3) if self._advance()}  # type: ignore[union-attr]
        return Architecture.from_json(next(iter(drawn)))

    def _advance(self) -> bool:
        self.asked += 1
        return True


@CASES.breaks("another_process_gives_the_same")
class ProcessId(Climber):
    def rng(self) -> random.Random:
        return stream(self.seed + os.getpid(), "ask", self.asked)


@CASES.breaks("another_process_gives_the_same")
class HourOfTheClock(Climber):
    def rng(self) -> random.Random:
        return stream(self.seed + int(time.time() // 3600), "ask", self.asked)


@CASES.breaks("another_process_gives_the_same")
class WorkingDirectory(Climber):
    def rng(self) -> random.Random:
        return stream(self.seed, str(Path.cwd()), self.asked)


@CASES.breaks("another_process_gives_the_same")
class DefaultDtype(Climber):
    def rng(self) -> random.Random:
        return stream(self.seed, str(float(torch.tensor(0.1) + torch.tensor(0.2))), self.asked)


@CASES.breaks("another_process_gives_the_same")
class Threads(Climber):
    def rng(self) -> random.Random:
        return stream(self.seed, str(torch.get_num_threads()), self.asked)


@CASES.breaks("another_process_gives_the_same")
class UserName(Climber):
    def rng(self) -> random.Random:
        return stream(self.seed, os.environ.get("USER", ""), self.asked)


_STATES: dict[int, Any] = {}


@CASES.breaks("another_process_gives_the_same")
class StateInAGlobal(Climber):
    """The state is a key of a global variable, which another process lacks."""

    def search_state(self) -> dict[str, Any]:
        _STATES[len(_STATES)] = super().search_state()
        return {"key": len(_STATES) - 1}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        super().load_search_state(_STATES.get(state["key"], {"asked": 0, "told": 0, "best": None, "seen": []}))


# --- Global state -----------------------------------------------------------------------------------------------------


@CASES.breaks("the_global_generators_are_left_alone")
class DrawsFromPython(Climber):
    def ask(self, n: int) -> list[Proposal]:
        random.random()
        return super().ask(n)


@CASES.breaks("the_global_generators_are_left_alone")
class SeedsNumpy(Climber):
    def ask(self, n: int) -> list[Proposal]:
        np.random.seed(self.seed % 2**32)
        return super().ask(n)


@CASES.breaks("the_global_generators_are_left_alone")
class SeedsTorch(Climber):
    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
        super().__init__(space, problem, seed=seed)
        torch.manual_seed(seed)


@CASES.breaks("global_settings_are_left_alone")
class SetsTheDtype(Climber):
    def ask(self, n: int) -> list[Proposal]:
        torch.set_default_dtype(torch.float64)
        return super().ask(n)


@CASES.breaks("global_settings_are_left_alone")
class SetsTheEnvironment(Climber):
    def ask(self, n: int) -> list[Proposal]:
        os.environ["MY_SEARCH"] = "1"
        return super().ask(n)


@CASES.breaks("global_settings_are_left_alone")
class DisablesGradients(Climber):
    def tell(self, trials: Sequence[Trial]) -> None:
        torch.set_grad_enabled(False)
        super().tell(trials)


@CASES.breaks("global_settings_are_left_alone")
class ChangesTheDirectory(Climber):
    def ask(self, n: int) -> list[Proposal]:
        os.chdir("/")
        return super().ask(n)


@CASES.breaks("global_settings_are_left_alone")
class IgnoresWarnings(Climber):
    def ask(self, n: int) -> list[Proposal]:
        import warnings

        warnings.simplefilter("ignore")
        return super().ask(n)


@CASES.breaks("global_settings_are_left_alone")
class SetsTheLevelOfLogging(Climber):
    def ask(self, n: int) -> list[Proposal]:
        import logging

        logging.getLogger().setLevel(logging.DEBUG)
        return super().ask(n)


@CASES.breaks("global_settings_are_left_alone")
class HandlesSignals(Climber):
    def ask(self, n: int) -> list[Proposal]:
        import signal

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return super().ask(n)


@CASES.breaks("global_settings_are_left_alone")
class RaisesNumpyErrors(Climber):
    def ask(self, n: int) -> list[Proposal]:
        np.seterr(divide="ignore", over="raise")
        return super().ask(n)


@CASES.breaks("other_modules_are_left_alone")
class ReplacesRandom(Climber):
    def ask(self, n: int) -> list[Proposal]:
        rng = random.Random(0)
        random.random = lambda: rng.random()  # type: ignore[method-assign]
        return super().ask(n)


@CASES.breaks("other_modules_are_left_alone")
class LeavesAThread(Climber):
    def ask(self, n: int) -> list[Proposal]:
        import threading

        threading.Thread(target=time.sleep, args=(60.0,), daemon=True, name="left").start()
        return super().ask(n)


@CASES.breaks("nothing_is_printed")
class Prints(Climber):
    def ask(self, n: int) -> list[Proposal]:
        print("asked for", n)
        return super().ask(n)


@CASES.breaks("nothing_is_printed")
class WritesToStandardError(Climber):
    def tell(self, trials: Sequence[Trial]) -> None:
        os.write(2, b"told\n")
        super().tell(trials)


@CASES.breaks("no_file_is_written_elsewhere")
class WritesALog(Climber):
    def ask(self, n: int) -> list[Proposal]:
        Path("search.log").write_text(str(n))
        return super().ask(n)


@CASES.breaks("no_file_is_written_elsewhere")
class LeavesATemporaryFile(Climber):
    def ask(self, n: int) -> list[Proposal]:
        import tempfile

        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(b"x")
        return super().ask(n)


@CASES.breaks("it_can_be_used")
class RaisesInTell(Climber):
    def tell(self, trials: Sequence[Trial]) -> None:
        raise ValueError("not implemented")


# --- Seeds and states -------------------------------------------------------------------------------------------------


@CASES.breaks("the_same_seed_proposes_the_same")
class SystemEntropy(Climber):
    def rng(self) -> random.Random:
        return random.Random()


@CASES.breaks("another_seed_proposes_others")
class ConstantSeed(Climber):
    def rng(self) -> random.Random:
        return stream(0, "ask", self.asked)


@CASES.breaks("every_seed_is_accepted")
class SmallSeeds(Climber):
    def rng(self) -> random.Random:
        return random.Random(int(np.random.RandomState(self.seed + self.asked).randint(2**31)))


@CASES.breaks("instances_are_independent")
class SharedBest(Climber):
    shared: ClassVar[dict[str, Any]] = {}

    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
        super().__init__(space, problem, seed=seed)
        self.shared.clear()

    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell(trials)
        best = self.shared.setdefault("best", self.best)
        if self.best is not None and best is not None and best[0] > self.best[0]:
            self.best = best
        self.shared["best"] = self.best


@CASES.breaks("it_resumes_at_every_step")
class ForgetsTheBest(Climber):
    def search_state(self) -> dict[str, Any]:
        return {**super().search_state(), "best": None}


@CASES.breaks("it_resumes_at_every_step")
class ForgetsLate(Climber):
    """Keeps only the first 100 proposals in its state."""

    def search_state(self) -> dict[str, Any]:
        state = super().search_state()
        return state if self.asked < 100 else {**state, "asked": 100}


@CASES.breaks("it_resumes_at_every_step")
class ForgetsOutstanding(Climber):
    """What it remembers of a proposal until it is told is not in the state."""

    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
        super().__init__(space, problem, seed=seed)
        self.mine: set[Architecture] = set()

    def propose(self, architecture: Architecture) -> Proposal:
        self.mine.add(architecture)
        return super().propose(architecture)

    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell([trial for trial in trials if trial.architecture in self.mine or trial.number >= 100])


@CASES.breaks("it_resumes_at_every_step")
class ForgetsASubtlety(Climber):
    """Every tenth told trial restarts the search; the counter is not in the state."""

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        super().load_search_state(state)
        self.told = 0

    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell(trials)
        if self.told % 10 == 0:
            self.best = None


@CASES.breaks("reading_the_state_changes_nothing")
class StateAdvances(Climber):
    def search_state(self) -> dict[str, Any]:
        state = super().search_state()
        self.asked += 1
        return state


@CASES.breaks("a_loaded_state_is_not_changed")
class KeepsTheLoadedList(Climber):
    def load_search_state(self, state: Mapping[str, Any]) -> None:
        super().load_search_state(state)
        self.loaded = state["seen"]

    def ask(self, n: int) -> list[Proposal]:
        proposals = super().ask(n)
        if hasattr(self, "loaded"):
            self.loaded += [proposal.architecture.key for proposal in proposals]
        return proposals


@CASES.breaks("the_state_is_plain")
class TuplesInTheState(Climber):
    def search_state(self) -> dict[str, Any]:
        return {**super().search_state(), "rng": random.Random(self.seed).getstate()}


@CASES.breaks("the_state_is_plain")
class NumpyInTheState(Climber):
    def search_state(self) -> dict[str, Any]:
        return {**super().search_state(), "scores": np.zeros(3)}


@CASES.breaks("the_state_is_bounded")
class QuadraticState(Climber):
    def search_state(self) -> dict[str, Any]:
        return {**super().search_state(), "history": [["x" * 2000] * self.told for _ in range(self.told)]}


@CASES.breaks("durations_change_nothing")
class PrefersFastTrials(Climber):
    def score(self, trial: Trial) -> float:
        return super().score(trial) - 0.01 * trial.seconds


@CASES.breaks("steps_do_not_depend_on_the_clock")
class ReadsTheClock(Climber):
    def draw(self) -> Architecture | None:
        begun = time.perf_counter()
        candidate = super().draw()
        if time.perf_counter() - begun > 1.0:
            self.asked += 1
        return candidate


# --- Proposals --------------------------------------------------------------------------------------------------------


@CASES.breaks("the_checker_has_parameters_of_the_constructor")
class WrongChecker(Climber):
    @classmethod
    def checker(cls) -> Any:
        def check(*, population: int) -> None:
            return None

        return check


@CASES.breaks("every_proposal_is_of_the_space")
class ExtraDecision(Climber):
    def propose(self, architecture: Architecture) -> Proposal:
        return Proposal(Architecture({**architecture, "extra": 1}))


@CASES.breaks("every_proposal_is_of_the_space")
class OtherOrder(Climber):
    def propose(self, architecture: Architecture) -> Proposal:
        return Proposal(Architecture(dict(reversed(list(architecture.items())))))


@CASES.breaks("proposals_have_the_declared_types")
class ReturnsATuple(Climber):
    def ask(self, n: int) -> list[Proposal]:
        return tuple(super().ask(n))  # type: ignore[return-value]


@CASES.breaks("proposals_have_the_declared_types")
class NumpyInfo(Climber):
    def propose(self, architecture: Architecture) -> Proposal:
        return Proposal(architecture, info={"number": np.int64(self.asked)})


@CASES.breaks("proposals_have_the_declared_types")
class HugeInfo(Climber):
    def propose(self, architecture: Architecture) -> Proposal:
        return Proposal(architecture, info={"history": ["x" * 100] * 1000})


@CASES.breaks("proposals_have_the_declared_types")
class TextFidelity(Climber):
    def propose(self, architecture: Architecture) -> Proposal:
        return Proposal(architecture, fidelity="full")  # type: ignore[arg-type]


@CASES.breaks("proposals_have_the_declared_types")
class NanInfo(Climber):
    def propose(self, architecture: Architecture) -> Proposal:
        return Proposal(architecture, info={"predicted": float("nan")})


@CASES.breaks("it_proposes_at_most_as_many_as_asked")
class ProposesMore(Climber):
    def ask(self, n: int) -> list[Proposal]:
        return super().ask(max(n, 4))


@CASES.breaks("it_proposes_at_most_as_many_as_asked")
class ProposesNothingAtOnce(Climber):
    def ask(self, n: int) -> list[Proposal]:
        return super().ask(n) if self.told else []


@CASES.breaks("the_planned_number_of_trials_is_kept")
class PlansTooFew(Climber):
    @property
    def planned(self) -> int | None:
        return 10


@CASES.breaks("no_proposal_violates_a_constraint_on_costs")
class IgnoresConstraints(Climber):
    def usable(self, candidate: Architecture) -> bool:
        return self.space.canonical(candidate) not in self.seen


@CASES.breaks("no_network_is_proposed_twice")
class Repeats(Climber):
    def usable(self, candidate: Architecture) -> bool:
        return self.problem.feasible(candidate)


@CASES.breaks("no_network_is_proposed_twice")
class ComparesRawArchitectures(Climber):
    def usable(self, candidate: Architecture) -> bool:
        return candidate not in self.seen and self.problem.feasible(candidate)

    def propose(self, architecture: Architecture) -> Proposal:
        self.seen.add(architecture)
        return super().propose(architecture)


@CASES.breaks("asking_for_nothing_changes_nothing")
class AskOfNothingDraws(Climber):
    def ask(self, n: int) -> list[Proposal]:
        self.asked += 1
        return super().ask(n)


@CASES.breaks("what_it_receives_is_not_changed")
class ClearsTheTrials(Climber):
    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell(trials)
        trials.clear()  # type: ignore[attr-defined]


@CASES.breaks("what_it_receives_is_not_changed")
class ChangesATrial(Climber):
    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell(trials)
        for trial in trials:
            object.__setattr__(trial, "metrics", {"accuracy": 1.0})


@CASES.breaks("what_it_receives_is_not_changed")
class ChangesTheProblem(Climber):
    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell(trials)
        self.problem.objectives["novelty"] = "maximize"


@CASES.breaks("what_it_receives_is_not_changed")
class ChangesTheSpace(Climber):
    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell(trials)
        self.space.decisions.pop("d4", None)  # type: ignore[attr-defined]


@CASES.breaks("it_learns_from_trials_it_never_asked_for")
class KnowsItsOwnOnly(Climber):
    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
        super().__init__(space, problem, seed=seed)
        self.own: dict[str, int] = {}

    def propose(self, architecture: Architecture) -> Proposal:
        self.own[architecture.key] = self.asked
        return super().propose(architecture)

    def tell(self, trials: Sequence[Trial]) -> None:
        assert all(self.own[trial.architecture.key] for trial in trials)
        super().tell(trials)


@CASES.breaks("results_change_the_proposals")
class IgnoresResults(Climber):
    def tell(self, trials: Sequence[Trial]) -> None:
        self.seen |= {self.space.canonical(trial.architecture) for trial in trials}


@CASES.breaks("results_change_the_proposals")
class IgnoresTheDirection(Climber):
    def score(self, trial: Trial) -> float:
        return next(iter(trial.metrics.values()))


@CASES.breaks("it_searches_in_the_direction_of_the_objective")
class WrongSign(Climber):
    def score(self, trial: Trial) -> float:
        score = super().score(trial)
        return -score if score > float("-inf") else score


@CASES.breaks("it_searches_problems_of_every_kind")
class AlwaysAccuracy(Climber):
    def score(self, trial: Trial) -> float:
        return trial.metrics["accuracy"]


@CASES.breaks("it_searches_problems_of_every_kind")
class OneObjective(Climber):
    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
        (_,) = problem.objectives
        super().__init__(space, problem, seed=seed)


@CASES.breaks("it_searches_decisions_of_every_kind")
class WholeNumbersOnly(Climber):
    def draw(self) -> Architecture | None:
        candidate = super().draw()
        return candidate if candidate is None or sum(map(int, candidate.values())) >= 0 else None  # type: ignore[arg-type]


@CASES.breaks("it_continues_when_all_trials_fail")
class StopsAfterFailures(Climber):
    def ask(self, n: int) -> list[Proposal]:
        return [] if self.told >= 9 and self.best is None else super().ask(n)


@CASES.breaks("it_ends_when_the_space_is_exhausted")
class GivesUpEarly(Climber):
    def ask(self, n: int) -> list[Proposal]:
        return super().ask(n) if self.asked < 4 else []


@CASES.breaks("an_unsatisfiable_constraint_ends_the_search")
class ProposesTheInfeasible(Climber):
    def draw(self) -> Architecture | None:
        try:
            return super().draw()
        except InfeasibleError:
            return self.space.sample(self.rng())


# --- Found later ------------------------------------------------------------------------------------------------------


@CASES.breaks("results_change_the_proposals")
class StuckAtNan(Climber):
    """After a NaN no other score is better."""

    def tell(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            self.seen.add(self.space.canonical(trial.architecture))
            value = next(iter(trial.metrics.values()), None)
            if value is not None and (self.best is None or value > self.best[0]):
                self.best = [value, dict(trial.architecture)]


@CASES.breaks("global_settings_are_left_alone")
class SetsDecimals(Climber):
    def ask(self, n: int) -> list[Proposal]:
        import decimal

        decimal.getcontext().prec = 50
        return super().ask(n)


@CASES.breaks("global_settings_are_left_alone")
class SetsTheTimeout(Climber):
    def ask(self, n: int) -> list[Proposal]:
        import socket

        socket.setdefaulttimeout(3.0)
        return super().ask(n)


@CASES.breaks("global_settings_are_left_alone")
class SetsTheMask(Climber):
    def ask(self, n: int) -> list[Proposal]:
        os.umask(0)
        return super().ask(n)


@CASES.breaks("global_settings_are_left_alone")
class PrintsWideTensors(Climber):
    def ask(self, n: int) -> list[Proposal]:
        torch.set_printoptions(linewidth=200, precision=9)
        return super().ask(n)


@CASES.breaks("other_modules_are_left_alone")
class LeavesAFileOpen(Climber):
    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
        super().__init__(space, problem, seed=seed)
        _FILES.append(Path(__file__).open())  # noqa: SIM115


@CASES.breaks("other_modules_are_left_alone", process=True)
class LeavesAProcess(Climber):
    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
        import subprocess

        super().__init__(space, problem, seed=seed)
        _FILES.append(subprocess.Popen(["sleep", "60"]))


@CASES.breaks("other_modules_are_left_alone")
class ReplacesAMethodOfTheProblem(Climber):
    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
        super().__init__(space, problem, seed=seed)
        Problem.feasible = lambda problem, architecture: True  # type: ignore[method-assign]


_FILES: list[Any] = []

# --- Found by a second attack ----------------------------------------------------------------------------------------


@CASES.breaks("numbers_of_trials_may_begin_anywhere")
class LooksUpByNumber(Climber):
    """The first trial of a stage has the number 0 in a run with one stage only."""

    def __init__(self, space: SearchSpace, problem: Problem, *, seed: int) -> None:
        super().__init__(space, problem, seed=seed)
        self.mine: list[str] = []

    def propose(self, architecture: Architecture) -> Proposal:
        self.mine.append(architecture.key)
        return super().propose(architecture)

    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell([t for t in trials if t.number >= len(self.mine) or self.mine[t.number] == t.architecture.key])
        for trial in trials:
            if trial.number >= len(self.mine):
                self.best = None

    def search_state(self) -> dict[str, Any]:
        return {**super().search_state(), "mine": list(self.mine)}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        super().load_search_state(state)
        self.mine = list(state["mine"])


@CASES.breaks("it_searches_decisions_of_every_kind")
class NeedsTwoDecisions(Climber):
    def ask(self, n: int) -> list[Proposal]:
        random.Random(0).sample(list(self.space.decisions), 2)
        return super().ask(n)


@CASES.breaks("it_continues_when_no_trial_is_feasible")
class StopsWithoutAFeasibleTrial(Climber):
    complete = 0

    def tell(self, trials: Sequence[Trial]) -> None:
        super().tell(trials)
        self.complete += sum(trial.state is State.COMPLETE for trial in trials)

    def ask(self, n: int) -> list[Proposal]:
        return [] if self.best is None and self.complete >= 6 else super().ask(n)

    def search_state(self) -> dict[str, Any]:
        return {**super().search_state(), "complete": self.complete}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        super().load_search_state(state)
        self.complete = state["complete"]


@CASES.breaks("metrics_of_every_size_are_accepted")
class DividesByTheSpread(Climber):
    """Scores are divided by their spread, which is 0 if all are equal."""

    def tell(self, trials: Sequence[Trial]) -> None:
        scores = [self.score(t) for t in trials if t.state is State.COMPLETE and t.feasible]
        finite = [score for score in scores if abs(score) < float("inf")]
        if len(finite) > 1:
            spread = max(finite) - min(finite)
            assert [(score - min(finite)) / spread for score in finite]
        super().tell(trials)


@CASES.breaks("metrics_of_every_size_are_accepted")
class ExponentOfTheScore(Climber):
    def score(self, trial: Trial) -> float:
        import math

        score = super().score(trial)
        return math.exp(score) if abs(score) < float("inf") else score


@CASES.breaks("the_expected_architecture_changes_nothing")
class ExpectsAnything(Climber):
    def expected(self, seed: int) -> Architecture | None:
        return Architecture({"width": 64})


@CASES.breaks("the_expected_architecture_changes_nothing")
class ExpectationDraws(Climber):
    def expected(self, seed: int) -> Architecture | None:
        self.asked += 1
        return self.space.sample(self.rng())


@CASES.breaks("the_class_describes_itself")
class ShortensAnUnknownSetting(Climber):
    @classmethod
    def shortened(cls, settings: Mapping[str, Any], share: float) -> Any:
        from automl_nas.evaluation import Shortened

        return Shortened(share, {"iteration": 1})
