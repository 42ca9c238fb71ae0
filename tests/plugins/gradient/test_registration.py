"""The plugin's components are schemas that the framework can read."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import automl_nas_gradient
from automl_nas.plugin.signature import Signature

NESTED = ("train", "alpha", "cost", "derive", "collapse")


def test_names_and_settings() -> None:
    targets: dict[str, str] = {}

    def register(name: str, target: str, *, summary: str) -> None:
        assert summary
        targets[name] = target

    automl_nas_gradient.register_strategies(register)
    strategies = dict(targets)
    automl_nas_gradient.register_spaces(register)
    for name, target in targets.items():
        module, _, attribute = target.partition(":")
        signature = Signature.of(getattr(import_module(module), attribute))
        defaults = signature.validate({}, name)
        assert name not in strategies or set(NESTED) <= set(defaults)
        assert all(setting.description for setting in signature.settings), "every setting is described"
    assert [*strategies] == ["darts", "gdas", "proxyless", "fbnet", "drnas"]
    assert targets.keys() - strategies.keys() == {"darts_cells"}


@pytest.mark.process
def test_importing_the_plugin_does_not_import_torch() -> None:
    code = "import sys, automl_nas_gradient; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0
