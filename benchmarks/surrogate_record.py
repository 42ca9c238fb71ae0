"""A record of finished searches, so that a long comparison can be interrupted; used by the other surrogate scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

Task = tuple[str | int | float | bool, ...]


class Record:
    """The outcomes of searches. Each line of the file is a task and its outcome, both JSON data.

    Args:
        path: the path of the file; None: nothing is stored.
    """

    def __init__(self, path: Path | None) -> None:
        self._path, self._outcomes = path, dict[Task, Any]()
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                task, outcome = json.loads(line)
                self._outcomes[tuple(task)] = outcome

    def complete(
        self, run: Callable[[Task], tuple[Task, Any]], tasks: Sequence[Task], pool: Pool
    ) -> Mapping[Task, Any]:
        """Run the searches without an outcome, and return all outcomes.

        Args:
            run: runs one task; returns it with its outcome.
            tasks: all tasks; they are independent of each other.
            pool: the processes that run the tasks.
        """
        for task, outcome in pool.imap_unordered(run, [task for task in tasks if task not in self._outcomes]):
            self._outcomes[task] = outcome
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([task, outcome]) + "\n")
        return self._outcomes
