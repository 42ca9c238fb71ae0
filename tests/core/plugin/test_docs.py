"""The two pages about plugins are complete, and what they show works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from automl_nas.plugin.discovery import DISABLED, HOOKS, ONLY, STRICT
from automl_nas.plugin.kinds import COLLABORATORS, KINDS

DOCS = Path(__file__).parents[3] / "docs"


def test_every_hook_variable_base_class_and_collaborator_is_documented() -> None:
    text = (DOCS / "reference" / "hooks.md").read_text(encoding="utf-8")
    bases = {base.rpartition(":")[2] for base in (*COLLABORATORS, *(kind.base for kind in KINDS.values()))}
    missing = [name for name in (*HOOKS, *bases, ONLY, DISABLED, STRICT) if name not in text]
    assert not missing


def test_the_python_of_the_page_on_hooks_runs() -> None:
    text = (DOCS / "reference" / "hooks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "hooks.md", "exec"), {})  # noqa: S102 - our own documentation


@pytest.mark.slow
@pytest.mark.process
def test_the_plugins_of_the_tutorials_pass_their_tests(tmp_path: Path) -> None:
    text = (DOCS / "tutorials" / "first_plugin.md").read_text(encoding="utf-8")
    files = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == [
        "pyproject.toml",
        "my_climber/__init__.py",
        "my_climber/climber.py",
        "tests/test_climber.py",
    ]
    one_shot = (DOCS / "tutorials" / "first_one_shot.md").read_text(encoding="utf-8")
    more = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", one_shot, flags=re.MULTILINE | re.DOTALL)
    assert [name for name, _ in more] == ["my_darts/__init__.py", "my_darts/darts.py", "tests/test_darts.py"]
    for name, content in [*files, *more]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(tmp_path / "tests")]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
