"""What plugins do while they are imported is noticed and named, and so is the version that they were written for."""

from __future__ import annotations

import logging
import os
import random
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner

from automl_nas._lazy import lazy_names
from automl_nas.cli.app import CommandLine
from automl_nas.errors import PluginError
from automl_nas.plugin.compatibility import check_version

EFFECTS = {
    "print": ("print('hello', 'world')", "it prints 'hello world'"),
    "directory": ("import os; os.chdir('/')", "it changes the working directory"),
    "environment": ("import os; os.environ['OMP_NUM_THREADS'] = '3'", "it changes environment variables"),
    "warnings": ("import warnings; warnings.simplefilter('ignore')", "it changes the filters of warnings"),
    "logging": ("import logging; logging.root.setLevel(5)", "it changes the level of the root logger"),
    "signal": (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "it changes the handler of SIGTERM",
    ),
    "random": ("import random; random.seed(0)", "it changes the generator of the module random"),
    "dtype": ("import torch; torch.set_default_dtype(torch.float64)", "it changes torch's default dtype"),
    "seed": ("import torch; torch.manual_seed(0)", "it changes torch's generator"),
    "grad": ("import torch; torch.set_grad_enabled(False)", "it changes torch's gradient mode"),
}


@pytest.fixture
def restored() -> Iterator[None]:
    """Restore what the plugins of these tests change."""
    folder, environ, handler, state = Path.cwd(), dict(os.environ), signal.getsignal(signal.SIGTERM), random.getstate()
    level, handlers, dtype, seeds = logging.root.level, logging.root.handlers[:], torch.get_default_dtype(), None
    seeds = torch.get_rng_state()
    with warnings.catch_warnings():
        yield
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    signal.signal(signal.SIGTERM, handler)
    random.setstate(state)
    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers
    torch.set_default_dtype(dtype)
    torch.set_rng_state(seeds)
    torch.set_grad_enabled(True)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(("code", "message"), EFFECTS.values(), ids=EFFECTS.keys())
def test_effects_of_an_import_are_named(
    installed: Any, registering: Any, caplog: pytest.LogCaptureFixture, code: str, message: str
) -> None:
    """The plugin works; with AUTOML_NAS_STRICT=1 it is an error."""
    installed.write("a-dist", "1.2", loud=f"{code}\n" + registering("loud_search"))
    installed.write("b-dist", quiet=registering("quiet_search"))
    caplog.set_level(logging.WARNING)
    manager = installed.load()
    (remark,) = manager.remarks
    assert remark.source.distribution == "a-dist"
    assert message in remark.error
    assert f"plugin 'loud' (distribution 'a-dist' 1.2): while it is imported, {message}" in caplog.text
    assert len(manager.plugins) == 2 and not manager.broken


@pytest.mark.parametrize("variable", ["AUTOML_NAS_STRICT", "AUTOML_NAS_STRICT_PLUGINS"])
def test_strict_makes_a_remark_an_error(installed: Any, registering: Any, variable: str) -> None:
    installed.write("a-dist", loud="print('hello')\n" + registering("loud_search"))
    with pytest.raises(PluginError, match=r"distribution 'a-dist' .*it prints 'hello'"):
        installed.load(**{variable: "1"})


