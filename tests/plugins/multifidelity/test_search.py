"""Rungs have the published sizes, the best are promoted, and neither workers nor times have an influence."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import automl_nas
from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.evaluator import Request, State
from automl_nas.run.record.ledger import Ledger
from automl_nas.space.operators import encode
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.testing.services import SimulatedServices, finished
from automl_nas.testing.toys import ToySpace
from automl_nas_benchmarks.spaces.nasbench201 import NASBench201
from automl_nas_benchmarks.tables.evaluators import NASBench201Evaluator
from automl_nas_multifidelity.asha import Asha
from automl_nas_multifidelity.brackets import Hyperband, SuccessiveHalving
from automl_nas_multifidelity.candidates import Result, best_first
from automl_nas_multifidelity.ladder import Ladder
from automl_nas_multifidelity.levels import Levels
from automl_nas_surrogate.search import SurrogateSearch

SPACE = ToySpace(blocks=8, options=4)
PROBLEM = Problem({"accuracy": "maximize"})


def value(proposal: Proposal) -> float:
    return float(sum(encode(proposal.architecture, SPACE.decisions)))


def search(
    strategy: AskTellStrategy, trials: int, evaluate: Callable[[int, Proposal], Trial] | None = None
) -> list[Trial]:
    """Run a search one trial at a time."""
    record: list[Trial] = []
    while len(record) < trials and (proposals := strategy.ask(1)):
        trial = (
            evaluate(len(record), proposals[0])
            if evaluate
            else finished(PROBLEM, len(record), proposals[0], {"accuracy": value(proposals[0])})
        )
        strategy.tell([trial])
        record.append(trial)
    return record


def test_hyperband_has_the_published_brackets() -> None:
    """Li et al. 2018, algorithm 1 with R = 81 and eta = 3: n = ceil(5 / (s + 1) * 3^s), then floor(n / 3^i)."""
    ladder = Ladder((1, 3, 9, 27, 81), None)
    brackets = {start: ladder.sizes(count, start) for start, count in ladder.hyperband()}
    assert brackets == {0: [81, 27, 9, 3, 1], 1: [34, 11, 3, 1], 2: [15, 5, 1], 3: [8, 2], 4: [5]}
    assert Ladder((1, 3, 9, 27, 81), 3).hyperband() == ladder.hyperband()
    # With other quotients each rung costs at most what the first one costs: 17 * 12 = 204 and 1 * 200.
    assert Ladder((12, 200), None).hyperband() == [(0, 17), (1, 2)]
    assert Ladder((12, 200), None).sizes(17) == [17, 1]


@pytest.mark.parametrize("strategy", [SuccessiveHalving, Hyperband])
def test_the_best_of_each_rung_are_promoted(strategy: Any) -> None:
    trials = search(strategy(SPACE, PROBLEM, seed=0, fidelities=[1.0, 3.0, 9.0]), 40)
    expected = {0: [9, 3, 1], 1: [5, 1], 2: [3]} if strategy is Hyperband else {0: [9, 3, 1], 1: [9, 3, 1]}
    starts = {0: 0, 1: 1, 2: 2} if strategy is Hyperband else {0: 0, 1: 0}
    for bracket, sizes in expected.items():
        before: list[Trial] = []
        for rung, size in enumerate(sizes):
            here = [t for t in trials if (t.info["bracket"], t.info["rung"]) == (bracket, rung)]
            assert {t.fidelity for t in here} == {[1.0, 3.0, 9.0][starts[bracket] + rung]}
            assert len(here) == size
            if rung:
                best = sorted(before, key=lambda t: (-t.metrics["accuracy"], t.number))[:size]
                assert [t.info["promoted"] for t in here] == [t.number for t in best]
                assert [t.architecture for t in here] == [t.architecture for t in best]
            before = here
    new = [t.architecture for t in trials if "promoted" not in t.info]
    assert len(set(new)) == len(new)


def test_failed_trials_are_not_promoted_and_infeasible_ones_come_last() -> None:
    def result(number: int, *scores: float, violation: float = 0.0) -> Result:
        return Result(number, SPACE.sample(random.Random(number)), scores, violation)

    order = best_first([result(0, 1.0), result(1), result(2, 9.0, violation=0.5), result(3, 2.0), result(4, 2.0)])
    assert [item.number for item in order] == [3, 4, 0, 2]
    # Two objectives: (1, 1) is dominated by (2, 1) and (1, 2); (0, 0) by all.
    order = best_first([result(0, 0.0, 0.0), result(1, 1.0, 1.0), result(2, 1.0, 2.0), result(3, 2.0, 1.0)])
    assert [item.number for item in order] == [3, 2, 1, 0]

    def evaluate(number: int, proposal: Proposal) -> Trial:
        if number < 8:
            return finished(PROBLEM, number, proposal, {}, State.FAILED, "broken")
        return finished(PROBLEM, number, proposal, {"accuracy": value(proposal)})

    trials = search(SuccessiveHalving(SPACE, PROBLEM, seed=0, fidelities=[1.0, 3.0], candidates=9), 12, evaluate)
    # One of the nine has a result: it alone is promoted, then the next bracket begins.
    assert [t.info["promoted"] for t in trials if "promoted" in t.info] == [8]
    assert [t.info["bracket"] for t in trials] == [0] * 10 + [1] * 2


def reference_asha(values: Sequence[float], reduction: int, levels: int, count: int) -> list[tuple[int, int]]:
    """Algorithm 2 of Li et al. 2020 for one worker: (candidate, level) of each evaluation."""
    rungs: list[list[int]] = [[] for _ in range(levels)]
    promoted: list[set[int]] = [set() for _ in range(levels)]
    done: list[tuple[int, int]] = []
    fresh = 0
    while len(done) < count:
        for level in range(levels - 2, -1, -1):
            top = sorted(rungs[level], key=lambda c: -values[c])[: len(rungs[level]) // reduction]
            if able := [candidate for candidate in top if candidate not in promoted[level]]:
                candidate, level = able[0], level + 1
                promoted[level - 1].add(candidate)
                break
        else:
            candidate, level, fresh = fresh, 0, fresh + 1
        rungs[level].append(candidate)
        done.append((candidate, level))
    return done


def test_asha_is_algorithm_2_of_the_paper() -> None:
    strategy = Asha(SPACE, PROBLEM, seed=0, fidelities=[1.0, 3.0, 9.0])
    noise = [(7 * number) % 101 / 1000 for number in range(200)]  # no two candidates are equal

    def evaluate(number: int, proposal: Proposal) -> Trial:
        first = firsts.setdefault(proposal.architecture, len(firsts))
        return finished(PROBLEM, number, proposal, {"accuracy": value(proposal) + noise[first]})

    firsts: dict[Any, int] = {}
    trials = search(strategy, 150, evaluate)
    values = {firsts[t.architecture]: t.metrics["accuracy"] for t in trials}
    expected = reference_asha([values[number] for number in range(len(values))], 3, 3, 150)
    assert [(firsts[t.architecture], [1.0, 3.0, 9.0].index(t.fidelity or 0)) for t in trials] == expected
    assert Counter(level for _, level in expected)[2] >= 8  # the highest level was reached


def simulate(strategy: AskTellStrategy, workers: int, ahead: int, speed: Callable[[int], float]) -> list[Proposal]:
    """Evaluate on several workers; a trial takes its fidelity times the speed of its worker.

    A window as in a stage: trials are told in the order of the proposals, each when all before it are complete.
    """
    proposals: list[Proposal] = []
    finish: dict[int, float] = {}
    free = [(0.0, worker) for worker in range(workers)]
    heapq.heapify(free)
    told = 0
    while told < 60:
        for proposal in strategy.ask(ahead - (len(proposals) - told)):
            at, worker = heapq.heappop(free)
            finish[len(proposals)] = at + (proposal.fidelity or 0) * speed(worker)
            heapq.heappush(free, (finish[len(proposals)], worker))
            proposals.append(proposal)
        strategy.tell([finished(PROBLEM, told, proposals[told], {"accuracy": value(proposals[told])})])
        told += 1
    return proposals


@pytest.mark.parametrize("strategy", [SuccessiveHalving, Hyperband, Asha])
def test_workers_and_their_speed_have_no_influence(strategy: Any) -> None:
    def proposals(workers: int, shuffle: int | None) -> list[Proposal]:
        services = SimulatedServices(
            lambda number, p: finished(PROBLEM, number, p, {"accuracy": value(p)}),
            batch=1,
            ahead=6,
            budget=60,
            shuffle=shuffle,
        )
        search = strategy(SPACE, PROBLEM, seed=0, fidelities=[1.0, 3.0, 9.0])
        while len(services.submitted) < 60:
            search.step(services)
        return services.submitted

    first = proposals(1, None)
    assert all(proposals(4, order) == first for order in range(3))
    assert {p.fidelity for p in first} == {1.0, 3.0, 9.0}
    simulated = [
        simulate(strategy(SPACE, PROBLEM, seed=0, fidelities=[1.0, 3.0, 9.0]), workers, 6, speed)
        for workers, speed in ((1, lambda _: 1.0), (6, lambda worker: 1.0 + worker))
    ]
    assert simulated[0] == simulated[1]
    assert simulated[0][: len(first)] == first[: len(simulated[0])]


def test_the_next_bracket_begins_while_a_rung_waits() -> None:
    strategy = SuccessiveHalving(SPACE, PROBLEM, seed=0, fidelities=[1.0, 3.0], candidates=3)
    assert [p.info["bracket"] for p in strategy.ask(7)] == [0, 0, 0, 1, 1, 1, 2]


def test_a_model_proposes_better_candidates_than_chance() -> None:
    """The metric is a sum of eight codes, which the model learns; random candidates have a mean of 12."""
    means = {}
    for name, model in (("random", None), ("model", SurrogateSearch(SPACE, PROBLEM, seed=0, random=20))):
        trials = search(Hyperband(SPACE, PROBLEM, seed=0, fidelities=[1.0, 3.0, 9.0], strategy=model), 60)
        new = [t.metrics["accuracy"] for t in trials if "promoted" not in t.info]
        means[name] = sum(new[15:]) / len(new[15:])
    # Standard deviation of a sum of eight codes: sqrt(8 * 1.25) = 3.2, of the mean of about 27 of them 0.6.
    assert means["model"] > means["random"] + 5 * 0.6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fidelities": [12.0]}, "at least two fidelities"),
        ({"fidelities": [200.0, 12.0]}, "must be positive and ascending"),
        ({"fidelities": [0.0, 12.0]}, "must be positive and ascending"),
        ({"fidelities": [1.0, 2.0], "reduction": 1.0}, "reduction must be above 1"),
    ],
)
@pytest.mark.parametrize("strategy", [SuccessiveHalving, Hyperband, Asha])
def test_settings_out_of_range(strategy: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        strategy(SPACE, PROBLEM, seed=0, **settings)


def test_candidates_out_of_range() -> None:
    with pytest.raises(ConfigurationError, match="candidates must be at least 2"):
        SuccessiveHalving(SPACE, PROBLEM, seed=0, fidelities=[1.0, 2.0], candidates=1)


def test_a_level_is_an_evaluator() -> None:
    space = NASBench201()
    cheap, thorough = NASBench201Evaluator(space), NASBench201Evaluator(space, epochs=200)
    cell = space.architecture("334131")

    def metrics(evaluator: Any, fidelity: float | None) -> Any:
        (outcome,) = evaluator.evaluate([Request(0, cell, seed=0, fidelity=fidelity)])
        return outcome.metrics or outcome.error

    levels = Levels(evaluators=[cheap, thorough])
    assert metrics(levels, 1) == metrics(cheap, None)
    assert metrics(levels, 2) == metrics(levels, None) == metrics(thorough, None) != metrics(cheap, None)
    assert "the number of an evaluator, 1 to 2, not 3" in metrics(levels, 3)
    with pytest.raises(ConfigurationError, match="at least two evaluators"):
        Levels(evaluators=[cheap])


@pytest.mark.slow
def test_a_run_promotes_from_inherited_weights_to_training(tmp_path: Path) -> None:
    from automl_nas.testing.toy_supernet import toy_supernet_space
    from automl_nas.testing.toys import ToyTask

    levels = {
        "name": "levels",
        "evaluators": [
            {"name": "supernet_weights", "weights": "supernet", "recalibration_images": 0},
            {"name": "train", "train": {"epochs": 1, "warmup_epochs": 0}},
        ],
    }
    result = automl_nas.search(
        space=toy_supernet_space(),
        task=ToyTask(),
        runtime={"threads": 1},
        stages=[
            {"name": "supernet", "strategy": {"name": "single_path", "train": {"epochs": 1, "warmup_epochs": 0}}},
            {
                "name": "search",
                "strategy": {"name": "successive_halving", "fidelities": [1, 2], "candidates": 4, "reduction": 2},
                "evaluator": levels,
                "budget": {"trials": 6},
            },
        ],
        final=None,
        out=tmp_path / "run",
    )
    assert result.found
    ledger = Ledger(tmp_path / "run" / "trials.jsonl", writable=False)
    trials = [trial for trial in ledger.trials.values() if trial.stage == "search"]
    assert [trial.fidelity for trial in trials] == [1, 1, 1, 1, 2, 2]
    losses = {trial.number: trial.metrics["loss"] for trial in trials[:4]}
    assert [trial.info["promoted"] for trial in trials[4:]] == sorted(losses, key=lambda n: (losses[n], n))[:2]
    better = min(trials[4:], key=lambda trial: trial.metrics["loss"])
    assert result.architecture == better.architecture
