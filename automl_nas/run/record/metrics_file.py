"""The numbers that stages log: `MetricsFile`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automl_nas.run.record.atomic_files import disk_errors
from automl_nas.run.record.lines import body, with_checksums


class MetricsFile:
    """``metrics.jsonl``: the numbers that stages log, as lines with checksums.

    Its length is part of a checkpoint; on resume it is cut to it.

    Args:
        path: the file.
        length: number of valid bytes; the rest is cut off.
    """

    def __init__(self, path: Path, length: int) -> None:
        self._path = path
        with disk_errors(path):
            self._file = path.open("ab")
            # A file that did not change since it was made durable, such as an empty one, is not synced again.
            self._changed = path.stat().st_size != length
            self._file.truncate(length)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line."""
        with disk_errors(self._path):
            self._file.write(with_checksums([body(dict(record))]))
            self._file.flush()
        self._changed = True

    def sync(self) -> int:
        """Make all lines durable; return the length in bytes."""
        with disk_errors(self._path):
            if self._changed:
                os.fsync(self._file.fileno())
        self._changed = False
        return self._path.stat().st_size

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class UnwrittenMetrics:
    """The metrics of a process that follows the one which records: nothing is written."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Do nothing."""

    def sync(self) -> int:
        """Return 0."""
        return 0

    def close(self) -> None:
        """Do nothing."""
