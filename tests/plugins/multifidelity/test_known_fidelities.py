"""A strategy whose fidelities the stage's evaluator cannot have is refused before the run, with the way out."""

from __future__ import annotations

from typing import Any

import pytest

from automl_nas.errors import ConfigurationError
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.resolver import make_plan
from automl_nas_benchmarks.tables.evaluators import NASBench201Evaluator
from automl_nas_benchmarks.tables.packaged import load_table

HYPERBAND = {"name": "hyperband", "fidelities": [12, 200]}


def plan(strategy: Any, evaluator: Any, space: Any = "nasbench201", **more: Any) -> Any:
    stage = {"name": "search", "strategy": strategy, "evaluator": evaluator, "budget": {"trials": 4}}
    problem = {"objectives": {"accuracy": "maximize"}, "costs": []}
    config = {"space": space, "problem": problem, "stages": [stage], "final": None, **more}
    return make_plan(config, complete_manager().registry)


DIGITS = {"task": "digits", "space": {"name": "mlp", "input_shape": [1, 8, 8]}}


@pytest.mark.parametrize(
    ("strategy", "evaluator", "more", "message"),
    [
        (HYPERBAND, {"name": "nasbench201", "dataset": "cifar100"}, {},
         r"strategy: the strategy 'hyperband' has candidates evaluated at the fidelity 200, and the table has the val "
         r"accuracy on cifar100 after 12 epochs"),
        ({"name": "asha", "fidelities": [12, 100, 200]}, "nasbench201", {},
         r"'asha' .* fidelity 100, and .* after 12 or 200 epochs"),
        ({"name": "successive_halving", "fidelities": [12, 200]}, "nasbench_macro", {"space": "nasbench_macro"},
         r"fidelity 12, and the table has no fidelities"),
        ({"name": "asha", "fidelities": [1, 2.5]}, {"name": "train", "train": {"epochs": 3}}, DIGITS,
         r"fidelity 2.5, and a fidelity must be a whole number of epochs, at least 1, not 2.5"),
        ({"name": "asha", "fidelities": [1, 2]}, {"name": "train", "train": {"epochs": 2, "warmup_epochs": 1}}, DIGITS,
         r"fidelity 1, and train: warmup_epochs \(1.*\) must be smaller than epochs \(1\)"),
        ({"name": "asha", "fidelities": [1, 3]}, {"name": "zero_cost", "proxies": ["nwot"]}, DIGITS,
         r"fidelity 1, and the evaluator 'zero_cost' has no fidelities"),
        ({"name": "asha", "fidelities": [1, 2, 3]}, {"name": "levels", "evaluators": ["train", "train"]}, DIGITS,
         r"fidelity 3, and the evaluator 'levels' has the fidelities 1 to 2"),
        ({"name": "retry", "strategy": HYPERBAND}, {"name": "nasbench201", "dataset": "cifar100"}, {},
         r"strategy\.strategy: the strategy 'hyperband'"),
    ],
)  # fmt: skip
def test_a_fidelity_that_evaluations_cannot_have_is_refused(
    strategy: Any, evaluator: Any, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^stages\[0\].*{message}"):
        plan(strategy, evaluator, **more)


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100", "imagenet16-120"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_what_a_table_accepts_is_what_it_answers(dataset: str, split: str) -> None:
    columns = load_table("nasbench201").columns
    for epochs in (12.0, 200.0, 12.5, 100.0):
        settings = {"dataset": dataset, "split": split}
        there = f"{dataset}_{split}_{epochs:g}" in columns
        if there:
            NASBench201Evaluator.check_fidelity(settings, epochs)
        else:
            with pytest.raises(ConfigurationError, match="the table has the"):
                NASBench201Evaluator.check_fidelity(settings, epochs)


def test_fidelities_that_evaluations_have_are_accepted() -> None:
    plan(HYPERBAND, "nasbench201")
    plan({"name": "asha", "fidelities": [1, 3]}, {"name": "train", "train": {"epochs": 3}}, **DIGITS)
    plan({"name": "asha", "fidelities": [1, 2]}, {"name": "levels", "evaluators": ["train", "train"]}, **DIGITS)
