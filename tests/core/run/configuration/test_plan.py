"""Configurations are resolved completely, or refused with the path of the setting, before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from end_to_end.failing_candidates import Free
from end_to_end.runs import changed, config, small_space

from automl_nas.errors import ConfigurationError, DataError, InfeasibleError, PluginError
from automl_nas.plugin.registry import Registry
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.record.yaml import dump_yaml, parse_yaml
from automl_nas.testing.toys import ToySpace, ToyTask

SHUFFLENET = {
    "name": "shufflenet_v2",
    "stem_channels": 8,
    "stem_stride": 1,
    "widths": [16],
    "repeats": [2],
    "strides": [1],
    "last_channels": 16,
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return complete_manager().registry


def named(**changes: Any) -> dict[str, Any]:
    """Return a configuration of names only, as a file holds it."""
    return {"task": "digits", "space": dict(SHUFFLENET), "problem": {"costs": ["params"]}, **changes}


def test_defaults_are_spos_with_a_final_stage(registry: Registry) -> None:
    plan = make_plan(named(), registry)
    assert [stage.settings.name for stage in plan.stages] == ["supernet", "search"]
    assert [stage.settings.strategy["name"] for stage in plan.stages] == ["single_path", "evolution"]
    assert plan.stages[1].settings.evaluator["name"] == "supernet_weights"
    assert plan.config["problem"]["objectives"] == {"accuracy": "maximize"}
    assert plan.final is not None
    assert plan.final.source == "search"
    assert plan.final.settings.split == "train+search"
    assert [spec["name"] for spec in plan.final.export] == ["safetensors"]


def test_searches_with_supernet_weights_are_compared_by_loss_unless_objectives_are_named(registry: Registry) -> None:
    plan = make_plan(named(), registry)
    assert plan.stages[1].problem.objectives == {"loss": "minimize"}
    # The resolved configuration has it in the stage, since its own top-level objectives count as named on resume.
    assert plan.config["stages"][1]["problem"]["objectives"] == {"loss": "minimize"}
    assert make_plan(plan.config, registry).stages[1].problem.objectives == {"loss": "minimize"}
    accuracy = {"accuracy": "maximize"}
    plan = make_plan(named(problem={"objectives": accuracy, "costs": ["params"]}), registry)
    assert plan.stages[1].problem.objectives == accuracy
    evaluator = {"name": "supernet_weights"}
    supernet = {"name": "supernet", "strategy": "single_path"}
    stages = [
        supernet,
        {"name": "own", "strategy": "random", "evaluator": evaluator, "problem": {"objectives": accuracy}},
    ]
    assert make_plan(named(stages=stages), registry).stages[1].problem.objectives == accuracy
    stages = [{"name": "trained", "strategy": "random", "evaluator": "train", "budget": {"trials": 2}}]
    assert make_plan(named(stages=stages), registry).stages[0].problem.objectives == accuracy


def test_weights_of_another_run_are_recorded_with_an_absolute_path(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "other" / "artifacts" / "supernet" / "weights.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    monkeypatch.chdir(tmp_path)
    weights = {"name": "supernet_weights", "weights": "other:supernet"}
    for strategy, evaluator in (("random", weights), ({"name": "surrogate", "evidence": [weights]}, "train")):
        stages = [{"name": "search", "strategy": strategy, "evaluator": evaluator, "budget": {"trials": 2}}]
        plan = make_plan(named(stages=stages), registry)
        assert f'"weights": "{tmp_path}/other:supernet"' in json.dumps(plan.config)
        assert make_plan(plan.config, registry).config == plan.config


def test_the_space_takes_classes_and_input_shape_from_the_task(registry: Registry) -> None:
    plan = make_plan(named(), registry)
    assert plan.config["space"]["num_classes"] == 10
    assert plan.config["space"]["input_shape"] == [1, 8, 8]
    assert tuple(plan.space.input_shape) == (1, 8, 8)


def test_resolving_a_resolved_configuration_changes_nothing(registry: Registry) -> None:
    raw = named(
        problem={"constraints": {"flops": "<= 0.9 * largest", "params": {"limit": "<= 1M", "of": "search"}}},
        final={
            "space": {"variant": "final"},
            "top_k": 2,
            "data": "train",
            "baselines": ["largest"],
            "export": ["safetensors", {"name": "onnx"}],
        },
    )
    once = make_plan(raw, registry)
    text = dump_yaml(once.config)
    twice = make_plan(parse_yaml(text, "config.yaml").value, registry)
    assert twice.config == once.config
    assert twice.fingerprint == once.fingerprint
    assert json.loads(json.dumps(once.config)) == once.config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("sede", 1, r"sede: the configuration has no setting 'sede'; did you mean 'seed'\?"),
        ("seed", "7", "seed: must be a whole number, not '7'; remove the quotes"),
        ("task.name", "digit", r"task.name: unknown task 'digit'; did you mean 'digits'\?"),
        ("task.batchsize", 3, r"task.batchsize: 'digits' has no setting 'batchsize'; did you mean 'batch_size'\?"),
        ("stages.0.strategy.name", "singlepath",
         r"stages\[0\].strategy.name: unknown strategy 'singlepath'; did you mean 'single_path'\?"),
        ("stages.0.strategy.train.epoch", 3, r"stages\[0\].strategy.train.epoch: .*did you mean 'epochs'\?"),
        ("stages.0.strategy.train.epochs", True,
         r"stages\[0\].strategy.train.epochs: must be a whole number, not true"),
        ("stages.0.strategy.train.schedule", "cosin", r"schedule: .*did you mean 'cosine'\?"),
        ("stages.1.batch", 0, r"stages\[1\].batch: must be at least 1, not 0"),
        ("stages.1.ahead", 1, r"stages\[1\].ahead: must be at least batch \(2\), not 1"),
        ("stages.1.name", "supernet", r"stages\[1\].name: two stages have the name 'supernet'"),
        ("stages.1.name", "final", r"stages\[1\].name: the name 'final' is reserved for the final stage"),
        ("stages.1.evaluator.weights", "supernt",
         r"stages\[1\].evaluator.weights: no earlier stage is called 'supernt'; did you mean 'supernet'\?"),
        ("stages.1.strategy", {"name": "surrogate", "evidence": [{"name": "supernet_weights", "weights": "supernt"}]},
         r"stages\[1\].strategy.evidence\[0\].weights: no earlier stage is called 'supernt'"),
        ("stages.1.evaluator", {"name": "levels", "evaluators": [{"name": "supernet_weights", "weights": "supernet"},
                                                                 {"name": "supernet_weights", "weights": "supernt"}]},
         r"stages\[1\].evaluator.evaluators\[1\].weights: no earlier stage is called 'supernt'"),
        ("stages.1.evaluator.weights", "elsewhere:supernet", r"the run elsewhere has no weights 'supernet'"),
        ("stages.0.budget", {"seconds": 60.0},
         r"stages\[0\].budget.seconds: .* its strategy saves the weights that stages\[1\].evaluator.weights names"),
        ("problem.constraints.flop", "<= 1M",
         r"problem.constraints.flop: 'flop' is neither a metric of the evaluator nor a cost; did you mean 'flops'\?"),
        ("problem.constraints.flops", "< 1M",
         r"problem.constraints.flops: cannot read the constraint '< 1M'; write '<= 330M'"),
        ("problem.constraints.flops", 1000, r"problem.constraints.flops: must be a string such as '<= 330M'"),
        ("problem.constraints.accuracy", "<= 0.5 * largest",
         "is relative to the space, which is possible for costs only"),
        ("problem.objectives", {"acuracy": "maximize"}, r"problem.objectives.acuracy: .*did you mean 'accuracy'\?"),
        ("problem.costs", ["flop"], r"problem.costs.flop.name: unknown cost model 'flop'; did you mean 'flops'\?"),
        ("final.from", "serch", r"final.from: no stage is called 'serch'; did you mean 'search'\?"),
        ("final.export", ["onx"], r"final.export\[0\].name: unknown exporter 'onx'; did you mean 'onnx'\?"),
        ("final.top_k", 0, "final.top_k: top_k must be at least 1, not 0"),
        ("final.baselines", ["biggest"], r"final.baselines\[0\]: must be 'largest', 'random' or 'equal'"),
        ("executor", "threads", "executor.name: unknown executor 'threads'"),
        ("runtime.device", "gpu7", "runtime.device: the device 'gpu7' is not available"),
    ],
)  # fmt: skip
def test_errors_name_the_path_of_the_setting(registry: Registry, path: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_plan(changed(config(), path, value), registry)


def test_top_k_above_1_needs_images_that_were_not_trained_on(registry: Registry) -> None:
    with pytest.raises(ConfigurationError, match=r"final.data: top_k is 3, and choosing .* set data: train"):
        make_plan(config(final={"top_k": 3, "data": "train+search"}), registry)


def test_an_impossible_limit_says_by_how_much(registry: Registry) -> None:
    space = small_space()
    # By hand: a 3x3 stem on 8x8 pixels from 1 to 8 channels, and a 10-way classifier; all choices are skipped.
    smallest = 8 * 8 * 9 * 8 + 8 * 10
    with pytest.raises(
        InfeasibleError,
        match=rf"the smallest one needs {smallest:,} multiply-adds, {smallest - 1000:,} more than the limit",
    ):
        make_plan(config(space=space, problem={"constraints": {"flops": "<= 1k"}}), registry)
    with pytest.raises(InfeasibleError, match="less than the limit; lower the limit"):
        make_plan(config(space=space, problem={"constraints": {"flops": ">= 1G"}}), registry)


def test_a_space_of_another_shape_is_refused(registry: Registry) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"space: the space takes inputs of shape \(1, 16, 16\), and .* samples have the shape \(1, 8, 8\)",
    ):
        make_plan(named(space={**SHUFFLENET, "input_shape": [1, 16, 16]}), registry)
    with pytest.raises(
        ConfigurationError, match="networks have 100 outputs, and the task has 10 classes; set the space's num_classes"
    ):
        make_plan(named(space={**SHUFFLENET, "num_classes": 100}), registry)


def test_a_strategy_that_needs_a_supernet_is_refused_for_other_spaces(registry: Registry) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"stages\[0\].strategy: the strategy 'single_path' needs a SupernetSpace; ToySpace is not one",
    ):
        make_plan({"task": ToyTask(), "space": ToySpace(), "problem": {"costs": []}}, registry)


def test_a_collaborator_that_the_run_does_not_supply_is_refused(registry: Registry) -> None:
    stage = {"name": "search", "strategy": "random", "evaluator": "inherited", "budget": {"trials": 3}}
    with pytest.raises(
        ConfigurationError, match=r"stages\[0\].evaluator: 'inherited' needs a Task, which this run does not supply"
    ):
        make_plan(
            {"space": small_space(), "problem": {"objectives": {"accuracy": "maximize"}}, "stages": [stage]}, registry
        )


def test_a_missing_data_file_is_named(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.npz"):
        make_plan(named(task={"name": "npz", "path": str(tmp_path / "absent.npz")}), registry)


def test_a_resolved_run_with_python_objects_says_how_to_resume(registry: Registry) -> None:
    plan = make_plan(config(), registry)
    with pytest.raises(ConfigurationError, match=r"space: the space of this run is the Python object.*resume=True"):
        make_plan(plan.config, registry)


def test_a_class_is_accepted_as_a_component(registry: Registry) -> None:
    stage = {"name": "search", "strategy": "random", "evaluator": Free, "budget": {"trials": 3}}
    plan = make_plan(
        {"space": small_space(), "problem": {"objectives": {"accuracy": "maximize"}}, "stages": [stage]}, registry
    )
    assert plan.stages[0].settings.evaluator == {"name": "python:end_to_end.failing_candidates:Free"}
    assert plan.final is None


def test_a_stage_may_have_a_problem_of_its_own(registry: Registry) -> None:
    """Several limits with one supernet."""
    raw = config()
    small = {**raw["stages"][1], "name": "small", "problem": {"constraints": {"flops": "<= 0.3 * largest"}}}
    plan = make_plan({**raw, "stages": [*raw["stages"], small]}, registry)
    limits = [stage.problem.constraints[0].high for stage in plan.stages]
    assert limits[0] == limits[1] == pytest.approx(2 * limits[2])
    assert plan.stages[2].problem.objectives == {"loss": "minimize"}


def test_a_stage_s_limit_is_on_the_cost_of_that_name(registry: Registry) -> None:
    """Also if another cost model is registered under the name of a cost of the top-level problem."""
    raw = named(problem={"costs": {"flops": "params"}})
    limit = {"constraints": {"flops": "<= 1M"}}
    stage = {"name": "small", "strategy": "random", "evaluator": "train", "problem": limit}
    (small,) = make_plan({**raw, "stages": [stage], "final": None}, registry).stages
    assert small.problem.cost_models["flops"].metric == "params"


def test_costs_are_those_of_the_delivered_network_by_default(registry: Registry) -> None:
    """The final variant has affine batch normalisation, so it has more parameters than the search variant."""
    raw = named(final={"space": {"variant": "final"}}, problem={"constraints": {"params": "<= 1M"}})
    architecture = make_plan(raw, registry).space.validate(
        dict.fromkeys(["stage1.block1", "stage1.block2"], "shuffle3")
    )
    final = make_plan(raw, registry).stages[1].problem
    searched = (
        make_plan({**raw, "problem": {"constraints": {"params": {"limit": "<= 1M", "of": "search"}}}}, registry)
        .stages[1]
        .problem
    )
    affine = sum(
        2 * m.num_features
        for m in make_plan(raw, registry).final_space.build(architecture).modules()
        if hasattr(m, "num_features")
    )
    assert affine > 0
    costs = searched.costs(architecture)
    assert costs["params"] == final.costs(architecture)["params"] == costs["params of search"] + affine


def test_a_plugin_that_is_not_loaded_is_mentioned() -> None:
    from automl_nas.plugin.manager import PluginManager
    from automl_nas.run.configuration.builtin import with_builtin

    manager = with_builtin(PluginManager({"AUTOML_NAS_DISABLED_PLUGINS": "vision"}).load())
    with pytest.raises((ConfigurationError, PluginError), match=r"unknown task 'digits'.*vision.*disabled"):
        make_plan(named(), manager.registry)


def test_the_number_of_processes_must_be_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import automl_nas

    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(ConfigurationError, match=r"WORLD_SIZE is 'two', and must be the number of processes"):
        automl_nas.search(config(), out=tmp_path / "run")
    monkeypatch.setenv("WORLD_SIZE", "")
    with pytest.raises(ConfigurationError, match="seed: must not be negative"):
        automl_nas.search(config(), seed=-1, out=tmp_path / "run")


def test_the_variables_of_torchrun_must_be_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import automl_nas

    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigurationError, match=r"WORLD_SIZE is 2, and LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not"):
        automl_nas.search(config(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_time_limit_of_ranks_must_be_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import automl_nas

    for name in ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    for value in ("soon", "0", "-1", "nan"):
        monkeypatch.setenv("AUTOML_NAS_RANK_TIMEOUT", value)
        with pytest.raises(ConfigurationError, match=f"AUTOML_NAS_RANK_TIMEOUT is '{value}', and must be a number"):
            automl_nas.search(config(), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ([{"name": [1]}], r"problem\.costs\[0\]\.name: must be a string"),
        (["params", [2]], r"problem\.costs\[1\]: must be a name or a mapping"),
    ],
)
def test_a_list_of_costs_that_are_no_components_is_located(tmp_path: Path, costs: list[object], message: str) -> None:
    import automl_nas

    with pytest.raises(ConfigurationError, match=message):
        automl_nas.search(config(), problem={"costs": costs}, out=tmp_path / "run")
