"""The toys as a plugin, which is not installed."""

from __future__ import annotations

from automl_nas.plugin import Register, hookimpl


@hookimpl
def register_spaces(register: Register) -> None:
    register("toy", "automl_nas.testing.toys:ToySpace", summary="kernels")


@hookimpl
def register_tasks(register: Register) -> None:
    register("toy", "automl_nas.testing.toys:ToyTask", summary="blobs")


@hookimpl
def register_evaluators(register: Register) -> None:
    register("toy", "automl_nas.testing.toys:ToyEvaluator", summary="a closed form")


@hookimpl
def register_cost_models(register: Register) -> None:
    register("toy_cost", "automl_nas.testing.toys:ToyCost", summary="a sum")
