"""Races: the paired test, what it promises, and who is finished."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from automl_nas.errors import ConfigurationError, EvaluationError
from automl_nas.evaluation.evaluator import State
from automl_nas.strategy.ask_tell import AskTellStrategy
from automl_nas.strategy.problem import Problem
from automl_nas.strategy.racing import Race, beaten_by
from automl_nas.strategy.trial import Proposal, Trial
from automl_nas.streams import stream, stream_seed
from automl_nas.testing.services import finished
from automl_nas.testing.toys import ToySpace

SPACE = ToySpace(blocks=6, options=3)
LOSS = Problem({"loss": "minimize"})
BLOCKS = 16


class Generations(AskTellStrategy):
    """Random candidates in generations; the next one begins when all of the present one are told."""

    def __init__(self, size: int = 8, generations: int = 3) -> None:
        self.size, self.left, self.asked = size, generations, 0
        self.told: list[Trial] = []

    def ask(self, n: int) -> list[Proposal]:
        if self.asked == self.size and len(self.told) % self.size == 0 and len(self.told) // self.size < 3:
            self.asked = 0
        if len(self.told) // self.size >= self.left:
            return []
        count = min(n, self.size - self.asked)
        first = len(self.told) // self.size * self.size + self.asked
        self.asked += count
        return [Proposal(SPACE.sample(stream(0, "net", first + k)), None, {"origin": first + k}) for k in range(count)]

    def tell(self, trials: Sequence[Trial]) -> None:
        self.told += trials

    def search_state(self) -> dict[str, Any]:
        return {"asked": self.asked, "told": [[t.number, t.state.value, t.architecture.to_dict()] for t in self.told]}

    def load_search_state(self, state: Mapping[str, Any]) -> None:
        from automl_nas.space.architecture import Architecture

        self.asked = state["asked"]
        self.told = [Trial(n, Architecture(values), state=State(s)) for n, s, values in state["told"]]


def blocks_of(proposal: Proposal) -> list[float]:
    rng = np.random.default_rng(0)
    hardness = rng.normal(size=BLOCKS)  # of the blocks: the same for all candidates
    quality = sum(int(str(value)) for value in proposal.architecture.values())
    own = np.random.default_rng(stream_seed(0, proposal.architecture.key))
    return [float(v) for v in quality + 3 * hardness + own.normal(size=BLOCKS)]


def evaluate(number: int, proposal: Proposal) -> Trial:
    blocks = blocks_of(proposal)
    trial = finished(LOSS, number, proposal, {"loss": float(np.mean(blocks))})
    if proposal.fidelity is None:
        return trial
    return Trial(**{**vars(trial), "info": {**proposal.info, "blocks": {"loss": blocks}}})


def run(race: Race, n: int = 4, limit: int = 1000) -> list[Trial]:
    trials: list[Trial] = []
    while len(trials) < limit and (proposals := race.ask(n)):
        new = [evaluate(len(trials) + k, proposal) for k, proposal in enumerate(proposals)]
        race.tell(new)
        trials += new
    return trials


def make(inner: AskTellStrategy, **settings: Any) -> Race:
    return Race(SPACE, LOSS, strategy=inner, **{"part": 16.0, "candidates": 8, "keep": 2, **settings})


def test_the_test_is_the_paired_t_test_of_scipy() -> None:
    values = np.random.default_rng(1).normal(size=(7, 12)) + np.arange(7)[:, None] / 2
    for error in (0.01, 0.2):
        expected = [
            sum(
                stats.ttest_rel(values[i], values[j], alternative="greater").pvalue < error / 6
                for j in range(7)
                if j != i
            )
            for i in range(7)
        ]
        assert beaten_by(values, error) == expected
        assert len(set(expected)) > 2
    assert beaten_by(values[:1], 0.05) == [0]
    same = np.tile(values[0], (3, 1))
    assert beaten_by(same, 0.05) == [0, 0, 0]
    assert beaten_by(same + np.array([[0.0], [0.0], [1.0]]), 0.05)[2] == 2  # the same difference in every block


@pytest.mark.parametrize("keep", [1, 3])
def test_one_of_the_best_is_pruned_as_rarely_as_promised(keep: int) -> None:
    """Equal candidates are the worst case: each is among the best, and every difference is one of chance."""
    rng = np.random.default_rng(2)
    races, error = 2000, 0.05
    pruned = sum(beaten_by(rng.normal(size=(10, 32)) + rng.normal(size=32), error)[0] >= keep for _ in range(races))
    # At most the error, within three standard deviations of a binomial share.
    assert pruned / races <= error + 3 * np.sqrt(error * (1 - error) / races)
    if keep == 1:
        assert pruned > 0  # it is not trivially so


def test_candidates_that_may_be_among_the_best_are_finished() -> None:
    inner = Generations()
    trials = run(make(inner))
    for race in range(3):
        parts = [t for t in trials if t.fidelity == 16.0 and t.info["race"] == race]
        full = {t.info["part"]: t for t in trials if t.fidelity is None and t.info["race"] == race}
        assert [t.info["origin"] for t in parts] == list(range(8 * race, 8 * race + 8))
        beaten = beaten_by(np.array([t.info["blocks"]["loss"] for t in parts]), 0.05)
        assert list(full) == [t.number for t, by in zip(parts, beaten, strict=True) if by < 2]
        assert 2 <= len(full) < 8  # something was decided
        for number, trial in full.items():
            assert trial.architecture == trials[number].architecture
    # The inner strategy received each candidate once: in full, or as pruned.
    assert len(inner.told) == 24
    states = {trial.number: trial.state for trial in inner.told}
    assert {n for n, state in states.items() if state is State.COMPLETE} == {
        t.number for t in trials if t.fidelity is None
    }


@pytest.mark.parametrize("n", [1, 3, 50])
def test_the_number_asked_for_at_a_time_changes_nothing(n: int) -> None:
    def described(trials: Sequence[Trial]) -> list[object]:
        return [(t.architecture.key, t.fidelity, t.info.get("race"), t.info.get("part")) for t in trials]

    assert described(run(make(Generations()), n)) == described(run(make(Generations())))


def test_it_resumes_at_every_step() -> None:
    expected = run(make(Generations()), 3)
    race, trials = make(Generations()), list[Trial]()
    while proposals := race.ask(3):
        race2 = make(Generations())
        race2.load_search_state(json.loads(json.dumps(race.search_state())))
        assert race2.search_state() == race.search_state()
        race = race2
        new = [evaluate(len(trials) + k, proposal) for k, proposal in enumerate(proposals)]
        race.tell(new)
        race2 = make(Generations())
        race2.load_search_state(json.loads(json.dumps(race.search_state())))
        race = race2
        trials += new
    assert [(t.number, t.architecture, t.fidelity) for t in trials] == [
        (t.number, t.architecture, t.fidelity) for t in expected
    ]


def test_failures_take_no_part_and_a_short_race_ends() -> None:
    inner = Generations(size=5, generations=1)
    race = make(inner)
    (first, *others) = race.ask(5)
    failed = finished(LOSS, 0, first, {}, State.FAILED, "no memory")
    race.tell([failed, *(evaluate(1 + k, proposal) for k, proposal in enumerate(others))])
    assert inner.told == [failed]
    full = race.ask(5)
    assert full and all(proposal.fidelity is None for proposal in full)
    assert race.ask(5) == []  # they are awaited
    race.tell([evaluate(10 + k, proposal) for k, proposal in enumerate(full)])
    assert len(inner.told) == 5 and race.ask(5) == []


def test_trials_that_were_not_proposed_are_passed_on() -> None:
    inner = Generations()
    foreign = evaluate(3, Proposal(SPACE.sample(stream(5, "foreign"))))
    make(inner).tell([foreign])
    assert inner.told == [foreign]


def test_maximised_metrics_are_compared_in_their_direction() -> None:
    race = Race(SPACE, Problem({"accuracy": "maximize"}), strategy=Generations(), part=16.0, candidates=8, keep=1)
    proposals = race.ask(8)
    blocks = [[0.1 * k + 0.01 * b for b in range(BLOCKS)] for k in range(8)]
    race.tell(
        [
            Trial(k, p.architecture, {"accuracy": 0.1 * k}, fidelity=16.0, info={"blocks": {"accuracy": values}})
            for k, (p, values) in enumerate(zip(proposals, blocks, strict=True))
        ]
    )
    assert [proposal.architecture for proposal in race.ask(8)] == [proposals[7].architecture]


def test_an_evaluator_without_blocks_is_refused() -> None:
    race = make(Generations())
    proposals = race.ask(8)
    with pytest.raises(EvaluationError, match="trial 0 has no values of 'loss' for blocks"):
        race.tell([finished(LOSS, k, proposal, {"loss": 1.0}) for k, proposal in enumerate(proposals)])


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"part": 0.0}, "part"),
        ({"part": float("nan")}, "part"),
        ({"candidates": 1}, "candidates"),
        ({"keep": 0}, "keep"),
        ({"error": 0.0}, "error"),
        ({"error": 1.0}, "error"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make(Generations(), **settings)
    assert caught.value.path == path


def test_several_objectives_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="one objective, not by a, b"):
        Race(SPACE, Problem({"a": "minimize", "b": "minimize"}), strategy=Generations(), part=1.0)
