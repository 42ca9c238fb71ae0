"""`evaluate`: an evaluator of this framework inside an Optuna objective."""

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
    """Return the metrics of an architecture.

    Values that the evaluator reports are reported to the trial, and the study's pruner may prune the trial. In a study
    with several objectives they are ignored: Optuna does not prune there.

    Args:
        trial: the current trial of the study.
        architecture: the candidate.
        evaluator: evaluates the candidate.
        seed: the seed of the evaluation is derived from this seed and the trial's number.
        fidelity: see `Request`.
        scratch: see `Request`.

    Raises:
        optuna.TrialPruned: the pruner or the evaluator pruned the trial.
        EvaluationError: the evaluation failed; the message contains the reason.
    """
    several_objectives = len(trial.study.directions) > 1

    def report(step: int, value: float) -> None:
        if several_objectives:
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
