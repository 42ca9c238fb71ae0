"""From a configuration to a plan: all resolved, built as far as it is cheap, and checked before long work starts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automl_nas.evaluation.costs.measured import MeasuredCost
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.task import Task
from automl_nas.run.configuration.components import Components
from automl_nas.run.configuration.stages import FinalPlan, StagePlan
from automl_nas.run.configuration.width_fitting import WidthFitter
from automl_nas.space.space import SearchSpace


@dataclass(frozen=True)
class Plan:
    """A run, resolved and checked.

    Attributes:
        config: the resolved configuration: plain data; resolving it again changes nothing.
        components: makes strategies, evaluators and exporters when their stage starts.
        seed: of the run.
        runtime: where tensors are computed.
        task: what is learned; None where a search needs none.
        final_task: what the delivered networks learn: the task, perhaps with other augmentation.
        space: what is searched.
        final_space: the space of the networks that are delivered; it has the same decisions.
        fitter: fits a setting of the final space to what was found; None: it has no such setting.
        stages: in order.
        final: the last stage; None: nothing is retrained.
        fingerprint: of the space; weights belong to one.
        measured: the cost models that rest on measurements, by a text that tells them apart.
    """

    config: dict[str, Any]
    components: Components
    seed: int
    runtime: Runtime
    task: Task | None
    final_task: Task | None
    space: SearchSpace
    final_space: SearchSpace
    fitter: WidthFitter | None
    stages: tuple[StagePlan, ...]
    final: FinalPlan | None
    fingerprint: str
    measured: Mapping[str, MeasuredCost]

    @property
    def digest(self) -> str:
        """A digest of what decides what is found: checkpoints belong to one."""
        return hashlib.sha256(json.dumps(what_matters(self.config), sort_keys=True).encode()).hexdigest()

    def measurements(self) -> dict[str, Any]:
        """Return what the cost models measured so far, as plain data."""
        return {key: model.state_dict() for key, model in self.measured.items()}

    def collaborators(self, *more: object) -> list[object]:
        """Return what constructors may ask for, by type."""
        return [part for part in (self.space, self.task, self.runtime, *more) if part is not None]


def what_matters(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a configuration that decide what is found."""
    return {key: value for key, value in config.items() if key not in ("executor", "observers", "checkpoint_seconds")}


def fingerprint(space: SearchSpace, spec: Mapping[str, Any]) -> str:
    """Return a digest of what weights depend on: the space's configuration and decisions."""
    decisions = {name: repr(decision) for name, decision in space.decisions.items()}
    text = json.dumps([dict(spec), decisions], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
