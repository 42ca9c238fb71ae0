"""The progress of a search: live edges after each epoch, and warnings and errors when too many or too few die."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, final

from automl_nas.errors import RunFailedError
from automl_nas_dso.gamma.sparsity_controller import SparsityController
from automl_nas_dso.live_structure import LiveShares

_log = logging.getLogger(__name__)


@final
class LiveHistory:
    """The number of live edges after each epoch of phase 2.

    Args:
        total: number of edges at the start.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._edges: list[int] = []
        self._shortcut_only_stages: list[str] = []

    def record(self, shares: LiveShares, epoch: int, *, gamma: float, advice: str) -> dict[str, float]:
        """Add an epoch; log a warning when all blocks of a stage have died.

        Args:
            shares: the live shares at the end of the epoch.
            epoch: number of completed epochs, of both phases.
            gamma: the penalty.
            advice: how to avoid that too many edges die; a part of warnings and errors.

        Returns:
            The metrics to log.

        Raises:
            RunFailedError: no block has a live edge.
        """
        self._edges.append(shares.edges)
        history = ", ".join(map(str, [self._total, *self._edges]))
        summary = f"live edges at the start and after each epoch of phase 2: {history}. {advice}"
        if shares.empty:
            raise RunFailedError(f"all blocks are dead after epoch {epoch}, only shortcuts remain; {summary}")
        for stage in shares.shortcut_only_stages:
            if stage not in self._shortcut_only_stages:
                _log.warning("all blocks of '%s' are dead after epoch %d; %s", stage, epoch, summary)
        self._shortcut_only_stages = list(shares.shortcut_only_stages)
        return {
            "epoch": epoch,
            "gamma": gamma,
            "live_edges": shares.edges,
            "sparsity": 1 - shares.shares["edges"],
            "dead_blocks": len(shares.shortcut_only),
            **{f"{name}_left": value for name, value in shares.shares.items() if name != "edges"},
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the counts of all epochs."""
        return {"edges": list(self._edges), "bare_stages": list(self._shortcut_only_stages)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._edges, self._shortcut_only_stages = list(state["edges"]), list(state["bare_stages"])


def advice(gamma: float, travel: float, controller: SparsityController | None) -> str:
    """Return which setting to change if too many edges die.

    Args:
        gamma: the penalty.
        travel: the penalty travel of gamma over the whole run.
        controller: what sets gamma; None: it is constant.
    """
    if controller is not None:
        return f"The target is {controller.measure}: {controller.share}; set a larger share, or train longer"
    return (
        f"gamma is {gamma:.3g} (penalty travel {travel:.2g}; 1 to 3 is useful): "
        "set a smaller gamma, 'auto', or a sparsity"
    )


def warn_if_missed(shares: LiveShares, controller: SparsityController | None) -> None:
    """Log a warning if the sparsity target was not reached.

    Args:
        shares: the live shares at the end of the search.
        controller: contains the target; None if no target is set.
    """
    if controller is not None and shares.shares[controller.measure] > controller.share:
        _log.warning(
            "%.1f %% of %s remain, but the target was %.1f %%: train longer, or set a larger lambda_learning_rate",
            100 * shares.shares[controller.measure],
            controller.measure,
            100 * controller.share,
        )
