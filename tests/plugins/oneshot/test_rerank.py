"""A second look at the best candidates of earlier stages: which ones, in what order, resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from end_to_end.runs import config, record

import automl_nas
from automl_nas.errors import ConfigurationError, RunFailedError
from automl_nas.space import Architecture
from automl_nas.strategy import Problem, Proposal, Trial, parse_constraint
from automl_nas.streams import stream
from automl_nas.testing import SimulatedServices, StrategyContract, ToyCost, ToySpace, finished
from automl_nas_oneshot.rerank import Rerank

SPACE = ToySpace(blocks=3, options=3)
PROBLEM = Problem({"accuracy": "maximize"})


def services(stages: Sequence[str], count: int = 12, **settings: Any) -> SimulatedServices:
    """Return services with recorded trials: of each stage a number of networks, the loss of which is known."""

    def judge(number: int, proposal: Proposal) -> Trial:
        rng = stream(7, "metrics", number)
        metrics = {"loss": rng.random(), "accuracy": rng.random()}
        trial = finished(PROBLEM, number, proposal, metrics)
        flops = {"toy_cost": float(sum(proposal.architecture.values()))}  # type: ignore[arg-type]
        stage = stages[number // count] if number < count * len(stages) else "rerank"
        return replace(trial, stage=stage, costs=flops)

    made = SimulatedServices(judge, **settings)
    for number in range(count * len(stages)):
        made.evaluate([Proposal(SPACE.sample(stream(3, "network", number)))])
    return made


class TestContract(StrategyContract):
    steps = 5

    def make(self, seed: int) -> Rerank:
        return Rerank(SPACE, PROBLEM, stages=["search"], top_k=4, by={"loss": "minimize"})

    def services(self) -> SimulatedServices:
        return services(["search"], batch=1, ahead=2)

    def test_another_seed_gives_another_state(self) -> None:
        """Nothing is drawn: the candidates follow from the earlier trials alone."""
        first, second = (self._advance(self.make(seed), self.services(), self.steps) for seed in (1, 2))
        assert first == second


def proposed(strategy: Rerank, offered: SimulatedServices) -> list[tuple[Architecture, int]]:
    """Return what the strategy proposes: architectures, and the numbers of their earlier trials."""
    before = len(offered.submitted)
    while not strategy.done:
        strategy.step(offered)
    assert len(offered.submitted) - before == strategy.planned
    return [(each.architecture, each.info["trial"]) for each in offered.submitted[before:]]  # type: ignore[misc]


def test_the_best_of_each_stage_are_evaluated_once() -> None:
    offered = services(["small", "large"], batch=2, ahead=4)
    found = proposed(Rerank(SPACE, PROBLEM, stages=["small", "large"], top_k=5, by={"loss": "minimize"}), offered)
    wanted: dict[Architecture, int] = {}
    for stage in ("small", "large"):
        first: dict[Architecture, Trial] = {}
        for trial in sorted(offered.trials(stage), key=lambda trial: trial.metrics["loss"]):
            first.setdefault(trial.architecture, trial)
        for architecture, trial in list(first.items())[:5]:
            wanted.setdefault(architecture, trial.number)
    assert found == list(wanted.items())
    by_accuracy = proposed(Rerank(SPACE, PROBLEM, stages=["small"], top_k=1), services(["small"]))
    best = max(services(["small"]).trials("small"), key=lambda trial: trial.metrics["accuracy"])
    assert by_accuracy == [(best.architecture, best.number)]


def test_with_two_objectives_fronts_follow_each_other() -> None:
    by: Any = {"loss": "minimize", "toy_cost": "minimize"}
    offered = services(["search"], count=20)
    trials = offered.trials("search")
    numbers = [number for _, number in proposed(Rerank(SPACE, PROBLEM, stages=["search"], top_k=8, by=by), offered)]
    left = list({trial.architecture: trial for trial in sorted(trials, key=lambda t: -t.metrics["loss"])}.values())
    layers: list[set[int]] = []
    while left:
        front = [
            trial
            for trial in left
            if not any(
                other.metrics["loss"] <= trial.metrics["loss"]
                and other.costs["toy_cost"] <= trial.costs["toy_cost"]
                and other is not trial
                for other in left
            )
        ]
        layers.append({trial.number for trial in front})
        left = [trial for trial in left if trial not in front]
    assert len(layers[0]) < 8
    taken = set(numbers)
    for layer in layers:  # whole fronts, then a part of one
        part = layer if len(layer) <= len(taken) else taken
        assert part <= layer
        taken -= part
        if not taken:
            break
    assert len(numbers) == 8 and not taken


def test_candidates_that_miss_the_limits_of_this_stage_are_left_out() -> None:
    limited = Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", "<= 2")], {"toy_cost": ToyCost(SPACE)})
    found = proposed(Rerank(SPACE, limited, stages=["search"], top_k=12), services(["search"]))
    allowed = [t for t in services(["search"]).trials("search") if t.costs["toy_cost"] <= 2]
    assert 0 < len(allowed) < 12
    assert {number for _, number in found} <= {trial.number for trial in allowed}
    none = Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", ">= 7")], {"toy_cost": ToyCost(SPACE)})
    with pytest.raises(RunFailedError, match=r"no trial of the stage 'search' meets the constraints \(toy_cost >= 7\)"):
        Rerank(SPACE, none, stages=["search"]).step(services(["search"]))


def test_what_cannot_be_ranked_is_named() -> None:
    with pytest.raises(RunFailedError, match="the stage 'other' has no feasible trial"):
        Rerank(SPACE, PROBLEM, stages=["other"]).step(services(["search"]))
    with pytest.raises(RunFailedError, match=r"did not measure 'f1', .* its metrics \(accuracy, loss\)"):
        Rerank(SPACE, PROBLEM, stages=["search"], by={"f1": "maximize"}).step(services(["search"]))
    with pytest.raises(ConfigurationError, match="top_k must be at least 1"):
        Rerank(SPACE, PROBLEM, stages=["search"], top_k=0)
    with pytest.raises(ConfigurationError, match="name at least one earlier stage"):
        Rerank(SPACE, PROBLEM, stages=[])


def settings(**changes: Any) -> dict[str, Any]:
    """Return a run whose final stage takes the best of a second look."""
    search = {
        "name": "search",
        "strategy": "random",
        "budget": {"trials": 8},
        "problem": {"objectives": {"flops": "maximize"}},
    }
    look = {
        "name": "rerank",
        "strategy": {"name": "rerank", "stages": ["search"], "top_k": 3, "by": {"flops": "maximize"}, **changes},
        "evaluator": {"name": "train", "train": {"epochs": 1}},
        "problem": {"objectives": {"accuracy": "maximize"}},
    }
    final = {"from": "rerank", "train": {"epochs": 1}, "baselines": []}
    return config(stages=[search, look], final=final)


@pytest.mark.slow
def test_a_run_that_is_interrupted_in_the_second_look_ends_the_same(tmp_path: Path) -> None:
    """Interrupted after two of its trials, the run has the trials, the metrics and the files of an undisturbed one."""
    from automl_nas.plugin import TrialFinished

    whole = automl_nas.search(settings(), out=tmp_path / "whole")
    seen: list[int] = []

    def interrupt(event: TrialFinished) -> None:
        if event.trial.stage == "rerank" and event.trial.number not in seen:
            seen.append(event.trial.number)
            raise KeyboardInterrupt

    for resume in (False, True):
        with pytest.raises(automl_nas.errors.RunInterrupted):
            automl_nas.search(settings(), out=tmp_path / "run", resume=resume, handlers={TrialFinished: interrupt})
    resumed = automl_nas.search(settings(), out=tmp_path / "run", resume=True)
    assert record(resumed.directory) == record(whole.directory)
    stages = {stage["name"]: stage for stage in whole.data["stages"]}
    assert stages["rerank"]["trials"] == 3 and whole.data["stage"] == "rerank"
    assert whole.final is not None
    assert whole.final.delivered.trial == stages["rerank"]["best"]["number"]


def test_stages_that_do_not_exist_are_refused_before_the_run(tmp_path: Path) -> None:
    for stages, message in ((["serch"], "did you mean 'search'"), (["rerank"], "no earlier stage is called 'rerank'")):
        with pytest.raises(ConfigurationError, match=message) as caught:
            automl_nas.search(settings(stages=stages), out=tmp_path / "run")
        assert caught.value.path == "stages[1].strategy.stages[0]"
