"""What a search says of itself: how many edges lived when, that too many died, and what it found."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, final

from automl_nas.errors import RunFailedError
from automl_nas_dso.gamma_control import Controller
from automl_nas_dso.live_structure import Life

_log = logging.getLogger(__name__)


@final
class History:
    """How many edges were alive after each epoch of phase 2.

    Args:
        total: edges at the start.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._edges: list[int] = []
        self._bare_stages: list[str] = []

    def record(self, life: Life, epoch: int, *, gamma: float, advice: str) -> dict[str, float]:
        """Add an epoch; warn when a stage has died.

        Args:
            life: at its end.
            epoch: how many are over.
            gamma: the penalty.
            advice: what to do if too much dies.

        Returns:
            What is to be logged.

        Raises:
            RunFailedError: nothing is alive.
        """
        self._edges.append(life.edges)
        history = ", ".join(map(str, [self._total, *self._edges]))
        told = f"live edges at the start and after each epoch of phase 2: {history}. {advice}"
        if life.empty:
            raise RunFailedError(f"all blocks are dead after epoch {epoch}, only shortcuts are left; {told}")
        for stage in life.bare_stages:
            if stage not in self._bare_stages:
                _log.warning("all blocks of '%s' are dead after epoch %d; %s", stage, epoch, told)
        self._bare_stages = list(life.bare_stages)
        return {
            "epoch": epoch,
            "gamma": gamma,
            "live_edges": life.edges,
            "sparsity": 1 - life.shares["edges"],
            "dead_blocks": len(life.bare),
            **{f"{name}_left": value for name, value in life.shares.items() if name != "edges"},
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what was recorded."""
        return {"edges": list(self._edges), "bare_stages": list(self._bare_stages)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self._edges, self._bare_stages = list(state["edges"]), list(state["bare_stages"])


def advice(gamma: float, strength: float, controller: Controller | None) -> str:
    """Return what to do if too much dies.

    Args:
        gamma: the penalty.
        strength: k, what it would do to a useless edge in the whole run.
        controller: what sets it, if something does.
    """
    if controller is not None:
        return f"The target is {controller.measure}: {controller.share}; take a larger share, or train longer"
    return f"gamma is {gamma:.3g} (k = {strength:.2g}; 1 to 3 is useful): take a smaller one, 'auto', or a sparsity"


def judge(life: Life, controller: Controller | None) -> None:
    """Warn when a target was not reached.

    Args:
        life: at the end.
        controller: whose target it is, if there is one.
    """
    if controller is not None and life.shares[controller.measure] > controller.share:
        _log.warning(
            "%.1f %% of %s are left, and %.1f %% were the target: train longer, or take a larger lambda_learning_rate",
            100 * life.shares[controller.measure],
            controller.measure,
            100 * controller.share,
        )
