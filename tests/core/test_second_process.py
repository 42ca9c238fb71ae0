"""The server of the second process of the contracts."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.process
def test_it_starts_with_modules_that_cannot_be_imported_plainly() -> None:
    """torchvision fails with a CPU build of torch unless its operators are defined first; the other one is missing."""
    command = [sys.executable, "-m", "automl_nas.testing.second_process", "torchvision,there_is_no_such_module"]
    ended = subprocess.run(command, input="", capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
