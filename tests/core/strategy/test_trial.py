"""Trials, the public names, and what importing them costs."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from automl_nas.space.architecture import Architecture
from automl_nas.strategy.trial import Trial

ANY = Architecture({"d": 0})


@pytest.mark.parametrize(
    ("violations", "feasible"), [({}, True), ({"a": 0.0, "b": -1.0}, True), ({"a": -1.0, "b": 1e-9}, False)]
)
def test_feasible_means_that_no_constraint_is_violated(violations: dict[str, float], feasible: bool) -> None:
    assert Trial(0, ANY, violations=violations).feasible is feasible


def test_values_contain_metrics_and_costs() -> None:
    assert Trial(0, ANY, {"accuracy": 0.5}, {"flops": 3.0}).values == {"accuracy": 0.5, "flops": 3.0}


@pytest.mark.process
def test_search_and_toys_do_not_import_torch() -> None:
    code = (
        "import sys, automl_nas.strategy as s, automl_nas.testing as t\n"
        "[getattr(s, name) for name in s.__all__]\n"
        "space = t.ToySpace(); t.toy_metric(t.toy_optimum(space), space); t.ToyTask()\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_violations_are_added_up_and_the_default_fidelity_is_the_highest() -> None:
    violations = {"a <= 1": 0.5, "b <= 1": -0.25, "c <= 1": 0.125}
    assert Trial(0, ANY, violations=violations).total_violation == 0.625
    assert Trial(0, ANY, violations={"b <= 1": -0.25}).total_violation == 0
    assert Trial(0, ANY).effective_fidelity == math.inf
    assert Trial(0, ANY, fidelity=3).effective_fidelity == 3
