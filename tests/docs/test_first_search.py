"""The tutorial of the first search works from its first block to its last one, at toy size."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from docs.pages import DOCS, all_blocks

import automl_nas
from automl_nas.cli import cli

PAGE = DOCS / "tutorials" / "first_search.md"


@pytest.mark.slow
def test_the_blocks_of_the_first_search_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python is executed, the YAML is written where the commands expect it, and each command succeeds."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    commands = []
    for language, _, block in all_blocks(PAGE):
        if language == "python":
            exec(compile(block, PAGE.name, "exec"), names)  # noqa: S102 - our own documentation
        elif language == "yaml":
            Path("shapes.yaml").write_text(block, encoding="utf-8")
        elif block.startswith("automl-nas "):
            for line in block.splitlines():
                _, *arguments = shlex.split(line)
                done = CliRunner().invoke(cli, arguments)
                assert done.exit_code == 0, done.output
                commands.append(arguments[0])
    assert commands == ["cost", "run"]
    assert names["classes"] == ["circle", "square", "triangle"]
    assert isinstance(names["result"], automl_nas.Result)
    assert names["probabilities"].shape == (3,)
    assert float(names["probabilities"].sum()) == pytest.approx(1)
