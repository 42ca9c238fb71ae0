"""A trial: what was asked and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from automl_nas.evaluation.evaluator import State
from automl_nas.space.architecture import Architecture


@dataclass(frozen=True)
class Proposal:
    """A candidate that a strategy wants evaluated.

    Attributes:
        architecture: the candidate.
        fidelity: how thoroughly, in the evaluator's unit; None: its default.
        info: anything JSON worth recording with the trial (its parents, say).
    """

    architecture: Architecture
    fidelity: float | None = None
    info: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """A request and its outcome, as the ledger records them.

    Attributes:
        number: counted from 0 over the whole run.
        stage: the name of the stage that asked for it; empty for trials from elsewhere (warm start).
        architecture: the candidate.
        state: COMPLETE, PRUNED or FAILED.
        metrics: what the evaluator measured.
        costs: what the problem's cost models say.
        violations: constraint -> by how much it is missed, relative to the limit; <= 0 is met.
        fidelity: the fidelity asked for.
        seed: the evaluation's seed.
        seconds: wall clock.
        error: for FAILED, the reason in one line.
        info: what the proposal and the outcome carried.
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

    @property
    def feasible(self) -> bool:
        """Whether every constraint is met."""
        for value in self.violations.values():  # noqa: SIM110 - a search asks for every trial, and this is quicker
            if not value <= 0:
                return False
        return True

    @property
    def values(self) -> dict[str, float]:
        """Metrics and costs together."""
        return {**self.costs, **self.metrics}
