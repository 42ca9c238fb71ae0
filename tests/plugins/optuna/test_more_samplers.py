"""The samplers `grid` and `partial_fixed` by name, and spaces without conditional parameters, against Optuna itself."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
import pytest
from optuna.samplers import BaseSampler, GPSampler, GridSampler, PartialFixedSampler, QMCSampler, RandomSampler
from plugins.optuna.spaces import Mixed, search

from automl_nas.errors import ConfigurationError
from automl_nas.space.decision_space import DecisionSpace
from automl_nas.space.decisions import Choice, Ordinal, Subset
from automl_nas.space.operators import enumerate_all
from automl_nas.strategy import Problem
from automl_nas.streams import stream
from automl_nas_optuna import OptunaStrategy, Sampler, architecture_of, parameters_of, suggest
from automl_nas_optuna.strategy.samplers import MAX_GRID, grid_of

PROBLEM = Problem({"accuracy": "maximize"})
SMALL = DecisionSpace({"op": Choice(("a", "b", "c")), "width": Ordinal((8, 16, 40))})


def strategy(space: Any, name: str, **settings: Any) -> OptunaStrategy:
    return OptunaStrategy(space, PROBLEM, seed=1, sampler=Sampler(name, settings))


def test_a_grid_proposes_each_architecture_once() -> None:
    proposals = search(strategy(SMALL, "grid"), 20, SMALL)
    assert {proposal.architecture for proposal in proposals} == set(enumerate_all(SMALL.decisions))
    assert len(proposals) == 9
    assert {proposal.info["origin"] for proposal in proposals} == {"sampler"}


def test_a_grid_is_optunas_and_is_resumed() -> None:
    grid = {"op": [0, 1, 2], "width": [0, 1, 2]}
    assert grid_of(strategy(SMALL, "grid")._parameters.distributions) == grid
    whole = search(strategy(SMALL, "grid"), 9, SMALL)
    first = strategy(SMALL, "grid")
    begun = search(first, 4, SMALL)
    second = strategy(SMALL, "grid")
    second.load_search_state(first.search_state())
    rest = search(second, 9, SMALL, first=4)
    assert [item.architecture for item in [*begun, *rest]] == [item.architecture for item in whole]
    # In a loop of Optuna's own with the same grid, the sampler visits the same points.
    study = optuna.create_study(direction="maximize", sampler=GridSampler(grid, seed=5))
    study.optimize(lambda trial: trial.suggest_int("op", 0, 2) * trial.suggest_int("width", 0, 2), n_trials=9)
    points = {(trial.params["op"], trial.params["width"]) for trial in study.trials}
    codes = {tuple(strategy(SMALL, "grid")._parameters.encode(item.architecture)) for item in whole}
    assert codes == points


def test_grids_that_do_not_fit_into_memory_are_refused() -> None:
    large = DecisionSpace({f"op{number}": Choice(("a", "b", "c")) for number in range(20)})
    with pytest.raises(ConfigurationError, match=rf"the grid has 3.49e\+09 points, .* at most {MAX_GRID:,}"):
        strategy(large, "grid")
    with pytest.raises(ConfigurationError, match="a grid needs a step, and 'rate' has none"):
        grid_of({"rate": optuna.distributions.FloatDistribution(0.0, 1.0)})
    assert grid_of({"x": optuna.distributions.FloatDistribution(0.5, 1.5, step=0.5)}) == {"x": [0.5, 1.0, 1.5]}


@pytest.mark.parametrize("base", ["random", "tpe", {"name": "nsgaii", "settings": {"population_size": 4}}])
def test_fixed_decisions_are_fixed(base: Any) -> None:
    space = Mixed()
    fixed = {"branch": True, "width": 48, "edges": ["b", "d"]}
    fixing = strategy(space, "partial_fixed", fixed_params=fixed, base_sampler=base)
    proposals = search(fixing, 10, space)
    # Two operations are left. Repeated suggestions are followed by random draws, and these are restricted, too.
    assert {proposal.architecture["operation"] for proposal in proposals} == {"conv", "pool"}
    assert len(proposals) == 2
    for proposal in proposals:
        values = dict(proposal.architecture)
        assert (values["branch"], values["width"], values["edges"]) == (True, 48, ("b", "d"))


def test_partial_fixed_samples_as_optunas() -> None:
    space = DecisionSpace({f"w{number}": Ordinal(tuple(range(8))) for number in range(4)})
    fixing = strategy(space, "partial_fixed", fixed_params={"w1": 5}, base_sampler="random")
    seeds: list[int] = []
    sampler = fixing._study._sampler
    make = type(sampler).make

    def recorded(self: Sampler, seed: int, *others: Any) -> BaseSampler:
        if self.name == "partial_fixed":
            seeds.append(seed)
        return make(self, seed, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sampler, "make", recorded)
        proposals = search(fixing, 6, space)
    expected = []
    for seed in seeds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own = PartialFixedSampler({"w1": 5}, RandomSampler(seed=seed))
        study = optuna.create_study(sampler=own)
        trial = study.ask()
        expected.append([trial.suggest_int(f"w{number}", 0, 7) for number in range(4)])
    assert [list(proposal.architecture.values()) for proposal in proposals] == expected


@pytest.mark.parametrize(
    ("settings", "message", "path"),
    [
        ({}, "write the fixed values", "settings.fixed_params"),
        ({"fixed_params": {"width": 17}}, "17", "sampler.settings.fixed_params.width"),
        ({"fixed_params": {"widht": 16}}, "did you mean 'width'", "sampler.settings.fixed_params.widht"),
        ({"fixed_params": {}, "base": "tpe"}, "has no setting 'base'; .*base_sampler", "settings.base"),
        ({"fixed_params": {}, "base_sampler": "tpee"}, "did you mean 'tpe'", "settings.base_sampler.name"),
        ({"fixed_params": {}, "base_sampler": "grid"}, "use brute_force", "settings.base_sampler"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str, path: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        strategy(Mixed(), "partial_fixed", **settings)
    assert caught.value.path == path


LIMITED = DecisionSpace({"edges": Subset(("a", "b", "c", "d"), min=1, max=2), "width": Ordinal((8, 16, 24))})


def test_without_conditional_parameters_gp_and_qmc_model_all_parameters() -> None:
    modelled: dict[bool, list[set[str]]] = {}
    for conditional in (False, True):
        study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=0))
        for _ in range(6):
            trial = study.ask()
            architecture = suggest(trial, LIMITED, conditional=conditional)
            assert LIMITED.validate(architecture) == architecture
            assert architecture_of(trial.params, LIMITED) == architecture
            study.tell(trial, float(str(architecture["width"])))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            models = [GPSampler(seed=0), QMCSampler(seed=0)]
        frozen = study.trials[-1]
        modelled[conditional] = [set(sampler.infer_relative_search_space(study, frozen)) for sampler in models]
    everything = {*parameters_of(LIMITED.sample(stream(0, "test")), LIMITED, conditional=False)}
    assert modelled[False] == [everything, everything]
    assert all(names < everything for names in modelled[True])


def test_without_conditional_parameters_qmc_draws_nothing_independently(monkeypatch: pytest.MonkeyPatch) -> None:
    draws: list[int] = []
    original = QMCSampler.sample_independent

    def counted(self: QMCSampler, study: Any, trial: Any, *others: Any) -> Any:
        draws.append(trial.number)
        return original(self, study, trial, *others)

    monkeypatch.setattr(QMCSampler, "sample_independent", counted)
    for conditional in (False, True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = QMCSampler(seed=0, warn_independent_sampling=False)
        study = optuna.create_study(sampler=sampler)
        draws.clear()
        for _ in range(9):
            trial = study.ask()
            study.tell(trial, float(str(suggest(trial, LIMITED, conditional=conditional)["width"])))
        # The first trial tells the sampler which parameters there are.
        assert bool([number for number in draws if number > 0]) is conditional


def test_all_parameters_are_enqueued_and_those_without_effect_are_ignored() -> None:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    for number in range(20):
        architecture = LIMITED.sample(stream(number, "test"))
        parameters = parameters_of(architecture, LIMITED, conditional=False)
        assert set(parameters) == {'edges["a"]', 'edges["b"]', 'edges["c"]', 'edges["d"]', "width"}
        study.enqueue_trial(parameters)
        assert suggest(study.ask(), LIMITED, conditional=False) == architecture
    everything = {f'edges["{option}"]': True for option in "abcd"}
    study.enqueue_trial({**everything, "width": 8})
    assert suggest(study.ask(), LIMITED, conditional=False)["edges"] == ("a", "b")
