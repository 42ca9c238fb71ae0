"""``automl-nas new-plugin``: a distribution of each kind passes its tests and type checks, and is found, untouched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from automl_nas.cli.app import cli
from automl_nas.cli.scaffold import KINDS, TEMPLATES, NewPlugin, write_plugin
from automl_nas.errors import ConfigurationError

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a new distribution of each kind; all of them are installed in its folder ``site``."""
    folder = tmp_path_factory.mktemp("new")
    for kind in KINDS:
        plugin = NewPlugin.named(f"automl-nas-try-{kind}", kind, None)
        write_plugin(folder / kind, plugin.files())
        info = folder / "site" / f"{plugin.package}-0.1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {plugin.distribution}\nVersion: 0.1.0\n")
        (info / "entry_points.txt").write_text(f"[automl_nas]\n{plugin.plugin} = {plugin.package}\n")
        (folder / "site" / plugin.package).symlink_to(folder / kind / plugin.package)
    return folder


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(folder / "site"), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "MYPYPATH": str(folder / "site"), "AUTOML_NAS_STRICT": "1"}


def output(folder: Path, *command: str, where: Path | None = None) -> str:
    """Return what a command prints; it must succeed."""
    result = subprocess.run(
        [sys.executable, *command], env=environment(folder), cwd=where or folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.process
@pytest.mark.slow
def test_their_tests_pass(folder: Path) -> None:
    """All in one process, with their own settings of pytest."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\nfilterwarnings = error\n")
    tests = [str(folder / kind / "tests") for kind in KINDS]
    printed = output(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pytest.ini", *tests)
    assert "passed" in printed and "skipped" not in printed


@pytest.mark.process
@pytest.mark.slow
def test_they_are_strictly_typed(folder: Path) -> None:
    """As their own pyproject.toml asks for; with the cache of this repository, which CI has checked before."""
    pytest.importorskip("mypy")
    files = [str(file) for kind in KINDS for file in sorted((folder / kind).rglob("*.py"))]
    printed = output(folder, "-m", "mypy", "--config-file", "pyproject.toml", *files, where=ROOT)
    assert f"no issues found in {3 * len(KINDS)} source files" in printed


@pytest.mark.process
def test_they_are_formatted(folder: Path) -> None:
    """By the rules of their own pyproject.toml."""
    pytest.importorskip("ruff")
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        output(folder, "-m", "ruff", *command, *KINDS)


@pytest.mark.process
def test_they_are_found(folder: Path) -> None:
    """Every component and command is listed, and passes the checks of the registry."""
    program = "from automl_nas.cli import main; main()"
    listed = json.loads(output(folder, "-c", program, "plugins", "--check", "--json"))
    assert listed["broken"] == []
    found = {plugin["distribution"]: plugin for plugin in listed["plugins"]}
    for kind in KINDS:
        plugin = found[f"automl-nas-try-{kind}"]
        names = [component["name"] for component in plugin["components"]] + plugin["commands"]
        assert names == ["try-command" if kind == "command" else f"try_{kind.replace('-', '_')}"]


def test_every_kind_has_its_templates() -> None:
    kinds = {path.name.removesuffix(".py.jinja") for path in (TEMPLATES / "components").iterdir()}
    assert kinds == {path.name.removesuffix(".py.jinja") for path in (TEMPLATES / "tests").iterdir()} == set(KINDS)


def invoke(folder: Path, *arguments: str) -> tuple[int, str]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        result = CliRunner().invoke(cli, ["new-plugin", *arguments])
    finally:
        os.chdir(before)
    return result.exit_code, result.output


def test_the_command_writes_all_files_and_says_what_is_next(tmp_path: Path) -> None:
    code, printed = invoke(tmp_path, "Automl_NAS.climber", "--kind", "strategy", "--out", "deep/climber")
    assert code == 0, printed
    assert "strategy 'climber' in automl_nas_climber" in printed
    files = {str(path.relative_to(tmp_path / "deep/climber")) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {
        *("pyproject.toml", "README.md", ".gitignore", ".pre-commit-config.yaml", ".github/workflows/ci.yml"),
        *("automl_nas_climber/__init__.py", "automl_nas_climber/strategy.py", "automl_nas_climber/py.typed"),
        "tests/test_automl_nas_climber.py",
    }
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["climber"]


def snapshot(folder: Path) -> Mapping[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("existing", ["folder", "file", "link"])
def test_nothing_is_overwritten(tmp_path: Path, existing: str) -> None:
    target = tmp_path / "mine"
    if existing == "folder":
        target.mkdir()
        (target / "work.py").write_text("days = 3\n")
    elif existing == "file":
        target.write_text("days of work\n")
    else:
        target.symlink_to(tmp_path / "nowhere")
    before = snapshot(tmp_path)
    with pytest.raises(ConfigurationError, match="exists, and nothing is overwritten"):
        write_plugin(target, {"a.py": ""})
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("distribution", "kind", "name", "message"),
    [
        ("", "strategy", None, "is not the name of a distribution"),
        ("../evil", "strategy", None, "is not the name of a distribution"),
        ("-climber", "strategy", None, "is not the name of a distribution"),
        ("climber é", "strategy", None, "is not the name of a distribution"),
        ("2048", "strategy", None, "not a name that Python can import; choose .* automl-nas-2048"),
        ("class", "strategy", None, "keyword of Python"),
        ("match", "strategy", None, "keyword of Python"),
        ("json", "strategy", None, "standard library"),
        ("automl-nas", "strategy", None, "is taken"),
        ("automl-nas-2048", "strategy", None, "'2048' is not a name for a configuration.*--name"),
        ("automl-nas-climber", "strategy", "Climber", "'Climber' is not a name for a configuration"),
        ("automl-nas-climber", "strategy", "ask-tell", "called AskTellStrategy, like the one of automl_nas.strategy"),
    ],
)
def test_names_that_cannot_work_are_refused(distribution: str, kind: str, name: str | None, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        NewPlugin.named(distribution, kind, name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("automl-nas-evolution", "--kind", "strategy"), "plugin 'evolution'"),
        (("my-search", "--kind", "strategy", "--name", "evolution"), "strategy 'evolution' of plugin"),
        (("my-report", "--kind", "command", "--name", "report"), "has a command 'report'"),
        (("my-run", "--kind", "command", "--name", "run"), "has a command 'run'"),
        (("torch", "--kind", "space"), "Python has a module 'torch' already"),
        (("climber", "--kind", "strateg"), "'strateg' is not one of"),
    ],
)
def test_names_that_are_taken_are_refused(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    code, printed = invoke(tmp_path, *arguments)
    assert code != 0
    result = CliRunner().invoke(cli, ["new-plugin", *arguments])
    assert message in (printed or str(result.exception)) or message in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(ConfigurationError, match="No space left on device"):
        write_plugin(tmp_path / "new", {"a.py": "a = 1\n"})
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
