"""An evaluator inside anybody's objective."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from optuna import TrialPruned

from automl_nas.errors import EvaluationError, Pruned
from automl_nas.evaluation import Evaluator, Request, State
from automl_nas.space import Architecture
from automl_nas.streams import stream_seed

if TYPE_CHECKING:
    from optuna.trial import Trial


def evaluate(
    trial: Trial,
    architecture: Architecture,
    evaluator: Evaluator,
    *,
    seed: int = 0,
    fidelity: float | None = None,
    scratch: Path | None = None,
) -> Mapping[str, float]:
    """Return the metrics of an architecture; what the evaluator reports goes to the trial, whose pruner may end it.

    Args:
        trial: of a study with one objective: Optuna prunes no others, and reports of theirs are ignored.
        architecture: the candidate.
        evaluator: any.
        seed: the evaluation's is drawn from it and the trial's number.
        fidelity: see `Request`.
        scratch: see `Request`.

    Raises:
        optuna.TrialPruned: the pruner ended the trial.
        EvaluationError: the candidate failed, for the reason given.
    """
    several = len(trial.study.directions) > 1

    def report(step: int, value: float) -> None:
        if several:
            return
        trial.report(value, step)
        if trial.should_prune():
            raise Pruned

    request = Request(
        number=trial.number,
        architecture=architecture,
        seed=stream_seed(seed, "optuna/evaluation", trial.number),
        fidelity=fidelity,
        scratch=scratch,
        report=report,
    )
    try:
        (outcome,) = evaluator.evaluate([request])
    except Pruned:
        raise TrialPruned from None
    if outcome.state is State.PRUNED:
        raise TrialPruned
    if outcome.state is State.FAILED:
        raise EvaluationError(f"trial {trial.number}: {outcome.error}")
    return outcome.metrics
