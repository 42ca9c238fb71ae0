from __future__ import annotations

import logging
import sys
import types
from typing import Any

import click
import pytest

from automl_nas.errors import ConfigurationError, PluginError
from automl_nas.plugin import PluginManager, hookimpl

GOOD = """
@hookimpl
def register_strategies(register):
    register("climber", "good_package.climber:Climber", summary="climbs")
"""

CLIMBER = """
from automl_nas.strategy.base import Strategy

class Climber(Strategy):
    def __init__(self, *, steps: int = 3): self.steps = steps
    def step(self, services): ...
    @property
    def done(self): return True
    def state_dict(self): return {}
    def load_state_dict(self, state): ...
"""

BROKEN = {
    "import raises": (
        "import no_such_module_anywhere",
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
    ),
    "import exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "syntax error": ("def (", "SyntaxError"),
    "misspelt hook": (
        "@hookimpl\ndef register_stratgies(register): ...",
        "unknown hook 'register_stratgies'; did you mean 'register_strategies'?",
    ),
    "misspelt specname": (
        "@hookimpl(specname='trial_finish')\ndef watch(trial): ...",
        "unknown hook 'trial_finish'; did you mean 'trial_finished'?",
    ),
    "wrong argument": (
        "@hookimpl\ndef register_tasks(registry): ...",
        "the hook 'register_tasks' has an argument 'registry'; its arguments are register",
    ),
    "not marked": ("def register_tasks(register): ...", "'register_tasks' is not marked: put @hookimpl"),
    "no hook": ("x = 1", "it does not implement any hook"),
    "wrapper": ("@hookimpl(wrapper=True)\ndef register_tasks(register):\n    yield", "is a wrapper"),
    "raises half way": (
        "@hookimpl\ndef register_spaces(register):\n    register('half', 'json:loads')\n"
        "@hookimpl\ndef register_tasks(register):\n    register('half', 'json:loads')\n    1 / 0",
        "register_tasks: ZeroDivisionError: division by zero",
    ),
    "an object for a reference": (
        "@hookimpl\ndef register_tasks(register): register('half', dict)",
        "register_tasks: 'half': the reference must be a string 'package.module:Object', not <class 'dict'>",
    ),
    "a reference without an object": (
        "@hookimpl\ndef register_tasks(register): register('half', 'json.loads')",
        "the reference must be a string 'package.module:Object', not 'json.loads'",
    ),
    "a malformed name": (
        "@hookimpl\ndef register_tasks(register): register('Half Way', 'json:loads')",
        "'Half Way' is not a valid name",
    ),
    "a summary of two lines": (
        "@hookimpl\ndef register_tasks(register): register('half', 'json:loads', summary='a\\nb')",
        "the summary must be one line",
    ),
    "the same name twice": (
        "@hookimpl\ndef register_tasks(register):\n"
        "    register('half', 'json:loads')\n    register('half', 'json:dumps')",
        "the task 'half'",
    ),
}


def test_a_plugin_of_another_distribution_is_imported_when_it_is_used(installed: Any) -> None:
    installed.write("some-dist", "2.5", good=GOOD)
    (installed.folder / "good_package" / "climber.py").write_text(CLIMBER)
    manager = installed.load()
    assert not manager.broken
    (plugin,) = manager.plugins
    assert str(plugin.source) == "plugin 'good' (distribution 'some-dist' 2.5)"
    component = manager.registry.get("strategies", "climber")
    assert (component.plugin, component.distribution, component.version) == ("good", "some-dist", "2.5")
    assert (component.reference, component.summary) == ("good_package.climber:Climber", "climbs")
    assert "good_package" in sys.modules
    assert "good_package.climber" not in sys.modules
    assert manager.registry.construct("strategies", {"name": "climber", "steps": 5}).steps == 5
    assert "good_package.climber" in sys.modules
    assert manager.check() == []


@pytest.mark.parametrize(("code", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_plugin_is_listed_and_registers_nothing(installed: Any, code: str, message: str) -> None:
    installed.write("a-dist", "1.2", broken=code)
    installed.write("b-dist", good=GOOD)
    manager = installed.load()
    (fault,) = manager.broken
    assert (fault.source.plugin, fault.source.distribution, fault.source.version) == ("broken", "a-dist", "1.2")
    assert message in fault.error
    assert "\n" not in fault.error
    assert [component.name for component in manager.registry] == ["climber"]
    assert [plugin.source.plugin for plugin in manager.plugins] == ["good"]


def test_keyboard_interrupt_does_not_break_a_plugin(installed: Any) -> None:
    installed.write("a-dist", slow="raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt, match=r"plugin 'slow' \(distribution 'a-dist' .*DISABLED_PLUGINS=slow"):
        installed.load()


def test_a_name_clash_breaks_the_second_plugin_as_a_whole(installed: Any, registering: Any) -> None:
    installed.write("b-dist", "2.0", second=registering("mine", hook="register_tasks") + registering("shared"))
    installed.write("a-dist", "1.0", first=registering("shared"))
    manager = installed.load()
    (fault,) = manager.broken
    assert fault.source.distribution == "b-dist"
    assert "strategy 'shared'" in fault.error
    assert "'a-dist' 1.0" in fault.error
    assert "'b-dist' 2.0" in fault.error
    assert manager.registry.get("strategies", "shared").distribution == "a-dist"
    assert manager.registry.names("tasks") == ()


def test_the_first_party_is_loaded_first_then_by_distribution_and_name(installed: Any, registering: Any) -> None:
    installed.write("aaa", zeta=registering("zeta"), alpha=registering("shared"))
    installed.write("Automl_NAS", own=registering("shared"))
    manager = installed.load()
    assert [plugin.source.plugin for plugin in manager.plugins] == ["own", "zeta"]
    assert [fault.source.plugin for fault in manager.broken] == ["alpha"]


@pytest.mark.parametrize(
    ("environ", "loaded"),
    [
        ({}, ["one", "three", "two"]),
        ({"AUTOML_NAS_PLUGINS": ""}, []),
        ({"AUTOML_NAS_PLUGINS": " two , three,"}, ["three", "two"]),
        ({"AUTOML_NAS_PLUGINS": "B_Dist"}, ["two"]),
        ({"AUTOML_NAS_DISABLED_PLUGINS": "two"}, ["one", "three"]),
        ({"AUTOML_NAS_DISABLED_PLUGINS": ""}, ["one", "three", "two"]),
        ({"AUTOML_NAS_DISABLED_PLUGINS": "a-dist"}, ["two"]),
        ({"AUTOML_NAS_PLUGINS": "one,two", "AUTOML_NAS_DISABLED_PLUGINS": "one"}, ["two"]),
    ],
)
def test_the_environment_selects_plugins(
    installed: Any, registering: Any, environ: dict[str, str], loaded: list[str]
) -> None:
    installed.write("a-dist", one=registering("one"), three=registering("three"))
    installed.write("b-dist", two=registering("two"))
    manager = installed.load(**environ)
    assert [plugin.source.plugin for plugin in manager.plugins] == loaded
    assert sorted(source.plugin for source in manager.disabled) == sorted({"one", "two", "three"} - set(loaded))
    assert not manager.broken
    # What is disabled is not even imported.
    assert {name for name in ("one", "two", "three") if f"{name}_package" in sys.modules} == set(loaded)


def test_a_selected_plugin_that_is_not_installed_is_listed(installed: Any, registering: Any) -> None:
    installed.write("a-dist", evolution=registering("one"))
    (fault,) = installed.load(AUTOML_NAS_PLUGINS="evolutoin").broken
    assert "AUTOML_NAS_PLUGINS contains this name, which is not installed; did you mean 'evolution'?" in fault.error


@pytest.mark.parametrize(("value", "strict"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_strict_makes_a_broken_plugin_an_error(installed: Any, value: str, strict: bool) -> None:
    installed.write("a-dist", "1.2", bad="1 / 0")
    if strict:
        with pytest.raises(PluginError, match=r"'a-dist' 1\.2\): ZeroDivisionError"):
            installed.load(AUTOML_NAS_STRICT_PLUGINS=value)
    else:
        assert len(installed.load(AUTOML_NAS_STRICT_PLUGINS=value).broken) == 1


def test_an_unknown_name_is_explained(installed: Any, registering: Any) -> None:
    installed.write("a-dist", good=registering("evolution"), task=registering("digits", hook="register_tasks"))
    registry = installed.load().registry
    with pytest.raises(ConfigurationError) as caught:
        registry.get("strategies", "evolutoin", path="stages[0].strategy.name")
    assert str(caught.value) == "stages[0].strategy.name: unknown strategy 'evolutoin'; did you mean 'evolution'?"
    with pytest.raises(ConfigurationError, match="'digits' is the name of a task"):
        registry.get("strategies", "digits")


def test_an_unknown_name_mentions_the_plugins_that_are_not_loaded(installed: Any, registering: Any) -> None:
    installed.write("a-dist", "3.1", bad="1 / 0", off=registering("x"))
    registry = installed.load(AUTOML_NAS_DISABLED_PLUGINS="off").registry
    with pytest.raises(ConfigurationError) as caught:
        registry.get("strategies", "x")
    assert "plugin 'bad' (distribution 'a-dist' 3.1): ZeroDivisionError" in str(caught.value)
    assert "plugin 'off' (distribution 'a-dist' 3.1): disabled" in str(caught.value)


def test_check_imports_all_components_and_returns_failures(installed: Any) -> None:
    references = {
        "missing-module": "nowhere_at_all:X",
        "missing-object": "json:nothing",
        "no-strategy": "json:JSONDecoder",
        "abstract": "automl_nas.strategy.ask_tell:AskTellStrategy",
        "fine": "good_package.climber:Climber",
    }
    registrations = "".join(f"    register({name!r}, {at!r})\n" for name, at in references.items())
    installed.write("a-dist", good=f"@hookimpl\ndef register_strategies(register):\n{registrations}")
    (installed.folder / "good_package" / "climber.py").write_text(CLIMBER)
    faults = {fault.component.name: str(fault) for fault in installed.load().check() if fault.component}
    assert faults.keys() == references.keys() - {"fine"}
    assert all("distribution 'a-dist' 1.0" in text for text in faults.values())
    assert "cannot import nowhere_at_all:X: ModuleNotFoundError" in faults["missing-module"]
    assert "AttributeError" in faults["missing-object"]
    assert "does not derive from Strategy" in faults["no-strategy"]
    assert "is abstract: it does not implement ask" in faults["abstract"]


class WithCommand:
    @hookimpl
    def register_commands(self, cli: click.Group) -> None:
        @cli.command()
        def greet() -> None:
            click.echo("hello")

    @hookimpl
    def register_tasks(self, register: Any) -> None:
        register("extra", "json:loads")


def test_commands_are_added_to_the_command_line() -> None:
    from click.testing import CliRunner

    manager = PluginManager({})
    manager.register_module(WithCommand(), "greeter")
    cli = click.Group()
    manager.add_commands(cli)
    manager.add_commands(cli)  # a second time changes nothing
    assert CliRunner().invoke(cli, ["greet"]).output == "hello\n"
    assert not manager.broken


def test_a_plugin_with_a_command_of_the_core_is_broken() -> None:
    manager = PluginManager({})
    manager.register_module(WithCommand(), "greeter")
    cli = click.Group(commands={"greet": click.Command("greet")})
    own = cli.commands["greet"]
    manager.add_commands(cli)
    assert cli.commands == {"greet": own}
    assert "the command 'greet' is a command of automl-nas itself" in manager.broken[0].error
    assert manager.registry.names("tasks") == ()
    with pytest.raises(PluginError, match="the command 'greet'"):
        twice = PluginManager({})
        twice.register_module(WithCommand(), "one")
        twice.register_module(WithCommand(), "two")


def test_register_module_raises_for_a_broken_plugin(caplog: pytest.LogCaptureFixture) -> None:
    module = types.ModuleType("scratch")
    manager = PluginManager({})
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(PluginError, match=r"plugin 'scratch' .* does not implement any hook"),
    ):
        manager.register_module(module)
    assert len(manager.broken) == 1

    @hookimpl
    def register_tasks(register: Any) -> None:
        register("extra", "json:loads")

    module.register_tasks = register_tasks  # type: ignore[attr-defined]
    assert manager.register_module(module).components[0].name == "extra"
    assert not manager.broken
    with pytest.raises(PluginError, match="already loaded"):
        manager.register_module(module)
    assert manager.registry.names("tasks") == ("extra",)


def test_loading_again_changes_nothing(installed: Any, registering: Any) -> None:
    from automl_nas.plugin.discovery import discover

    installed.write("a-dist", one=registering("one"))
    manager = installed.load()
    before = manager.plugins
    manager.load(item for item in discover() if item.source.distribution == "a-dist")
    assert manager.plugins == before
    assert not manager.broken
