"""What the strategy promises beyond the contract: duplicates, resuming, warm start, fidelities, errors."""

from __future__ import annotations

import importlib.util
import json
import pickle
from collections import Counter
from typing import Any

import pytest
from plugins.optuna import odd_samplers
from plugins.optuna.spaces import Mixed, Widths

from automl_nas.errors import ConfigurationError, InfeasibleError, ReplayError, SpaceError
from automl_nas.evaluation.evaluator import State
from automl_nas.plugin import PluginManager
from automl_nas.search import Problem, Proposal, Trial, parse_constraint
from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Choice, Decision, Subset
from automl_nas.space.operators import enumerate_all
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream
from automl_nas.testing import ToyCost, ToySpace, toy_metric
from automl_nas_optuna.drawing import draw_new
from automl_nas_optuna.parameters import Parameters
from automl_nas_optuna.samplers import KNOWN, Sampler
from automl_nas_optuna.strategy import OptunaStrategy

SPACE = ToySpace(blocks=4, options=3)
PROBLEM = Problem({"accuracy": "maximize"})
WITH_CMAES = importlib.util.find_spec("cmaes") is not None
ODD = "plugins.optuna.odd_samplers:"


def search(strategy: OptunaStrategy, count: int, space: SearchSpace = SPACE, first: int = 0) -> list[Proposal]:
    """Ask and tell one at a time."""
    proposals: list[Proposal] = []
    for number in range(first, first + count):
        found = strategy.ask(1)
        if not found:
            break
        proposals += found
        metrics = {"accuracy": toy_metric(found[0].architecture, space)}
        strategy.tell([Trial(number, found[0].architecture, metrics)])
    return proposals


def events(strategy: OptunaStrategy, kind: str) -> list[list[Any]]:
    return [event for event in strategy.search_state()["events"] if event[0] == kind]


def test_a_sampler_that_repeats_itself_is_given_up_for_one_candidate() -> None:
    # Strides of the number of options: two numbers for each decision and no more, so 16 networks in all.
    sampler = Sampler(f"{ODD}Cyclic", {"stride": 3})
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler=sampler, attempts=7)
    proposals = search(strategy, 81)
    assert len({proposal.architecture for proposal in proposals}) == 81
    origins = Counter(proposal.info["origin"] for proposal in proposals)
    assert origins["sampler"] <= 16
    assert origins["random"] >= 81 - 16
    assert strategy.ask(1) == []
    # Each random candidate stands for seven suggestions.
    assert len(events(strategy, "ask")) >= 7 * origins["random"]
    assert len(events(strategy, "add")) == origins["random"]


@pytest.mark.parametrize("draws", [1, 1000])
def test_what_is_drawn_instead_is_uniform(draws: int) -> None:
    # By rejection, and by counting through the space. Chi-square with 64 degrees of freedom stays below 105 but for one
    # in a thousand.
    taken = {item for item in enumerate_all(SPACE.decisions) if set(item.values()) <= {0, 1}}
    free = [item for item in enumerate_all(SPACE.decisions) if item not in taken]
    assert len(free) == 65
    counts = Counter(draw_new(SPACE, PROBLEM, stream(0, "test", n), taken, draws) for n in range(2000))
    assert set(counts) == set(free)
    expected = 2000 / len(free)
    assert sum((counts[item] - expected) ** 2 / expected for item in free) < 105


def test_a_large_space_with_a_tight_limit() -> None:
    # 3^20 networks; of costs from 0 to 40 none but the cheapest is feasible.
    space = ToySpace(blocks=20, options=3)
    cost = {"toy_cost": ToyCost(space)}
    problem = Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", "<= 0")], cost)
    strategy = OptunaStrategy(space, problem, seed=0, sampler="random", draws=20)
    (proposal,) = strategy.ask(1)
    assert set(proposal.architecture.values()) == {0}
    assert strategy.ask(1) == []
    impossible = Problem({"accuracy": "maximize"}, [parse_constraint("toy_cost", "<= -1")], cost)
    with pytest.raises(InfeasibleError, match=r"none of 20 architectures drawn .* misses 'toy_cost <= -1' by 1 of its"):
        OptunaStrategy(space, impossible, seed=0, sampler="random", draws=20).ask(1)


