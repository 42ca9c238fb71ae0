"""The server of the second process of the contracts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.process
def test_it_answers_where_modules_cannot_be_imported_plainly(tmp_path: Path) -> None:
    """torchvision fails with a CPU build of torch unless its operators are defined first; the other one is missing."""
    requests: list[dict[str, Any]] = [
        {
            "origin": {"factory": "there_is_no_such_contract:Contract", "arguments": [], "file": ""},
            "given": str(tmp_path),
            "reply": str(tmp_path / f"{name}.json"),
            "folder": str(tmp_path / name),
            "preload": ["there_is_no_such_module", "torchvision"],
            "path": sys.path,
            "environment": dict(os.environ),
            "dtype": "float64",
            "threads": 1,
        }
        for name in ("first", "second")
    ]
    for request in requests:
        Path(request["folder"]).mkdir()
    command = [sys.executable, "-m", "automl_nas.testing.second_process"]
    lines = "".join(f"{json.dumps(request)}\n" for request in requests)
    environ = {**os.environ, "PYTHONHASHSEED": "20817"}
    ended = subprocess.run(command, input=lines, env=environ, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "done\ndone\n"
    for request in requests:
        assert "cannot import there_is_no_such_contract" in json.loads(Path(request["reply"]).read_text())["error"]
