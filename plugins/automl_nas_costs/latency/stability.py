"""Warning once, not for every candidate, that the machine is not steady: `SessionStats`, `log_totals`."""

from __future__ import annotations

import logging
import weakref
from typing import final

_log = logging.getLogger(__name__)

_CLASSES = (0.05, 0.1, 0.2, 0.4)
"""Limits of the classes of drift: a session is worse than another one if its class is higher."""

_all_stats: weakref.WeakSet[SessionStats] = weakref.WeakSet()


@final
class SessionStats:
    """Statistics of the sessions in which one cost model measures candidates one by one.

    A warning with all notes is logged for the first session in which the machine is not steady, and for each session
    whose drift is in a higher class than before. The other sessions are counted; every measurement has its own notes.
    """

    def __init__(self) -> None:
        self._sessions, self._unsteady, self._warned = 0, 0, 0
        self._worst = 0.0
        _all_stats.add(self)

    def record(self, drift: float, notes: list[str]) -> None:
        """Record a session.

        Args:
            drift: the range of the control's rounds as a share of its latency.
            notes: of the session; empty if the machine was steady.
        """
        self._sessions += 1
        if not notes:
            return
        self._unsteady += 1
        self._worst = max(self._worst, drift)
        drift_class = sum(drift > limit for limit in _CLASSES)
        if drift_class > self._warned:
            self._warned = drift_class
            for note in notes:
                _log.warning("%s (repeated only if it gets worse; counted at the end of a run)", note)

    def close(self) -> str:
        """Return how often the machine was not steady, empty if it always was, and start counting anew."""
        sessions, unsteady, worst = self._sessions, self._unsteady, self._worst
        self._sessions, self._unsteady, self._warned, self._worst = 0, 0, 0, 0.0
        if not unsteady:
            return ""
        return (
            f"the machine was not steady in {unsteady} of {sessions} measurements of candidates: the control network's "
            f"latency moved by up to {100 * worst:.0f} % between rounds"
        )


def log_totals() -> None:
    """Log how often the machine was not steady, for each cost model, and start counting anew."""
    for stats in list(_all_stats):
        if total := stats.close():
            _log.warning("%s", total)
