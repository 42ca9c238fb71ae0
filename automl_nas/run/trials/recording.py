"""Trials are made from proposals and outcomes."""

from __future__ import annotations

import math
from typing import final

from automl_nas.errors import EvaluationError
from automl_nas.evaluation.evaluator import Outcome, State
from automl_nas.fast_dataclass import new_frozen
from automl_nas.run.configuration.stages import StagePlan
from automl_nas.run.record.json_values import to_json_values
from automl_nas.strategy.trial import Proposal, Trial


@final
class Recorder:
    """Makes the trials of a stage.

    Args:
        stage: the stage.
    """

    def __init__(self, stage: StagePlan) -> None:
        problem = self._problem = stage.problem
        self._stage = stage.settings.name
        used = {*problem.objectives, *(constraint.metric for constraint in problem.constraints)}
        # Without an evaluator no metric is measured, and that is not a failure of the candidate.
        self._required = used - problem.cost_models.keys() if stage.settings.evaluator is not None else frozenset()

    def trial(self, proposal: Proposal, outcome: Outcome, seed: int) -> Trial:
        """Return the trial to record, with its costs and violations.

        It is FAILED if a metric is not a finite number, or if the evaluator did not return a metric that the problem
        uses.

        Args:
            proposal: the proposal of the strategy.
            outcome: the outcome of its evaluation.
            seed: of the evaluation.

        Raises:
            EvaluationError: the ``info`` of proposal or outcome is not JSON.
        """
        state, error, architecture = outcome.state, outcome.error, proposal.architecture
        complete = state is State.COMPLETE
        metrics: dict[str, float] = {}
        for name, value in outcome.metrics.items():
            if type(value) is float and -math.inf < value < math.inf:
                metrics[name] = value
                continue
            try:
                number = float(value)
                description = str(number)
            except (TypeError, ValueError):
                number, description = math.nan, f"{value!r}, no number"
            if math.isfinite(number):
                metrics[name] = number
            elif complete:
                complete, state, error = False, State.FAILED, f"{name} is {description}"
        if complete and not metrics.keys() >= self._required:
            missing = min(self._required - metrics.keys())
            complete, state = False, State.FAILED
            error = f"'{missing}' was not measured, only {', '.join(metrics) or 'nothing'}"
        asked, measured = proposal.info, outcome.info
        try:
            info = to_json_values({**asked, **measured} if asked and measured else asked or measured)
        except TypeError as cause:
            where = f"trial {outcome.number} in the stage '{self._stage}'"
            raise EvaluationError(f"the info of {where} cannot be recorded: {cause}") from None
        problem = self._problem
        fields: dict[str, object] = {
            "number": outcome.number,
            "architecture": architecture,
            "metrics": metrics,
            "costs": problem.costs(architecture),
            "violations": problem.violations(architecture, metrics if complete else None),
            "state": state,
            "stage": self._stage,
            "fidelity": proposal.fidelity,
            "seed": seed,
            "seconds": outcome.seconds,
            "error": error,
            "info": info,
        }
        return new_frozen(Trial, fields)