def test_a_component_that_prints_while_it_is_imported_is_named(
    installed: Any, registering: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr; stdout is for the results of commands."""
    installed.write("a-dist", loud=registering("loud_search", "loud_package.search:Search"))
    module = installed.folder / "loud_package" / "search.py"
    module.write_text("print('hello')\nfrom automl_nas.strategy import Filter as Search\n")
    installed.load().registry.get("strategies", "loud_search").load()
    assert "strategy 'loud_search' of plugin 'loud'" in caplog.text and "it prints 'hello'" in caplog.text
    captured = capsys.readouterr()
    assert (captured.out, "hello" in captured.err) == ("", True)


PLACES = {
    "import": ("\n\nimport nothing_like_this\n", 4),
    "syntax": ("\ndef broken(:\n", 3),
    "raise": ("\ndef fail():\n    raise ValueError('no')\nfail()\n", 4),
    "hook": ("\n@hookimpl\ndef register_spaces(register):\n    raise ValueError('no')\n", 5),
    "library": ("import json\njson.loads('[')\n", 3),
}


@pytest.mark.parametrize(("code", "line"), PLACES.values(), ids=PLACES.keys())
def test_errors_have_file_and_line(installed: Any, code: str, line: int) -> None:
    """The line of the plugin, also if a library raises."""
    installed.write("a-dist", broken=code)
    (failure,) = installed.load().broken
    assert failure.error.endswith(f"({installed.folder / 'broken_package' / '__init__.py'}, line {line})")


def test_the_import_of_a_component_has_file_and_line(installed: Any, registering: Any) -> None:
    installed.write("a-dist", broken=registering("broken_search", "broken_package.search:Search"))
    (installed.folder / "broken_package" / "search.py").write_text("import math\n\nmath.sqrt(-1)\n")
    manager = installed.load()
    (failure,) = manager.check()
    assert str(failure).endswith(f"{installed.folder / 'broken_package' / 'search.py'}, line 3)")


def test_a_command_that_raises_is_named_with_its_line(
    installed: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = "import click\n@hookimpl\ndef register_commands(cli):\n    @cli.command()\n    def tally():\n        1 / 0\n"
    installed.write("a-dist", "1.2", broken=code)
    manager = installed.load()
    monkeypatch.setattr("automl_nas.run.configuration.builtin.complete_manager", lambda: manager)
    with pytest.raises(SystemExit) as ended:
        CommandLine("automl-nas").main(["tally"])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert "the command 'tally' of plugin 'broken' (distribution 'a-dist' 1.2) failed: ZeroDivisionError" in error
    assert "__init__.py, line 7)" in error


@pytest.mark.parametrize("version", [None, "1.0", "2.0"])
def test_a_deprecated_plugin_works_for_one_minor_version(version: str | None) -> None:
    """Version 1 is deprecated in 2.0 and refused from 2.1; a plugin that declares nothing counts as 1.0."""
    assert check_version(version, "1.0" if version != "2.0" else "2.0") == ""
    if version != "2.0":
        assert "deprecated" in check_version(version, "2.0")
        for later in ("2.1", "3.0"):
            with pytest.raises(PluginError, match=f"written for version 1.0 .* has {later}: upgrade the plugin"):
                check_version(version, later)


@pytest.mark.parametrize(("declared", "offered"), [("1.1", "1.0"), ("2.0", "1.9")])
def test_a_plugin_that_needs_a_newer_version_is_refused(declared: str, offered: str) -> None:
    with pytest.raises(PluginError, match="upgrade automl-nas"):
        check_version(declared, offered)


def test_an_older_minor_version_fits() -> None:
    assert check_version("1.0", "1.7") == ""


@pytest.mark.parametrize("declared", ["1", 1.0, "1.x", ""])
def test_a_declaration_that_is_no_version_is_refused(installed: Any, registering: Any, declared: object) -> None:
    installed.write("a-dist", odd=f"AUTOML_NAS_API = {declared!r}\n" + registering("odd_search"))
    (failure,) = installed.load().broken
    assert "must be a string such as '1.0'" in failure.error


def test_the_version_of_a_plugin_is_checked(installed: Any, registering: Any) -> None:
    installed.write("a-dist", new="AUTOML_NAS_API = '99.0'\n" + registering("new_search"))
    installed.write("b-dist", now="AUTOML_NAS_API = '1.0'\n" + registering("now_search"))
    manager = installed.load()
    assert [failure.source.plugin for failure in manager.broken] == ["new"]
    assert [plugin.source.plugin for plugin in manager.plugins] == ["now"]
    assert not manager.remarks


def test_a_deprecated_name_warns_with_the_distribution_that_uses_it(installed: Any) -> None:
    """The name still works, and the warning says what replaces it and when it goes."""
    _, load, _ = lazy_names("automl_nas.strategy", {"trial": ("Trial",)}, {"Attempt": ("Trial", "0.3")})
    installed.write("a-dist", user="def use(load):\n    return load('Attempt')\n")
    (installed.folder / "a_dist-1.0.dist-info" / "top_level.txt").write_text("user_package\n")
    from user_package import use  # type: ignore[import-not-found]

    from automl_nas.strategy import Trial

    with pytest.warns(DeprecationWarning, match=r"automl_nas.strategy.Attempt, which a-dist uses, .* 0.3: use Trial"):
        assert use(load) is Trial


def test_plugins_lists_remarks(installed: Any, registering: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from automl_nas.cli.plugins import plugins

    installed.write("a-dist", loud="print('hello')\n" + registering("loud_search"))
    manager = installed.load()
    monkeypatch.setattr("automl_nas.run.configuration.builtin.complete_manager", lambda: manager)
    listed = CliRunner().invoke(plugins, [], obj=click.Group()).output
    assert "WARNING plugin 'loud' (distribution 'a-dist' 1.0)\n  while it is imported, it prints 'hello'" in listed
    assert '"remarks": [\n' in CliRunner().invoke(plugins, ["--json"]).output
