"""Writing JSON files completely or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_json(path: Path, data: Any) -> None:
    """Write data to a temporary file beside ``path`` and rename that; create the folder if it does not exist.

    Raises:
        OSError: the file cannot be written.
        ValueError: a number is NaN or infinite.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1, allow_nan=False)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
