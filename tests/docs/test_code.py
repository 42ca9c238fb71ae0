"""What the documentation shows as Python runs, and what it says of runs is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from docs.pages import PAGES, QUICKSTART, ROOT, TOY, blocks, name

import automl_nas
from automl_nas.cli.overrides import Configuration
from automl_nas.evaluation.statistics import wilson_interval
from automl_nas.run.configuration.plan import Plan

# Blocks of four tutorials are the files of plugins: tests/core/plugin/test_docs.py writes and tests them. The last one
# has commands between its blocks: test_first_search.py.
TUTORIALS = ("first_plugin.md", "first_one_shot.md", "first_space.md", "first_task.md", "first_search.md")
WITH_PYTHON = [page for page in PAGES if blocks(page, "python") and page.name not in TUTORIALS]


def run(code: str, where: str, names: dict[str, Any]) -> None:
    exec(compile(code, where, "exec"), names)  # noqa: S102 - our own documentation


@pytest.fixture
def toy_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> automl_nas.Result:
    """The quickstart at toy size, where a newcomer has it: ``runs/quickstart-1`` in the current directory."""
    monkeypatch.chdir(tmp_path)
    result: automl_nas.Result = automl_nas.search(
        Configuration.read(QUICKSTART, TOY).value, out=Path("runs") / "quickstart-1"
    )
    return result


@pytest.mark.slow
def test_the_readme_runs_from_the_quickstart_to_the_custom_space(toy_quickstart: automl_nas.Result) -> None:
    assert [path.name for path in toy_quickstart.files] == [
        "model.safetensors",
        "architecture.json",
        "model.pt2",
        "model.onnx",
    ]
    roles = [network["role"] for network in toy_quickstart.data["final"]["networks"]]
    assert roles == ["found", "largest", "random"]
    names: dict[str, Any] = {}
    for _, code in blocks(ROOT / "README.md", "python"):
        run(code, "README.md", names)
    assert names["result"].metrics.keys() == {"accuracy", "loss"}
    assert not names["model"].training


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("page", [page for page in WITH_PYTHON if page.name != "README.md"], ids=name)
def test_the_python_of_a_page_runs_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for _, code in blocks(page, "python"):
        run(code, name(page), names)


def test_every_page_with_python_is_covered() -> None:
    """A block whose fence is written in another way would be shown and not run."""
    for page in PAGES:
        fences = re.findall(
            r"^[ \t]*(?:```|~~~)[ \t]*(?:python|py)\b", page.read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        assert len(fences) == len(blocks(page, "python")), name(page)


def test_the_readme_shows_the_example_as_it_is() -> None:
    shown = [code for code, _ in blocks(ROOT / "README.md", "python")]
    assert (ROOT / "examples" / "custom_space.py").read_text(encoding="utf-8") in shown


@pytest.mark.slow
def test_the_output_in_the_readme_is_possible(quickstart: Plan) -> None:
    """Costs are counted again, on each network by itself; shares of 360 images have exactly one Wilson interval."""
    (shown,) = [code for code, _ in blocks(ROOT / "README.md", "") if code.startswith("found architecture:")]
    architecture = quickstart.space.validate(dict(re.findall(r"(stage\d\.block\d)=(\w+)", shown)))
    rows = re.findall(r"^(\w+)[ *]+([\d,]+) \(.*?\)\s+([\d,]+) \(.*?\)\s+(\S+) \[(\S+), (\S+)\]$", shown, re.MULTILINE)
    assert [row[0] for row in rows] == ["found", "largest", "random"]
    problem = quickstart.stages[1].problem
    costs = {name: f"{value:,.0f}" for name, value in problem.costs(architecture).items()}
    assert costs == {"flops": rows[0][1], "params": rows[0][2]}
    assert problem.feasible(architecture)
    for _, flops, _, accuracy, low, high in rows:
        assert int(flops.replace(",", "")) <= 650_000
        share = round(float(accuracy) * 360) / 360
        # Four digits are printed.
        assert (f"{share:.4f}", *(f"{x:.4f}" for x in wilson_interval(share, 360))) == (accuracy, low, high)
