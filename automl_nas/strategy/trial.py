"""Proposals and trials: what a strategy asks to have evaluated, and the result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture


@dataclass(frozen=True)
class Proposal:
    """A candidate that a strategy asks to have evaluated.

    Attributes:
        architecture: the candidate.
        fidelity: how thoroughly the candidate is evaluated, in the evaluator's unit; None: the evaluator's default.
        info: JSON values that are recorded with the trial, such as the parents.
    """

    architecture: Architecture
    fidelity: float | None = None
    info: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """A numbered evaluation and its outcome, as the ledger records it.

    Attributes:
        number: the position in the run, counted from 0.
        stage: the name of the stage that proposed it; empty for trials from outside the run (warm start).
        architecture: the candidate.
        state: COMPLETE, PRUNED or FAILED.
        metrics: metric -> value, as the evaluator measured it.
        costs: cost -> value, as the problem's cost models estimate it.
        violations: constraint -> by how much it is missed, relative to the limit; at most 0 if it is met.
        fidelity: the fidelity of the proposal.
        seed: the seed of the evaluation.
        seconds: the wall-clock time of the evaluation.
        error: the reason in one line, if the trial is FAILED.
        info: the info of the proposal and of the outcome.
        worker: where it was measured, if an executor has processes on other machines; see `Outcome.worker`. It differs
            from run to run, as ``seconds`` does: a strategy must not read it.
    """

    number: int
    architecture: Architecture
    metrics: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    violations: Mapping[str, float] = field(default_factory=dict)
    state: State = State.COMPLETE
    stage: str = ""
    fidelity: float | None = None
    seed: int = 0
    seconds: float = 0.0
    error: str = ""
    info: Mapping[str, object] = field(default_factory=dict)
    worker: Mapping[str, object] = field(default_factory=dict)

    @property
    def feasible(self) -> bool:
        """Whether every constraint is met."""
        for value in self.violations.values():  # noqa: SIM110 - called for every trial; a loop is faster than all()
            if not value <= 0:
                return False
        return True

    @property
    def total_violation(self) -> float:
        """The sum of the positive violations; 0 if the trial is feasible."""
        total = 0.0
        for violation in self.violations.values():
            if violation > 0:
                total += violation
        return total

    @property
    def effective_fidelity(self) -> float:
        """The fidelity as a number to compare: infinity for the evaluator's default."""
        return math.inf if self.fidelity is None else self.fidelity

    @property
    def values(self) -> dict[str, float]:
        """Metrics and costs together."""
        return {**self.costs, **self.metrics}
