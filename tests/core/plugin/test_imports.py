"""Loading plugins imports their top modules and nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

HEAVY = ("torch", "torchvision", "numpy", "pydantic", "sklearn", "click", "rich")


def modules_after(code: str, *folders: str) -> set[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([*folders, *sys.path])}
    environ.pop("AUTOML_NAS_PLUGINS", None)
    environ.pop("AUTOML_NAS_DISABLED_PLUGINS", None)
    code = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.process
def test_the_markers_import_only_pluggy() -> None:
    loaded = modules_after("from automl_nas.plugin import hookimpl, Register")
    ours = {name for name in loaded if name.startswith("automl_nas")}
    assert ours == {
        "automl_nas",
        "automl_nas._lazy",
        "automl_nas._version",
        "automl_nas.plugin",
        "automl_nas.plugin.api",
    }
    assert loaded.isdisjoint(HEAVY)


@pytest.mark.process
def test_loading_all_installed_plugins_imports_nothing_heavy(installed: Any, registering: Any) -> None:
    installed.write("some-dist", extra=registering("extra", "extra_package.heavy:Heavy"))
    (installed.folder / "extra_package" / "heavy.py").write_text("import torch")
    code = (
        "from automl_nas.plugin import default_manager\n"
        "manager = default_manager()\n"
        "assert manager is default_manager()\n"
        "assert manager.registry.get('strategies', 'extra').distribution == 'some-dist'"
    )
    loaded = modules_after(code, str(installed.folder))
    assert "extra_package" in loaded
    assert "extra_package.heavy" not in loaded
    # What a command is made of is light, and plugins that add one need it.
    assert loaded.isdisjoint({*HEAVY} - {"click"})
