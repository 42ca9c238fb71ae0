"""The ledger of a complete run, compared with the numbers of trials that its result counts.

A ledger whose last lines are lost has no damaged line: only ``result.json`` knows that there were more trials.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from automl_nas.errors import RunDirectoryError
from automl_nas.run.record.directory import RunDirectory
from automl_nas.run.record.ledger import Damage, Ledger


def missing_trials(ledger: Ledger, result: Mapping[str, Any] | None) -> list[Damage]:
    """Return the stages of a complete run of which the ledger has another number of trials than the result counts.

    Args:
        ledger: of the run.
        result: the content of ``result.json``; None: the run is not complete, so nothing is missing yet.
    """
    counts = Counter(trial.stage for trial in ledger.trials.values())
    return [
        Damage(
            ledger.path,
            None,
            None,
            f"it holds {counts[stage['name']]} of the {stage['trials']} trials of the stage '{stage['name']}' that "
            "result.json counts",
        )
        for stage in (result["stages"] if result is not None else ())
        if counts[stage["name"]] != stage["trials"]
    ]


def whole_ledger(directory: RunDirectory) -> Ledger:
    """Return the ledger of a complete run, opened for reading, with all trials from which the run has its result.

    Args:
        directory: of the run.

    Raises:
        RunDirectoryError: a trial is damaged or missing.
        DamagedError: the ledger or ``result.json`` cannot be read.
    """
    ledger = Ledger(directory.trials, writable=False)
    gaps = [number for number in range(len(ledger.trials)) if number not in ledger.trials]
    reason = ""
    if lost := missing_trials(ledger, directory.read_result()):
        reason = f": {lost[0].problem}"
    elif gaps:
        reason = f": trial {gaps[0]} is missing"
    elif ledger.damage:
        reason = "" if ledger.damage[0].line is None else f": line {ledger.damage[0].line}"
    else:
        return ledger
    raise RunDirectoryError(
        f"{directory.trials} is damaged{reason}; restore it from a copy, or delete {directory.result} and resume the "
        "run: what is missing is evaluated again"
    )
