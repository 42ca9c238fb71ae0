"""Reading ``metrics.jsonl``, also while a run writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from automl_nas.run.record.atomic_files import present, reading
from automl_nas.run.record.ledger import Damage
from automl_nas.run.record.lines import checked


def logged_numbers(path: Path) -> Iterator[dict[str, Any] | Damage]:
    """Yield the lines of the numbers that stages logged: ``stage``, ``step`` and the numbers; None: not finite.

    A damaged line is yielded as its damage. An unfinished last line is left out.

    Args:
        path: of ``metrics.jsonl``; it need not exist.

    Raises:
        DamagedError: the file cannot be read.
    """
    if not present(path):
        return
    with reading(path), path.open("rb") as file:
        for position, line in enumerate(file, start=1):
            record = checked(line)
            if record is not None and isinstance(record.get("stage"), str):
                yield {name: value for name, value in record.items() if name != "crc"}
            elif line.endswith(b"\n"):
                yield Damage(path, position, None, "damaged; it is ignored")
