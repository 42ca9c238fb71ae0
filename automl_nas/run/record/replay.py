"""The check that a resumed stage asks for the trials that are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from automl_nas.errors import ReplayError
from automl_nas.strategy.trial import Proposal, Trial


def check_replay(record: Path, recorded: Trial, proposal: Proposal, stage: str, changes: Sequence[str]) -> None:
    """Check that a proposal is the one that was recorded under its number.

    Args:
        record: the file of the ledger.
        recorded: the trial of that number.
        proposal: of the resumed stage.
        stage: the name of the resumed stage.
        changes: differences to the environment that the run was begun in.

    Raises:
        ReplayError: the proposal is another one.
    """
    same = recorded.architecture == proposal.architecture and recorded.fidelity == proposal.fidelity
    if same and recorded.stage == stage:
        return
    reason = (
        "; ".join(changes)
        or "no recorded version or setting changed, so a component is not a function of its seed and state"
    )
    raise ReplayError(
        f"trial {recorded.number} of {record} is {recorded.architecture.key} in stage '{recorded.stage}', but "
        f"the resumed stage '{stage}' asks for {proposal.architecture.key}; since then: {reason}"
    )
