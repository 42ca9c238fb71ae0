"""What every plugin must pass: `PluginContract`."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from abc import ABC, abstractmethod

import pytest

from automl_nas.plugin import Component, Plugin, PluginManager

HEAVY = ("torch", "torchvision", "numpy", "scipy", "sklearn", "pandas", "optuna", "onnx", "onnxruntime", "pydantic")
"""What the top module of a plugin must not import: it is imported by every command, ``--help`` included."""


class PluginContract(ABC):
    """The tests of a plugin's top module. Derive a class from it in a test file and set `module`.

    For example::

        class TestMyPlugin(PluginContract):
            module = "my_package"
    """

    @property
    @abstractmethod
    def module(self) -> str:
        """The module that the entry point names."""

    def load(self) -> tuple[PluginManager, Plugin]:
        """Return the plugin in a manager of its own."""
        manager = PluginManager({})
        return manager, manager.register_module(importlib.import_module(self.module), self.module)

    def components(self) -> list[Component]:
        """Return what it registers."""
        return list(self.load()[1].components)

    def test_it_loads_and_all_it_registers_is_sound(self) -> None:
        """Every reference can be imported, derives from its base class, and has a constructor that is a schema."""
        manager, plugin = self.load()
        assert plugin.components or plugin.commands or plugin.observers
        assert [str(fault) for fault in manager.check()] == []

    def test_its_top_module_imports_nothing_heavy(self) -> None:
        """In a fresh process."""
        code = f"import json, sys, {self.module}; print(json.dumps(sorted(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert set(json.loads(done.stdout)).isdisjoint(HEAVY)

    def test_everything_is_described(self) -> None:
        """A summary for each component, and a line in the docstring's ``Args`` for each setting."""
        for component in self.components():
            assert component.summary, f"{component} has no summary"
            silent = [setting.name for setting in component.signature().settings if not setting.description]
            assert not silent, f"{component}: the docstring says nothing about {', '.join(silent)}"

    def test_defaults_resolve_to_json_and_back(self) -> None:
        """What a configuration records, with all defaults filled in, says the same when it is read again."""
        for component in self.components():
            signature = component.signature()
            if any(setting.required for setting in signature.settings):
                continue
            resolved = signature.validate({})
            assert signature.validate(json.loads(json.dumps(resolved))) == resolved
            with pytest.raises(ValueError, match="no setting 'no_such_setting'"):
                signature.validate({"no_such_setting": 1})
