"""The documentation is complete and leads somewhere: settings, commands, variables, benchmarks, links."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import click
import pytest
from docs.pages import DOCS, PAGES, PARTS, ROOT, anchors, blocks, name, prose

from automl_nas.cli import cli
from automl_nas.plugin.settings import fields_of
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.final_section import FinalSettings
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.sections import RunSettings

CONFIGURATION = DOCS / "reference" / "configuration.md"


def script(name: str) -> ModuleType:
    """Import a script of the documentation."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return script("generate_reference")


def test_the_reference_is_what_the_code_says(generator: ModuleType) -> None:
    assert generator.main(["--check"]) == 0, "run: python docs/generate_reference.py"


def test_the_reference_has_every_setting_of_every_component() -> None:
    """Read from the page alone: the section under a component's heading has a row for each of its settings."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    sections = re.split(r"^#{3,4} ", text, flags=re.MULTILINE)
    for component in complete_manager().registry:
        if component.distribution not in ("automl-nas", ""):
            continue
        own = [section for section in sections if section.startswith(f"`{component.name}`\n")]
        wanted = [setting.name for setting in component.signature().settings]
        assert any(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE) == wanted for section in own), component


def test_the_figures_are_what_the_script_draws() -> None:
    figures = script("draw_figures")
    assert figures.main(["--check"]) == 0, "run: python docs/draw_figures.py"
    files = (path for folder in ("concepts", "results") for path in (DOCS / folder).glob("*.svg"))
    assert {str(path.relative_to(DOCS)) for path in files} == set(figures.FIGURES)
    for figure in map(Path, figures.FIGURES):
        pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / figure.parent).glob("*.md"))
        assert f"]({figure.name})" in pages


def test_every_public_name_is_in_the_reference() -> None:
    """The pages of the Python API are written when the documentation is built; the pin lists the names."""
    api = script("api_pages")
    pages = {name: api.page(name) for name in api.public_modules()}
    pinned = (ROOT / "tests" / "core" / "public_names.txt").read_text(encoding="utf-8").split()
    for full_name in pinned:
        package, _, public = full_name.rpartition(".")
        entry = rf"^(\.\. (autoclass|autofunction|py:data):: {full_name}|\* :py:obj:`{public} <automl_nas\..*>`)$"
        assert re.search(entry, pages[package], flags=re.MULTILINE), full_name


def test_every_setting_is_described() -> None:
    for component in complete_manager().registry:
        for setting in component.signature().settings:
            assert setting.description, f"{component}: {setting.name}"


def test_the_sections_are_all_there(generator: ModuleType, quickstart: Plan) -> None:
    """A resolved configuration has no section or setting of `final` that the reference lacks."""
    config = quickstart.config
    assert config.keys() == {field.name for field in fields_of(RunSettings)} - {"budget"}  # only where it was written
    described = {setting.name for setting in (*generator.MORE_OF_FINAL, *fields_of(FinalSettings))}
    assert config["final"].keys() == described - {"task"}  # it is there only where it was written


def test_commands_that_are_named_exist() -> None:
    known = set(cli.list_commands(click.Context(cli)))  # with those of plugins
    for page in PAGES:
        named = re.findall(r"automl-nas ([a-z][\w-]*)", page.read_text(encoding="utf-8"))
        assert set(named) <= known, name(page)


def test_environment_variables_are_described() -> None:
    sources = [*(ROOT / "automl_nas").rglob("*.py"), *(ROOT / "plugins").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    used = {
        found for path in sources for found in re.findall(r'"(AUTOML_NAS_[A-Z_]+)"', path.read_text(encoding="utf-8"))
    }
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert used
    assert not [variable for variable in sorted(used) if variable not in pages]


def test_every_benchmark_is_listed() -> None:
    text = (DOCS / "how_to" / "development.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"benchmarks/(\w+\.py)", text))
    assert listed == {path.name for path in (ROOT / "benchmarks").glob("*.py")}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name(page)}: {target}"
        assert not anchor or anchor in anchors(file), f"{name(page)}: {target}"


def test_the_readme_is_short_and_leads_to_every_part() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130
    linked = set(re.findall(r"\]\(docs/([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8")))
    pages = {page.name for page in DOCS.glob("*.md") if page.name != "index.md"}
    assert {f"{part}/index.md" for part in (*PARTS, "decisions")} | pages <= linked


@pytest.mark.parametrize("part", PARTS)
def test_the_index_of_a_part_links_each_of_its_pages(part: str) -> None:
    """With a sentence about each, for readers who see no table of contents."""
    linked = set(re.findall(r"\]\(([\w]+\.md)\)", (DOCS / part / "index.md").read_text(encoding="utf-8")))
    assert linked == {page.name for page in (DOCS / part).glob("*.md") if page.name != "index.md"}


def test_ci_runs_the_commands_of_the_readme() -> None:
    """The last part of the second command is CI's last line; the installation differs by the extras only."""
    _, tests = [code for code, _ in blocks(ROOT / "README.md", "") if code.startswith("python3 -m venv")]
    environment, install, command = (part.strip() for part in tests.split("&&"))
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.strip().splitlines()[-1] == command
    assert environment in script
    head, extras = re.fullmatch(r'(.*) -e "\.\[([\w,]+)\]"', install).groups()  # type: ignore[union-attr]
    pip, install_word, options = head.partition(" install ")
    found = re.search(rf'{re.escape(pip)}{install_word}(?:-q )?{re.escape(options)} -e "\.\[([\w,]+)\]"', script)
    assert found is not None
    assert set(extras.split(",")) <= set(found[1].split(","))
    assert tests in (DOCS / "how_to" / "development.md").read_text(encoding="utf-8")
