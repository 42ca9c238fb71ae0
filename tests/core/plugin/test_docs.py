"""The pages about plugins are complete, and what they show works."""

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


TUTORIALS = {
    "first_plugin": ["pyproject.toml", "my_climber/__init__.py", "my_climber/climber.py", "tests/test_climber.py"],
    "first_one_shot": ["my_darts/__init__.py", "my_darts/darts.py", "tests/test_darts.py"],
    "first_space": ["my_space/__init__.py", "my_space/separable.py", "my_space/layers.py", "tests/test_space.py"],
    "first_task": ["my_task/__init__.py", "my_task/forecast.py", "tests/test_forecast.py"],
}
"""Page -> the files that it shows."""


@pytest.mark.slow
@pytest.mark.process
def test_the_plugins_of_the_tutorials_pass_their_tests(tmp_path: Path) -> None:
    for page, names in TUTORIALS.items():
        text = (DOCS / "tutorials" / f"{page}.md").read_text(encoding="utf-8")
        files = re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        assert [name for name, _ in files] == names
        for name, content in files:
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(tmp_path / "tests")]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_task_of_one_function_runs() -> None:
    """The block of the page on tasks that is no file of its plugin."""
    text = (DOCS / "tutorials" / "first_task.md").read_text(encoding="utf-8")
    code = re.findall(r"[^`]\n\n```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)[0]
    exec(compile(code, "first_task.md", "exec"), {})  # noqa: S102 - our own documentation
