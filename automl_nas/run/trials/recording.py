"""Trials are made from proposals and outcomes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, final

import orjson

from automl_nas.errors import EvaluationError
from automl_nas.evaluation.evaluator import Outcome, State
from automl_nas.evaluation.plain_number import plain_number
from automl_nas.fast_dataclass import new_frozen
from automl_nas.run.configuration.stages import StagePlan
from automl_nas.run.record.json_values import to_json_values
from automl_nas.strategy.trial import Proposal, Trial

INFO_BYTES = 64 * 1024
"""Number of bytes of JSON that are recorded as the ``info`` of a trial, without intermediate values."""


@final
class Recorder:
    """Makes the trials of a stage.

    Args:
        stage: the stage.
        warn: receives a warning.
    """

    def __init__(self, stage: StagePlan, warn: Callable[[str], None]) -> None:
        self._warn, self._warned = warn, False
        problem = self._problem = stage.problem
        self._stage = stage.settings.name
        used = {*problem.objectives, *(constraint.metric for constraint in problem.constraints)}
        self._required = used - problem.cost_models.keys()

    def trial(self, proposal: Proposal, outcome: Outcome, seed: int, *, was_measured: bool = True) -> Trial:
        """Return the trial to record, with its costs and violations.

        It is FAILED if a metric is not a finite number, or if a metric that the problem uses was not measured.

        Args:
            proposal: the proposal of the strategy.
            outcome: the outcome of its evaluation.
            seed: of the evaluation.
            was_measured: whether the candidate was measured; without an evaluator only its costs are recorded.

        Raises:
            EvaluationError: the ``info`` of proposal or outcome is not JSON, or the outcome has no state or no mapping
                of metrics.
        """
        state, error, architecture = outcome.state, outcome.error, proposal.architecture
        complete = state is State.COMPLETE
        metrics: dict[str, float] = {}
        if type(state) is not State:
            raise EvaluationError(
                f"the outcome of {self._where(outcome)} has the state {state!r}; a state is State.COMPLETE, "
                "State.PRUNED or State.FAILED"
            )
        if type(outcome.metrics) is not dict and not isinstance(outcome.metrics, Mapping):
            raise EvaluationError(
                f"the metrics of {self._where(outcome)} are {outcome.metrics!r}; metrics are a mapping from name to "
                "number"
            )
        for name, value in outcome.metrics.items():
            if type(value) is float and -math.inf < value < math.inf and type(name) is str:
                metrics[name] = value
                continue
            if not isinstance(name, str):
                raise EvaluationError(
                    f"a metric of {self._where(outcome)} is called {name!r}; the name of a metric is a string"
                )
            try:
                number = float(plain_number(value))
                description = str(number)
            except (TypeError, OverflowError) as cause:
                number = math.nan
                description = str(cause) if isinstance(cause, TypeError) else "too large for a floating-point number"
            if math.isfinite(number):
                metrics[str(name)] = number
            elif complete:
                complete, state, error = False, State.FAILED, f"{name} is {description}"
        if complete and was_measured and not metrics.keys() >= self._required:
            missing = min(self._required - metrics.keys())
            complete, state = False, State.FAILED
            error = f"'{missing}' was not measured, only {', '.join(metrics) or 'nothing'}"
        asked, measured = proposal.info, outcome.info
        info: dict[str, Any] = {}
        if asked or measured:
            try:
                info = to_json_values({**asked, **measured} if asked and measured else asked or measured)
            except (TypeError, RecursionError) as cause:
                raise EvaluationError(f"the info of {self._where(outcome)} cannot be recorded: {cause}") from None
            if len(_encode(info)) > INFO_BYTES:
                info = self._shortened(info, outcome)
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
            "worker": outcome.worker,
        }
        return new_frozen(Trial, fields)

    def _where(self, outcome: Outcome) -> str:
        return f"trial {outcome.number} in the stage '{self._stage}'"

    def _shortened(self, info: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
        """Return an info without its largest entries, so that the rest takes at most `INFO_BYTES`; warn once a stage.

        Intermediate values are kept: each takes one report of the evaluator, and pruners need all of them.
        """
        sizes = {key: len(_encode({key: value})) for key, value in info.items() if key != "intermediate"}
        total, left_out = sum(sizes.values()), list[str]()
        for key in sorted(sizes, key=lambda key: (-sizes[key], key)):
            if total <= INFO_BYTES:
                break
            total -= sizes[key]
            left_out.append(key)
        if left_out and not self._warned:
            self._warned = True
            self._warn(
                f"the info of {self._where(outcome)} takes {sum(sizes.values()):,} bytes of JSON, more than the "
                f"{INFO_BYTES:,} that are recorded: {', '.join(map(repr, left_out))} is left out, also in later trials "
                "of the stage; an evaluator or strategy writes large data to a file of its own"
            )
        return {key: value for key, value in info.items() if key not in left_out}


def _encode(info: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(info)
    except TypeError:  # integers of more than 64 bits, unpaired surrogates, deep nesting
        return json.dumps(info).encode()
