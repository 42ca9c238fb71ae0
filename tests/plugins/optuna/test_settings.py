"""Invalid settings, and the errors that name them."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from plugins.optuna.spaces import Widths

from automl_nas.errors import ConfigurationError
from automl_nas.plugin import PluginManager
from automl_nas.strategy import Problem, parse_constraint
from automl_nas.testing import ToySpace
from automl_nas_optuna.strategy.optuna_strategy import OptunaStrategy
from automl_nas_optuna.strategy.samplers import Sampler

SPACE = ToySpace(blocks=4, options=3)
PROBLEM = Problem({"accuracy": "maximize"})
WITH_CMAES = importlib.util.find_spec("cmaes") is not None


def test_a_configuration_is_checked_when_it_is_resolved() -> None:
    registry = PluginManager().load().registry

    def refused(**settings: Any) -> str:
        with pytest.raises(ConfigurationError) as caught:
            registry.resolve("strategies", {"name": "optuna", **settings}, path="stages[0].strategy")
        return str(caught.value)

    assert "stages[0].strategy.sampler: must be 'tpe'" in refused(sampler="tpee")
    assert "did you mean 'tpe'?" in refused(sampler="tpee")
    message = refused(sampler={"name": "nsgai", "settings": {}})
    assert message.startswith("stages[0].strategy.sampler.name: unknown sampler 'nsgai'; did you mean 'nsgaii'?")
    message = refused(sampler={"name": "tpe", "settings": {"n_startup": 3}})
    assert message.startswith("stages[0].strategy.sampler.settings.n_startup: the sampler 'tpe' has no setting")
    assert "did you mean 'n_startup_trials'? (it accepts: consider_prior" in message
    assert "must be int, not True" in refused(sampler={"name": "tpe", "settings": {"n_startup_trials": True}})
    assert "population_size" in refused(sampler={"name": "nsgaii", "settings": {"population_size": 1}})
    assert "takes a Python object" in refused(sampler={"name": "tpe", "settings": {"gamma": 3}})
    assert "supplied by the run" in refused(sampler={"name": "tpe", "settings": {"seed": 3}})
    assert "cannot import" in refused(sampler={"name": "optuna.samplers:Missing"})
    assert "is not a sampler" in refused(sampler={"name": "optuna:Study"})
    assert "'seed'" in refused(sampler={"name": "optuna.samplers:PartialFixedSampler"})
    good = registry.resolve("strategies", {"name": "optuna", "sampler": {"name": "tpe"}})
    assert good["sampler"] == {"name": "tpe", "settings": {}}
    assert registry.resolve("strategies", good) == good


def test_a_sampler_that_does_not_support_the_space_or_problem_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
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
    with pytest.raises(ConfigurationError, match=f"{setting}: must be at least 1"):
        OptunaStrategy(SPACE, PROBLEM, seed=0, **{setting: 0})
