"""What a run found: ``result.json`` and its typed view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import automl_nas
from automl_nas.run.record.ledger import Ledger
from automl_nas.space.architecture import Architecture
from automl_nas.strategy.trial import Trial

if TYPE_CHECKING:
    from torch import nn

    from automl_nas.run.configuration.plan import Plan


def make_result(plan: Plan, ledger: Ledger, final: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what ``result.json`` holds: a function of configuration and seed, without times."""
    stages: list[dict[str, Any]] = []
    for stage in plan.stages:
        trials = [trial for _, trial in sorted(ledger.trials.items()) if trial.stage == stage.settings.name]
        states = Counter(trial.state for trial in trials)
        pareto = stage.problem.pareto(trials)
        best = pareto[0] if pareto else None
        stages.append(
            {
                "name": stage.settings.name,
                "trials": len(trials),
                "states": {state.value: states[state] for state in sorted(states)},
                "problem": stage.problem.describe(),
                "best": _summary(best),
                "pareto": [_summary(trial) for trial in pareto],
                "units": {name: model.unit for name, model in stage.problem.cost_models.items()},
            }
        )
    source = plan.final.source if plan.final is not None else plan.stages[-1].settings.name
    found = next(stage for stage in stages if stage["name"] == source)
    chosen = final["networks"][final["chosen"]] if final is not None else None
    architecture = chosen["architecture"] if chosen else found["best"]["architecture"] if found["best"] else None
    return {
        "status": "complete",
        "version": automl_nas.__version__,
        "seed": plan.seed,
        "stage": source,
        "architecture": architecture,
        "best": found["best"],
        "pareto": found["pareto"],
        "stages": stages,
        "final": dict(final) if final is not None else None,
    }


def _summary(trial: Trial | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    return {
        "number": trial.number,
        "architecture": trial.architecture.to_dict(),
        "metrics": dict(trial.metrics),
        "costs": dict(trial.costs),
        "fidelity": trial.fidelity,
    }


@dataclass(frozen=True)
class Candidate:
    """One network of a result.

    Attributes:
        number: of its trial.
        architecture: what it is.
        metrics: what the search measured.
        costs: what it costs.
    """

    number: int
    architecture: Architecture
    metrics: Mapping[str, float]
    costs: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """What a run found.

    Attributes:
        directory: the run directory.
        data: what ``result.json`` holds.
        plan: the resolved run.
    """

    directory: Path
    data: Mapping[str, Any]
    plan: Plan

    @property
    def architecture(self) -> Architecture | None:
        """The network that was delivered (or the best one found, without a final stage); None if none is feasible."""
        found = self.data["architecture"]
        return None if found is None else Architecture(found)

    @property
    def best(self) -> Candidate | None:
        """The best trial of the search; None if none is feasible."""
        found = self.data["best"]
        return None if found is None else _candidate(found)

    @property
    def pareto(self) -> tuple[Candidate, ...]:
        """The trials that no other one dominates, the best in the main objective first."""
        return tuple(_candidate(found) for found in self.data["pareto"])

    @property
    def metrics(self) -> Mapping[str, float]:
        """The test metrics of the delivered network; those of the best trial without a final stage."""
        final = self.data["final"]
        if final is not None:
            metrics: Mapping[str, float] = final["networks"][final["chosen"]]["test"]
            return metrics
        return self.best.metrics if self.best is not None else {}

    @property
    def files(self) -> tuple[Path, ...]:
        """The exported files."""
        final = self.data["final"]
        return () if final is None else tuple(self.directory / name for name in final["files"])

    def build(self) -> nn.Module:
        """Return the delivered network with fresh weights.

        Raises:
            RunFailedError: no feasible network was found.
        """
        from automl_nas.run.final.assembly import delivered_space

        final = self.data["final"]
        space = (
            self.plan.final_space if final is None else delivered_space(self.plan, final["networks"][final["chosen"]])
        )
        with self.plan.runtime.seeded(self.plan.seed, "result"):
            return space.build(self._found())

    def load_trained(self) -> nn.Module:
        """Return the delivered network with its trained weights, on the CPU and in evaluation mode: a plain nn.Module.

        Raises:
            RunFailedError: the run has no final stage, so nothing was trained.
            DamagedError: the weights on disk do not match their digest.
        """
        from automl_nas.errors import RunFailedError
        from automl_nas.run.record.artifacts import load_weights

        if self.data["final"] is None:
            raise RunFailedError(
                "this run has no final stage, so no network was trained; build() gives it with fresh weights"
            )
        network = self.build()
        network.load_state_dict(load_weights(self.directory / "artifacts" / "final" / "weights.safetensors"))
        return network.eval()

    def _found(self) -> Architecture:
        from automl_nas.errors import RunFailedError

        if self.architecture is None:
            raise RunFailedError("the run found no feasible network")
        return self.architecture


def _candidate(found: Mapping[str, Any]) -> Candidate:
    return Candidate(found["number"], Architecture(found["architecture"]), found["metrics"], found["costs"])