def test_equal_networks_are_one_and_populations_are_told_their_result_again() -> None:
    space = Mixed(widths=1)
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler=Sampler("nsgaii", {"population_size": 4}), attempts=50)
    proposals = search(strategy, 100, space)
    keys = [space.canonical(proposal.architecture) for proposal in proposals]
    assert len(set(keys)) == len(keys) == len({space.canonical(item) for item in enumerate_all(space.decisions)})
    values: dict[str, set[float]] = {}
    parameters = Parameters(space)
    made = [event for event in strategy.search_state()["events"] if event[0] != "tell"]
    for _, number, ending, told, _, _ in events(strategy, "tell"):
        if ending == "complete":
            key = space.canonical(parameters.architecture(made[number][1])).key
            values.setdefault(key, set()).update(told)
    assert sum(event[2] == "complete" for event in events(strategy, "tell")) > len(keys)
    assert all(len(found) == 1 for found in values.values())


@pytest.mark.parametrize("name", [name for name, traits in KNOWN.items() if not traits.population and name != "gp"])
def test_models_are_not_told_a_result_twice(name: str) -> None:
    strategy = OptunaStrategy(ToySpace(blocks=2, options=3), PROBLEM, seed=0, sampler=Sampler(name), attempts=3)
    assert len(search(strategy, 20, ToySpace(blocks=2, options=3))) == 9
    assert sum(event[2] == "complete" for event in events(strategy, "tell")) == 9


def resumed(sampler: Sampler, space: SearchSpace, problem: Problem) -> tuple[list[Proposal], list[Proposal]]:
    """Proposals of a search, and of one that is written down as JSON and read after every trial."""
    whole = search(OptunaStrategy(space, problem, seed=5, sampler=sampler, attempts=3), 12, space)
    proposals: list[Proposal] = []
    strategy = OptunaStrategy(space, problem, seed=5, sampler=sampler, attempts=3)
    for number in range(12):
        proposals += search(strategy, 1, space, number)
        state = json.loads(json.dumps(strategy.search_state()))
        strategy = OptunaStrategy(space, problem, seed=5, sampler=sampler, attempts=3)
        strategy.load_search_state(state)
    return whole, proposals


@pytest.mark.parametrize("name", [*KNOWN, f"{ODD}Cyclic"])
def test_it_is_resumed_from_json(name: str) -> None:
    if name == "cmaes" and not WITH_CMAES:
        pytest.skip("CMA-ES needs the library cmaes")
    settings = {"gp": {"n_startup_trials": 11}, "tpe": {"n_startup_trials": 4}, "nsgaii": {"population_size": 3}}
    space = Widths() if name == "cmaes" else SPACE
    whole, again = resumed(Sampler(name, settings.get(name, {})), space, PROBLEM)
    assert again == whole


@pytest.mark.skipif(not WITH_CMAES, reason="CMA-ES needs the library cmaes")
def test_the_pickle_of_cmaes_is_never_written_down() -> None:
    strategy = OptunaStrategy(Widths(), PROBLEM, seed=0, sampler="cmaes")
    search(strategy, 20, Widths())
    state = strategy.search_state()
    assert state["attributes"] == {}
    assert "optimizer" not in json.dumps(state)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('unpickled')",)


@pytest.mark.parametrize("name", ["tpe", "nsgaii", *(["cmaes"] if WITH_CMAES else [])])
def test_nothing_in_a_state_is_unpickled(name: str) -> None:
    space = Widths()
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler=Sampler(name))
    search(strategy, 12, space)
    state = strategy.search_state()
    bomb = pickle.dumps(Bomb()).hex()
    state["attributes"] = {
        "study": {"cma:optimizer:0": bomb},
        "trials": {str(number): {"cma:optimizer:0": bomb, "cma:generation": 0} for number in range(12)},
    }
    other = OptunaStrategy(space, PROBLEM, seed=0, sampler=Sampler(name))
    other.load_search_state(state)
    assert search(other, 3, space, 12)
    assert "optimizer" not in json.dumps(other.search_state())


def test_a_sampler_that_does_not_repeat_itself_cannot_be_resumed_and_says_so() -> None:
    odd_samplers.Absorbed.calls = 0
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler=Sampler(f"{ODD}Absorbed"))
    search(strategy, 3)
    odd_samplers.Absorbed.calls = 1
    other = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler=Sampler(f"{ODD}Absorbed"))
    with pytest.raises(ReplayError, match=r"Absorbed' is resumed by asking .* proposal 0 came out as .* new search"):
        other.load_search_state(strategy.search_state())


