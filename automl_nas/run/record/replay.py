"""Whether a resumed stage asks for what its record holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from automl_nas.errors import ReplayError
from automl_nas.strategy.trial import Proposal, Trial


def check_replay(record: Path, known: Trial, proposal: Proposal, stage: str, changes: Sequence[str]) -> None:
    """Check that a proposal is what was recorded under its number.

    Args:
        record: the ledger's file.
        known: the trial of that number.
        proposal: what is asked for now.
        stage: that asks for it.
        changes: what differs from the environment the run was begun in.

    Raises:
        ReplayError: it is not.
    """
    same = known.architecture == proposal.architecture and known.fidelity == proposal.fidelity
    if same and known.stage == stage:
        return
    changed = (
        "; ".join(changes)
        or "no recorded version or setting changed, so a component is not a function of its seed and state"
    )
    raise ReplayError(
        f"trial {known.number} of {record} is {known.architecture.key} in stage '{known.stage}', but "
        f"the resumed stage '{stage}' asks for {proposal.architecture.key}; since then: {changed}"
    )
