"""From what an evaluation gave to what is recorded of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from automl_nas.errors import EvaluationError
from automl_nas.evaluation.evaluator import Outcome, State
from automl_nas.run.stage_plans import StagePlan
from automl_nas.search.trial import Proposal, Trial


def trial_of(stage: StagePlan, proposal: Proposal, outcome: Outcome, seed: int) -> Trial:
    """Return the trial that is recorded, with its costs and violations.

    A metric that is no finite number fails it, and so does one that the problem speaks of and the evaluator left out.

    Args:
        stage: that asked for it.
        proposal: what was asked for.
        outcome: what came of it.
        seed: of the evaluation.

    Raises:
        EvaluationError: what goes with it as ``info`` is not JSON.
    """
    state, error = outcome.state, outcome.error
    metrics = {name: float(value) for name, value in outcome.metrics.items()}
    bad = [name for name, value in metrics.items() if not math.isfinite(value)]
    if state is State.COMPLETE and bad:
        state, error = State.FAILED, f"{bad[0]} is {metrics[bad[0]]}"
    wanted = {*stage.problem.objectives, *(constraint.metric for constraint in stage.problem.constraints)}
    unknown = sorted(wanted - metrics.keys() - stage.problem.cost_models.keys())
    if state is State.COMPLETE and unknown and stage.settings.evaluator is not None:
        state, error = State.FAILED, f"'{unknown[0]}' was not measured, only {', '.join(metrics) or 'nothing'}"
    if bad:
        metrics = {name: value for name, value in metrics.items() if name not in bad}
    try:
        info = {name: plain(value) for name, value in {**proposal.info, **outcome.info}.items()}
    except TypeError as wrong:
        where = f"trial {outcome.number} in the stage '{stage.settings.name}'"
        raise EvaluationError(f"the info of {where} cannot be recorded: {wrong}") from None
    return Trial(
        number=outcome.number,
        architecture=proposal.architecture,
        metrics=metrics,
        costs=stage.problem.costs(proposal.architecture),
        violations=stage.problem.violations(proposal.architecture, metrics if state is State.COMPLETE else None),
        state=state,
        stage=stage.settings.name,
        fidelity=proposal.fidelity,
        seed=seed,
        seconds=outcome.seconds,
        error=error,
        info=info,
    )


def plain(value: object) -> Any:
    """Return a value as the record gives it back: tuples as lists, what is NaN or infinite as None.

    Raises:
        TypeError: it is not JSON.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(item) for key, item in value.items()}
    raise TypeError(f"{value!r} is not JSON (numbers, texts, true, false, null, lists, mappings with texts as keys)")
