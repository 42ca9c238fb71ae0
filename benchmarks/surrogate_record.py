"""A record of searches that are over, so that a long comparison can be interrupted; used by the scripts beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

Task = tuple[str | int | float | bool, ...]


class Record:
    """What came out of searches, one a line: the task and its outcome, both plain data.

    Args:
        path: of the file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._known = path, dict[Task, Any]()
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                task, outcome = json.loads(line)
                self._known[tuple(task)] = outcome

    def complete(
        self, run: Callable[[Task], tuple[Task, Any]], tasks: Sequence[Task], pool: Pool
    ) -> Mapping[Task, Any]:
        """Make the searches that are missing, and return all outcomes.

        Args:
            run: one task; returns it with its outcome.
            tasks: all of them; none depends on another.
            pool: the processes.
        """
        for task, outcome in pool.imap_unordered(run, [task for task in tasks if task not in self._known]):
            self._known[task] = outcome
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([task, outcome]) + "\n")
        return self._known
