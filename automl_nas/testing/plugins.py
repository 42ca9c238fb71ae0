"""Contract tests of plugins: `PluginContract`."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from abc import ABC, abstractmethod

import pytest

from automl_nas.plugin import Component, Plugin, PluginManager

HEAVY = ("torch", "torchvision", "numpy", "scipy", "sklearn", "pandas", "optuna", "onnx", "onnxruntime", "pydantic")
"""Modules that the top module of a plugin must not import, since every command imports it, also ``--help``."""


class PluginContract(ABC):
    """The tests of a plugin's top module. Derive a class from it in a test file and set `module`.

    For example::

        class TestMyPlugin(PluginContract):
            module = "my_package"
    """

    @property
    @abstractmethod
    def module(self) -> str:
        """The module of the entry point."""

    def load(self) -> tuple[PluginManager, Plugin]:
        """Return a new manager and the plugin in it."""
        manager = PluginManager({})
        return manager, manager.register_module(importlib.import_module(self.module), self.module)

    def components(self) -> list[Component]:
        """Return the components that the plugin registers."""
        return list(self.load()[1].components)

    def test_it_loads_and_its_components_are_valid(self) -> None:
        """Every reference can be imported, derives from its base class, and has a valid constructor signature."""
        manager, plugin = self.load()
        assert plugin.components or plugin.commands or plugin.observers
        assert [str(failure) for failure in manager.check()] == []

    def test_its_top_module_imports_nothing_heavy(self) -> None:
        """The module is imported in a new process."""
        code = f"import json, sys, {self.module}; print(json.dumps(sorted(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert set(json.loads(done.stdout)).isdisjoint(HEAVY)

    def test_everything_is_described(self) -> None:
        """Each component has a summary, and each setting is described in the docstring's ``Args``."""
        for component in self.components():
            assert component.summary, f"{component} has no summary"
            undescribed = [setting.name for setting in component.signature().settings if not setting.description]
            assert not undescribed, f"{component}: the docstring does not describe {', '.join(undescribed)}"

    def test_defaults_resolve_to_json_and_back(self) -> None:
        """Resolving the defaults, writing them as JSON and resolving them again gives the same settings."""
        for component in self.components():
            signature = component.signature()
            if any(setting.required for setting in signature.settings):
                continue
            resolved = signature.validate({})
            assert signature.validate(json.loads(json.dumps(resolved))) == resolved
            with pytest.raises(ValueError, match="no setting 'no_such_setting'"):
                signature.validate({"no_such_setting": 1})
