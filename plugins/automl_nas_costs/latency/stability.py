"""Saying once, not with every candidate, that a machine is not steady: `SessionStats`, `say_totals`."""

from __future__ import annotations

import logging
import weakref
from typing import final

_log = logging.getLogger(__name__)

_CLASSES = (0.05, 0.1, 0.2, 0.4)
"""Shares by which a control moves: from each to the next a session is worse by a class."""

_tallies: weakref.WeakSet[SessionStats] = weakref.WeakSet()


@final
class SessionStats:
    """The sessions in which one cost model measures candidates one by one.

    The first session in which the machine is not steady is said in full, and each that is worse by a class than all
    before. The others are counted; every measurement keeps its own note.
    """

    def __init__(self) -> None:
        self._sessions, self._unsteady, self._said = 0, 0, 0
        self._worst = 0.0
        _tallies.add(self)

    def saw(self, drift: float, notes: list[str]) -> None:
        """Note a session.

        Args:
            drift: by which share of it the control moved.
            notes: what is to be said of the session; nothing if the machine was steady.
        """
        self._sessions += 1
        if not notes:
            return
        self._unsteady += 1
        self._worst = max(self._worst, drift)
        reached = sum(drift > limit for limit in _CLASSES)
        if reached > self._said:
            self._said = reached
            for note in notes:
                _log.warning("%s (said again only if it gets worse; counted at the end of a run)", note)

    def close(self) -> str:
        """Return how often the machine was not steady, empty if it never was, and count from the beginning."""
        sessions, unsteady, worst = self._sessions, self._unsteady, self._worst
        self._sessions, self._unsteady, self._said, self._worst = 0, 0, 0, 0.0
        if not unsteady:
            return ""
        return (
            f"the machine was not steady in {unsteady} of {sessions} measurements of candidates: the control network's "
            f"latency moved by up to {100 * worst:.0f} % between rounds"
        )


def say_totals() -> None:
    """Say how often the machine was not steady; what was counted so far is done with."""
    for tally in list(_tallies):
        if total := tally.close():
            _log.warning("%s", total)
