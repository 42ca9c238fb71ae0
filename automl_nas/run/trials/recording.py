"""From what an evaluation gave to what is recorded of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

from automl_nas.errors import EvaluationError
from automl_nas.evaluation.evaluator import Outcome, State
from automl_nas.fast_dataclass import new_frozen
from automl_nas.run.configuration.stages import StagePlan
from automl_nas.run.record.json_values import to_json_values
from automl_nas.strategy.trial import Proposal, Trial

_SURE = frozenset((str, int, bool, type(None)))
_TEXT = frozenset((str,))


@final
class Recorder:
    """Makes the trials of a stage.

    Args:
        stage: that asks for them.
    """

    def __init__(self, stage: StagePlan) -> None:
        problem = self._problem = stage.problem
        self._stage = stage.settings.name
        needed = {*problem.objectives, *(constraint.metric for constraint in problem.constraints)}
        # Without an evaluator nothing is measured, which is not the candidate's fault.
        self._needed = needed - problem.cost_models.keys() if stage.settings.evaluator is not None else frozenset()

    def trial(self, proposal: Proposal, outcome: Outcome, seed: int) -> Trial:
        """Return the trial that is recorded, with its costs and violations.

        A metric that is no finite number fails it, and so does one that the problem speaks of and the evaluator left
        out.

        Args:
            proposal: what was asked for.
            outcome: what came of it.
            seed: of the evaluation.

        Raises:
            EvaluationError: what goes with it as ``info`` is not JSON.
        """
        state, error, architecture = outcome.state, outcome.error, proposal.architecture
        complete = state is State.COMPLETE
        metrics: dict[str, float] = {}
        for name, value in outcome.metrics.items():
            if type(value) is float and -math.inf < value < math.inf:
                metrics[name] = value
                continue
            try:
                number, said = float(value), ""
            except (TypeError, ValueError):
                number, said = math.nan, f"{value!r}, no number"
            if math.isfinite(number):
                metrics[name] = number
            elif complete:
                complete, state, error = False, State.FAILED, f"{name} is {said or number}"
        if complete and not metrics.keys() >= self._needed:
            missing = min(self._needed - metrics.keys())
            complete, state = False, State.FAILED
            error = f"'{missing}' was not measured, only {', '.join(metrics) or 'nothing'}"
        try:
            told, found = proposal.info, outcome.info
            info = _plain({**told, **found} if told and found else told or found)
        except TypeError as wrong:
            where = f"trial {outcome.number} in the stage '{self._stage}'"
            raise EvaluationError(f"the info of {where} cannot be recorded: {wrong}") from None
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


def _plain(info: Mapping[str, object]) -> dict[str, object]:
    """Return what `plain` does, sooner where there is nothing to turn into anything else."""
    if not _TEXT.issuperset(map(type, info)):
        return to_json_values(info)  # type: ignore[no-any-return]
    found: dict[str, object] = {}
    for name, value in info.items():
        kind = type(value)
        if kind in _SURE or (kind is float and math.isfinite(value)):  # type: ignore[arg-type]
            found[name] = value
        else:
            found[name] = to_json_values(value)
    return found
