"""Comparisons of runs, in the terminal and as a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from plugins.report.conftest import trial, written_run
from plugins.report.pages import Page

from automl_nas.cli import cli
from automl_nas.errors import ConfigurationError
from automl_nas_report.comparison import Comparison
from automl_nas_report.comparison_page import comparison_page


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    strategy = {"name": "aging", "population": 30}
    stages = [{"name": "search", "strategy": strategy, "budget": {"trials": 10}}]
    return (
        written_run(tmp_path / "a" / "run", [trial(0, 0.5, 4), trial(1, 0.8125, 3)]),
        written_run(tmp_path / "b" / "run", [trial(0, 0.25, 2)], stages=stages, seed=7),
    )


def test_the_table_has_results_and_differences(pair: tuple[Path, Path]) -> None:
    outcome = CliRunner().invoke(cli, ["compare", *map(str, pair)])
    assert outcome.exit_code == 0, outcome.output
    lines = outcome.output.splitlines()
    assert lines[1].split() == ["a/run", "interrupted", "2", "accuracy", "0.8125", "3", "0", "s"]
    assert lines[2].split() == ["b/run", "interrupted", "1", "accuracy", "0.25", "2", "0", "s"]
    differing = {line.split()[0]: line.split()[1:] for line in lines[5:]}
    assert differing == {
        "setting": ["a/run", "b/run"],
        "seed": ["0", "7"],
        "stages.search.strategy.name": ["random", "aging"],
        "stages.search.strategy.population": ["30"],
    }


def test_json(pair: tuple[Path, Path]) -> None:
    content = json.loads(CliRunner().invoke(cli, ["compare", *map(str, pair), "--json"]).output)
    assert [run["best"] for run in content["runs"]] == [0.8125, 0.25]
    assert content["differences"]["seed"] == ["0", "7"]


def test_the_page(pair: tuple[Path, Path], complete: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    outcome = CliRunner().invoke(cli, ["compare", *map(str, pair), str(complete), "--out", str(out)])
    assert outcome.exit_code == 0, outcome.output
    page = Page(out.read_text(encoding="utf-8"))
    page.check()
    assert "Comparison of 3 runs" in page.words
    assert "best accuracy so far" in page.words and "best flops so far" in page.words


def test_hostile_settings_are_only_text(tmp_path: Path) -> None:
    evil = "</td><script>alert(1)</script>"
    runs = []
    for name in "ab":
        space = {"name": "x", "setting": evil + name}
        runs.append(written_run(tmp_path / name, [trial(0, 0.5, 1, evil)], space=space))
    page = Page(comparison_page(Comparison.read(runs)))
    page.check()
    assert page.html.count("alert(1)") == 4


def test_runs_with_the_same_settings_and_without_trials(tmp_path: Path) -> None:
    runs = [written_run(tmp_path / name, []) for name in "ab"]
    comparison = Comparison.read(runs)
    assert comparison.as_text()[-1] == "the runs have the same settings"
    Page(comparison_page(comparison)).check()


def test_what_cannot_be_compared(pair: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigurationError, match="named twice"):
        Comparison.read([pair[0], pair[1], pair[0] / "." / "..", pair[0]][::3])
    outcome = CliRunner().invoke(cli, ["compare", str(pair[0])])
    assert outcome.exit_code == 2
    assert "at least two" in outcome.output
