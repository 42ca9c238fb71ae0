from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

BROKEN = "raise RuntimeError('no libfancy.so')\n"
CLASH = """
from automl_nas.plugin import hookimpl
@hookimpl
def register_commands(cli):
    @cli.command()
    def show():
        pass
"""
DANGLING = """
from automl_nas.plugin import hookimpl
@hookimpl
def register_tasks(register):
    register("ghost", "nowhere.at_all:Ghost", summary="not there")
"""

NOISY = """
from automl_nas.plugin import hookimpl
print("imported")
@hookimpl
def register_tasks(register):
    print("registering")
    register("noisy", "noisy_package.parts:Noisy", summary="prints")
"""
NOISY_PARTS = """
from automl_nas.testing.toys import ToyTask
print("component imported")
class Noisy(ToyTask):
    pass
"""


def _json(program: Any, *arguments: object, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(program("plugins", *arguments, "--json", code=code).stdout)
    return found


def test_each_plugin_is_listed_with_its_components(program: Any) -> None:
    text = program("plugins").stdout
    lines = text.splitlines()
    start = lines.index("plugin 'toys' (distribution 'toys' 1.5)")
    rows = [line.split(maxsplit=2) for line in lines[start + 1 : start + 8]]
    assert ["space", "toy", "kernels"] in rows
    assert ["task", "toy", "blobs"] in rows
    assert ["command", "greet", "Say hello."] in rows
    assert [line for line in lines if "in_process" in line]  # the core's own


def test_the_same_as_json(program: Any) -> None:
    shown = _json(program)
    toys = next(plugin for plugin in shown["plugins"] if plugin["name"] == "toys")
    assert (toys["distribution"], toys["version"], toys["commands"]) == ("toys", "1.5", ["greet"])
    assert {(c["kind"], c["name"]) for c in toys["components"]} >= {("spaces", "toy"), ("cost_models", "squared")}
    assert shown["broken"] == []


def test_one_plugin(program: Any) -> None:
    assert program("plugins", "toys").stdout.count("plugin '") == 1


def test_the_settings_of_a_component(program: Any) -> None:
    from automl_nas.testing.toys import ToySpace, ToyTask

    shown = _json(program, "toy")
    for kind, made in (("spaces", ToySpace), ("tasks", ToyTask)):
        told = next(component for component in shown["components"] if component["kind"] == kind)["settings"]
        real = {name: p.default for name, p in inspect.signature(made).parameters.items()}
        assert {
            s["name"]: tuple(s["default"]) if isinstance(s["default"], list) else s["default"] for s in told
        } == real
    text = program("plugins", "toy").stdout
    assert "space 'toy': kernels" in text
    row = next(line for line in text.splitlines() if line.split()[:1] == ["blocks"])
    assert row.split(maxsplit=3) == ["blocks", "int", "4", "the number of decisions."]
    assert "needs: SearchSpace" in text  # the evaluator


def test_required_and_nested_settings(program: Any) -> None:
    rows = [line.split() for line in program("plugins", "stopping").stdout.splitlines()]
    assert ["at", "int", "required"] in rows
    rows = [line.split() for line in program("plugins", "train").stdout.splitlines()]
    assert any(row[:3] == ["train.momentum", "float", "0.9"] for row in rows)


def test_an_unknown_name(program: Any) -> None:
    assert "did you mean 'evolution'?" in program("plugins", "evolutoin", code=2).stderr


def test_a_broken_plugin_is_listed_and_the_rest_works(program: Any) -> None:
    program.install("fancy", BROKEN)
    text = program("plugins").stdout
    assert "BROKEN plugin 'fancy' (distribution 'fancy' 1.5)\n  RuntimeError: no libfancy.so" in text
    assert "plugin 'toys'" in text
    (failure,) = _json(program)["broken"]
    place = program.site / "fancy_package" / "__init__.py"
    assert failure.pop("error") == f"RuntimeError: no libfancy.so ({place}, line 1)"
    assert failure == {"plugin": "fancy", "distribution": "fancy", "component": None}
    assert "no libfancy.so" in program("plugins", "fancy").stdout


def test_what_a_plugin_prints_is_on_stderr(program: Any) -> None:
    program.install("noisy", NOISY, NOISY_PARTS)
    for arguments in ((), ("noisy", "--check")):
        shown = program("plugins", *arguments, "--json")
        assert "noisy" in [plugin["name"] for plugin in json.loads(shown.stdout)["plugins"]]
        program.forget()
    *printed, remark = shown.stderr.splitlines()  # the module itself was imported before
    assert printed == ["registering", "component imported"]
    assert "task 'noisy' of plugin 'noisy'" in remark and "it prints 'component imported'" in remark
    shown = program("plugins", "noisy", "--check")
    assert shown.stdout.startswith("task 'noisy': prints")


def test_a_broken_plugin_gives_a_warning_of_one_line(program: Any) -> None:
    program.install("fancy", BROKEN)
    shown = program("run", program.config, "--quiet", "--set", "final=null", "--out", "done")
    assert shown.stderr == "warning: 1 plugin is broken and not used: fancy; see: automl-nas plugins\n"
    assert program("show", "done").stderr == ""
    assert program("--help").stderr == ""


def test_a_plugin_with_the_name_of_another_command_is_broken(program: Any) -> None:
    program.install("taker", CLASH)
    assert "the command 'show' is a command of automl-nas itself" in program("plugins").stdout
    assert "Show the progress of the run in DIR" in program("show", "--help").stdout


def test_check_imports_all_components(program: Any) -> None:
    assert "passed the checks" in program("plugins", "--check").stdout
    program.install("dangling", DANGLING)
    assert "BROKEN" not in program("plugins").stdout
    text = program("plugins", "--check", code=1).stdout
    assert "BROKEN task 'ghost' of plugin 'dangling' (distribution 'dangling' 1.5)" in text
    assert "cannot import nowhere.at_all:Ghost" in text


def test_disabled_plugins_are_named(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOML_NAS_DISABLED_PLUGINS", "vision")
    program.forget()
    text = program("plugins").stdout
    assert "disabled: plugin 'vision'" in text
    assert "digits" not in text
    assert _json(program)["disabled"] == ["vision"]


def test_strict_makes_a_broken_plugin_an_error(program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program.install("fancy", BROKEN)
    monkeypatch.setenv("AUTOML_NAS_STRICT_PLUGINS", "1")
    assert "no libfancy.so" in program("plugins", code=2).stderr
    assert "no libfancy.so" in program("--help", code=2).stderr
