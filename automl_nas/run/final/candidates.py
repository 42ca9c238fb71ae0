"""The candidates of the final stage, and how the networks trained from them are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automl_nas.evaluation.statistics import difference_interval
from automl_nas.run.final.report import BaselineComparison, FinalNetwork
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.trial import Trial

TEACHER = "teacher"
"""The role of the teacher that the final stage trains."""


@dataclass(frozen=True)
class FinalCandidate:
    """An architecture that the final stage may train.

    Attributes:
        role: ``found`` for an architecture of the search; ``largest``, ``random`` or ``equal`` for a baseline;
            ``teacher`` for the teacher that the stage trains.
        architecture: to build.
        space: that builds it.
        costs: cost -> value that the cost model computes or predicts.
        trial: number of the trial that it comes from; None for a baseline.
        spec: the resolved configuration of the space, if a width was fitted for this architecture; else None.
    """

    role: str
    architecture: Architecture
    space: SearchSpace
    costs: Mapping[str, float]
    trial: int | None = None
    spec: Mapping[str, Any] | None = None


def compare(metric: str, networks: Sequence[FinalNetwork], chosen: int, other: int) -> BaselineComparison:
    """Return the difference in the test metric between the delivered network and another one, with its interval.

    Args:
        metric: by which they are compared.
        networks: that were trained; both were tested.
        chosen: position of the delivered network.
        other: position of the other network.
    """
    delivered, baseline = networks[chosen], networks[other]
    assert delivered.test is not None and baseline.test is not None
    interval = None
    if metric in delivered.test_interval and metric in baseline.test_interval:
        interval = difference_interval(
            delivered.test[metric],
            delivered.test_interval[metric],
            baseline.test[metric],
            baseline.test_interval[metric],
        )
    return BaselineComparison(baseline.role, other, delivered.test[metric] - baseline.test[metric], interval)


def no_feasible_network(stage: str, trials: Sequence[Trial]) -> str:
    """Return why a stage has no feasible trial: its trials failed, or by how much the nearest one misses a constraint.

    Args:
        stage: name of the stage.
        trials: of the stage.
    """
    if not trials:
        return (
            f"the stage '{stage}' made no trials to retrain a network from; for a run that only trains a "
            "supernet set final: null"
        )
    complete = [trial for trial in trials if trial.state.value == "complete"]
    if not complete:
        failed = [trial for trial in trials if trial.error]
        last = f"; the last failed one (trial {failed[-1].number}): {failed[-1].error}" if failed else ""
        return f"the stage '{stage}' has no complete trial ({len(trials)} recorded){last}"
    nearest = min(complete, key=lambda trial: max(trial.violations.values(), default=0.0))
    missed = ", ".join(f"{name} by {value:.1%}" for name, value in nearest.violations.items() if value > 0)
    if not missed:
        fidelities = sorted({str(trial.fidelity) for trial in complete})
        return f"no trial of the stage '{stage}' can be compared; its fidelities are {', '.join(fidelities)}"
    return (
        f"no trial of the stage '{stage}' meets the constraints; the nearest one (trial {nearest.number}) misses "
        f"{missed}"
    )