def test_foreign_trials_become_parents() -> None:
    # Without mutation and with a whole generation of foreign trials, children are made of their options alone.
    settings = {"population_size": 4, "mutation_prob": 0.0}
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler=Sampler("nsgaii", settings), attempts=100)
    foreign = [Architecture({f"d{place}": value for place in range(4)}) for value in (0, 1, 0, 1)]
    foreign[2], foreign[3] = foreign[0].replace(d0=1), foreign[1].replace(d0=0)
    strategy.tell([Trial(number, item, {"accuracy": 0.1 * number}) for number, item in enumerate(foreign)])
    for proposal in search(strategy, 4):
        assert proposal.info["origin"] == "sampler"
        assert set(proposal.architecture.values()) <= {0, 1}


def test_a_lower_fidelity_is_a_pruned_trial_and_claims_nothing() -> None:
    space = ToySpace(blocks=1, options=2)
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler="random")
    strategy.tell([Trial(0, Architecture({"d0": 0}), {"accuracy": 0.25}, fidelity=4.0)])
    assert events(strategy, "tell") == [["tell", 0, "pruned", [], [], [[4, 0.25]]]]
    assert {proposal.architecture["d0"] for proposal in search(strategy, 2, space)} == {0, 1}


def test_an_own_trial_is_told_however_it_was_asked_for() -> None:
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0, sampler="tpe")
    proposals = strategy.ask(5)
    trials = [Trial(number, item.architecture, {"accuracy": 0.1}) for number, item in enumerate(proposals)]
    strategy.tell([*reversed(trials)])
    assert [event[1] for event in events(strategy, "tell")] == [4, 3, 2, 1, 0]
    assert events(strategy, "add") == []


def test_subsets_outside_their_limits_are_mended_as_little_as_possible() -> None:
    class Edges(SearchSpace):
        decisions: dict[str, Decision] = {"kind": Choice((1, 2)), "edges": Subset(tuple("abcdefgh"), min=2, max=3)}  # type: ignore[assignment] # noqa: RUF012
        input_shape = ()  # type: ignore[assignment]

        def build(self, architecture: Architecture) -> None:  # type: ignore[override]
            raise SpaceError("nothing to build")

    space = Edges()
    parameters = Parameters(space)
    for trial in range(200):
        rng = stream(0, "codes", trial)
        code = [rng.randrange(2) for _ in range(9)]
        mended = parameters.mended(code, rng)
        count = sum(code[1:])
        assert sum(mended[1:]) == min(max(count, 2), 3)
        assert sum(a != b for a, b in zip(code, mended, strict=True)) == abs(sum(mended[1:]) - count)
        assert parameters.fits(mended)
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler=Sampler("tpe", {"n_startup_trials": 5}))
    search(strategy, 30, space)
    made = [event[1] for event in strategy.search_state()["events"] if event[0] != "tell"]
    complete = [made[event[1]] for event in events(strategy, "tell") if event[2] == "complete"]
    # What the sampler learned from is what was evaluated.
    assert len(complete) == 30
    assert all(parameters.fits(code) for code in complete)


def test_infeasible_suggestions_are_told_with_what_they_miss_and_cost_nothing() -> None:
    limit = parse_constraint("toy_cost", "<= 2")
    problem = Problem({"accuracy": "maximize"}, [limit], {"toy_cost": ToyCost(SPACE)})
    strategy = OptunaStrategy(SPACE, problem, seed=0, sampler="random", attempts=3)
    proposals = search(strategy, 15)
    # 0, 1 or 2 in all: 1 + 4 + 6 + 4 networks.
    assert len(proposals) == 15
    assert strategy.ask(1) == []
    pruned = [event for event in events(strategy, "tell") if event[2] == "pruned"]
    assert pruned
    for event in pruned:
        ((name, missed),) = event[4]
        assert name == "toy_cost <= 2"
        assert missed > 0


