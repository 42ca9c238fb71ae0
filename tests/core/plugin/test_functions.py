"""Functions of plugins as attributes of `automl_nas`: found, refused, absent; nothing is loaded for other names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import automl_nas
from automl_nas.errors import PluginError
from automl_nas.plugin import PluginManager, Register, hookimpl
from automl_nas.plugin.functions import PluginFunction


class Offering:
    """A plugin with one function."""

    def __init__(self, name: str, reference: str = "json:dumps", summary: str = "writes JSON") -> None:
        self.arguments: tuple[str, str, str] = (name, reference, summary)

    @hookimpl
    def register_functions(self, register: Register) -> None:
        name, reference, summary = self.arguments
        register(name, reference, summary=summary)


def test_a_function_is_imported_at_its_first_use() -> None:
    manager = PluginManager({})
    sys.modules.pop("this", None)
    plugin = manager.register_module(Offering("zen", "this:s"), "poet")
    assert plugin.functions == {"zen": PluginFunction("zen", "this:s", "writes JSON", plugin.source)}
    assert "this" not in sys.modules
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *_: None)
        assert isinstance(manager.function("zen"), str)
    assert not manager.check()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search",), "automl_nas.search is taken by automl_nas itself"),
        (("space",), "automl_nas.space is taken by automl_nas itself"),
        (("make-small",), "'make-small' is not a valid name"),
        (("_hidden",), "'_hidden' is not a valid name"),
        (("write", "json"), "must be a string 'package.module:function'"),
        (("write", "json:dumps.x"), "must be a string 'package.module:function'"),
        (("write", "json:dumps", "two\nlines"), "must be one line"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], message: str) -> None:
    manager = PluginManager({})
    with pytest.raises(PluginError, match=message):
        manager.register_module(Offering(*arguments), "poet")
    with pytest.raises(AttributeError, match="no attribute"):
        manager.function(arguments[0])


def test_two_plugins_cannot_offer_the_same_name() -> None:
    manager = PluginManager({})
    manager.register_module(Offering("write"), "first")
    with pytest.raises(PluginError, match=r"automl_nas\.write is taken by plugin 'first'"):
        manager.register_module(Offering("write"), "second")
    assert manager.function("write")({}) == "{}"


def test_a_function_that_cannot_be_imported_is_named() -> None:
    manager = PluginManager({})
    manager.register_module(Offering("write", "no_such_module:dumps"), "poet")
    with pytest.raises(PluginError, match=r"function 'write' of plugin 'poet'.*no_such_module"):
        manager.function("write")
    (failure,) = manager.check()
    assert "no_such_module" in failure.error


def test_compress_is_a_function_of_the_plugin_elastic() -> None:
    from automl_nas_elastic.compression import compress

    found: Callable[..., Any] = automl_nas.compress
    assert found is compress
    with pytest.raises(AttributeError, match="module 'automl_nas' has no attribute 'compres'"):
        _ = automl_nas.compres


@pytest.mark.process
def test_other_names_load_no_plugin_and_a_disabled_plugin_is_named() -> None:
    code = (
        "import sys, automl_nas\n"
        "from automl_nas import space, run\n"
        "assert not hasattr(automl_nas, '__wrapped__')\n"
        "assert not any(name.startswith('automl_nas_') for name in sys.modules)\n"
        "try:\n    automl_nas.compress\nexcept AttributeError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"AUTOML_NAS_DISABLED_PLUGINS": "elastic"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "has no attribute 'compress'; a plugin that is not loaded may offer it: plugin 'elastic'" in done.stdout
    assert done.stdout.rstrip().endswith("disabled")
