"""The first-party plugins are what pyproject.toml says they are, and pass the contract of every plugin."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from automl_nas.plugin import PluginManager
from automl_nas.plugin.discovery import HOOKS
from automl_nas.plugin.kinds import KINDS
from automl_nas.plugin.settings import Setting
from automl_nas.plugin.signature import Signature
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.testing.plugins import PluginContract

ROOT = Path(__file__).parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRY_POINTS: dict[str, str] = PROJECT["project"]["entry-points"]["automl_nas"]
FOLDERS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py"))


def test_folders_packages_entry_points_and_import_contracts_agree() -> None:
    tool = PROJECT["tool"]
    contracts = {contract["name"]: contract for contract in tool["importlinter"]["contracts"]}
    forbidden = contracts["The core imports no plugin, no torchvision, no optuna"]["forbidden_modules"]
    packages = tool["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(ENTRY_POINTS.values()) == FOLDERS
    assert sorted(packages) == ["automl_nas", *(f"plugins/{folder}" for folder in FOLDERS)]
    assert sorted(tool["importlinter"]["root_packages"]) == ["automl_nas", *FOLDERS]
    assert sorted(contracts["Plugins never import each other"]["modules"]) == FOLDERS
    assert sorted(name for name in forbidden if name.startswith("automl_nas_")) == FOLDERS
    assert all(module == f"automl_nas_{plugin}" for plugin, module in ENTRY_POINTS.items())


def test_every_kind_has_its_hook() -> None:
    assert {f"register_{kind}" for kind in KINDS} | {"register_commands", "register_functions"} == {
        hook for hook in HOOKS if hook.startswith("register_")
    }


def test_names_do_not_clash() -> None:
    manager = PluginManager({})
    for module in FOLDERS:
        manager.register_module(__import__(module), module)
    assert not manager.broken


for _name, _module in ENTRY_POINTS.items():
    _class = type(f"Test{_name.title()}", (PluginContract,), {"module": _module, "__module__": __name__})
    globals()[_class.__name__] = _class


def test_the_fields_of_nested_settings_that_users_do_not_write_have_the_shown_values() -> None:
    """For every component, every field of a nested setting with a default, one field written at a time."""

    def shown(setting: Setting) -> dict[str, Any]:
        return {field.name: shown(field) if field.default_fields else field.default for field in setting.fields}

    registry, seen = complete_manager().registry, set()
    for kind in KINDS:
        for name in registry.names(kind):
            for setting in registry.get(kind, name).signature().settings:
                if not setting.default_fields:
                    continue
                seen.add(f"{name}.{setting.name}")
                assert shown(setting) == setting.default
                nested = Signature(name, (), (setting,), takes_seed=False)
                for written in ({}, *({key: value} for key, value in setting.default.items())):
                    assert nested.validate({setting.name: written}) == {setting.name: setting.default}
    assert {"dso.train", "train.train", "single_path.train"} <= seen