def test_a_configuration_is_checked_when_it_is_resolved() -> None:
    registry = PluginManager().load().registry

    def refused(**settings: Any) -> str:
        with pytest.raises(ConfigurationError) as caught:
            registry.resolve("strategies", {"name": "optuna", **settings}, path="stages[0].strategy")
        return str(caught.value)

    assert "stages[0].strategy.sampler: must be 'tpe'" in refused(sampler="tpee")
    assert "did you mean 'tpe'?" in refused(sampler="tpee")
    wrong = refused(sampler={"name": "nsgai", "settings": {}})
    assert wrong.startswith("stages[0].strategy.sampler.name: unknown sampler 'nsgai'; did you mean 'nsgaii'?")
    wrong = refused(sampler={"name": "tpe", "settings": {"n_startup": 3}})
    assert wrong.startswith("stages[0].strategy.sampler.settings.n_startup: the sampler 'tpe' has no setting")
    assert "did you mean 'n_startup_trials'? (it accepts: consider_prior" in wrong
    assert "must be int, not True" in refused(sampler={"name": "tpe", "settings": {"n_startup_trials": True}})
    assert "population_size" in refused(sampler={"name": "nsgaii", "settings": {"population_size": 1}})
    assert "takes a Python object" in refused(sampler={"name": "tpe", "settings": {"gamma": 3}})
    assert "supplied by the run" in refused(sampler={"name": "tpe", "settings": {"seed": 3}})
    assert "cannot import" in refused(sampler={"name": "optuna.samplers:Missing"})
    assert "is no sampler" in refused(sampler={"name": "optuna:Study"})
    assert "takes no seed" in refused(sampler={"name": "optuna.samplers:PartialFixedSampler"})
    good = registry.resolve("strategies", {"name": "optuna", "sampler": {"name": "tpe"}})
    assert good["sampler"] == {"name": "tpe", "settings": {}}
    assert registry.resolve("strategies", good) == good


def test_what_a_sampler_cannot_do_is_said_before_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    if not WITH_CMAES:
        with pytest.raises(ConfigurationError, match="pip install cmaes"):
            OptunaStrategy(Widths(), PROBLEM, seed=0, sampler="cmaes")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    several = Problem({"accuracy": "maximize", "latency": "minimize"})
    with pytest.raises(ConfigurationError, match=r"takes one objective, and the problem has 2: use tpe"):
        OptunaStrategy(Widths(), several, seed=0, sampler="cmaes")
    with pytest.raises(ConfigurationError, match="the space has none"):
        OptunaStrategy(SPACE, PROBLEM, seed=0, sampler="cmaes")
    measured = Problem({"accuracy": "maximize"}, [parse_constraint("memory", "<= 3")])
    with pytest.raises(ConfigurationError, match=r"constraints on metrics, and the problem limits 'memory'"):
        OptunaStrategy(Widths(), measured, seed=0, sampler="cmaes")


def test_an_old_optuna_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    monkeypatch.setattr(optuna, "__version__", "4.2.0")
    with pytest.raises(ConfigurationError, match=r"Optuna 4\.2\.0 is too old"):
        Sampler("tpe")


@pytest.mark.parametrize("setting", ["attempts", "draws"])
def test_settings_out_of_range(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{setting} must be at least 1, not 0"):
        OptunaStrategy(SPACE, PROBLEM, seed=0, **{setting: 0})


def test_parameters_that_would_share_a_name_are_refused() -> None:
    class Clash(Mixed):
        @property
        def decisions(self) -> dict[str, Decision]:
            return {"edges": Subset(("a",)), 'edges["a"]': Choice((0, 1))}

    with pytest.raises(SpaceError, match="there is one already"):
        OptunaStrategy(Clash(), PROBLEM, seed=0)


def test_trials_of_another_space_are_refused() -> None:
    strategy = OptunaStrategy(SPACE, PROBLEM, seed=0)
    with pytest.raises(SpaceError, match="'other'"):
        strategy.tell([Trial(0, Architecture({"other": 1}), {"accuracy": 1.0})])


def test_a_failed_network_is_not_tried_again() -> None:
    space = ToySpace(blocks=1, options=2)
    strategy = OptunaStrategy(space, PROBLEM, seed=0, sampler="nsgaii")
    (first,) = strategy.ask(1)
    strategy.tell([Trial(0, first.architecture, state=State.FAILED)])
    (second,) = strategy.ask(1)
    assert second.architecture != first.architecture
    strategy.tell([Trial(1, second.architecture, {"accuracy": 1.0})])
    assert strategy.ask(1) == []
