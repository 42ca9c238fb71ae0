"""What a complete run did not achieve: no feasible network, missed limits, formats that failed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from automl_nas.run.final.candidates import no_feasible_network
from automl_nas.run.final.report import FinalReport
from automl_nas.run.hints import way_to_export
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Ledger


@dataclass(frozen=True)
class Shortcoming:
    """Something that a complete run did not achieve.

    Attributes:
        kind: ``no_feasible_network``, ``missed_limits`` or ``failed_exports``.
        message: what was not achieved, and the way out.
    """

    kind: Literal["no_feasible_network", "missed_limits", "failed_exports"]
    message: str


def shortcomings(directory: Path, data: Mapping[str, Any]) -> tuple[Shortcoming, ...]:
    """Return what a complete run did not achieve.

    Args:
        directory: the run directory.
        data: the content of ``result.json``.
    """
    items: list[Shortcoming] = []
    if data["architecture"] is None:
        run, stage = RunDirectory(directory), data["stage"]
        ledger = Ledger(run.trials, writable=False)
        trials = [trial for _, trial in sorted(ledger.trials.items()) if trial.stage == stage]
        if trials:
            items.append(Shortcoming("no_feasible_network", no_feasible_network(stage, trials)))
        elif not any((run.artifacts / stage).glob("*.json")):  # a stage that only trains a supernet has no trials
            message = f"the stage '{stage}' ended without a trial, so there is no network; give it a larger budget"
            items.append(Shortcoming("no_feasible_network", message))
    if data["final"] is not None:
        items += _of_final(directory, FinalReport.from_json(data["final"]))
    return tuple(items)


def _of_final(directory: Path, report: FinalReport) -> list[Shortcoming]:
    items: list[Shortcoming] = []
    for delivered in report.deliveries:
        which = f"network {delivered.network}" if report.others else "the delivered network"
        nearest = "" if report.others else "it is the nearest candidate: "
        if delivered.missed_limits:
            missed = ", ".join(
                f"{check.cost} {check.limit} by {-check.margin:.1%}" for check in delivered.missed_limits
            )
            items.append(
                Shortcoming(
                    "missed_limits",
                    f"the run is complete, but {which} misses {missed}; {nearest}search with a lower limit, or measure "
                    "more candidates (final.measure)",
                )
            )
        if delivered.not_exported:
            failures = "; ".join(
                f"not exported as {failure.format}: {failure.error}" for failure in delivered.not_exported
            )
            config = RunDirectory(directory).read_config()
            way_out = way_to_export(directory, config, delivered.network if report.others else None)
            items.append(
                Shortcoming(
                    "failed_exports",
                    f"the run is complete, but {which} was {failures}; to write other formats: {way_out}",
                )
            )
    return items
