"""Real distributions in a temporary folder: a package, and a dist-info with entry points, on sys.path."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from automl_nas.plugin import PluginManager
from automl_nas.plugin.discovery import discover


class Installed:
    """Writes distributions into a folder that is on sys.path, and loads their plugins and no others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: set[str] = set()

    def write(self, distribution: str, version: str = "1.0", **plugins: str) -> None:
        """Install a distribution; each plugin (entry point) is a package of the name ``<plugin>_package``."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        points = "".join(f"{plugin} = {plugin}_package\n" for plugin in plugins)
        (info / "entry_points.txt").write_text(f"[automl_nas]\n{points}")
        for plugin, code in plugins.items():
            package = self.folder / f"{plugin}_package"
            package.mkdir()
            (package / "__init__.py").write_text("from automl_nas.plugin import hookimpl\n" + code)
        self.names.add(distribution)

    def load(self, **environ: str) -> PluginManager:
        """Return a manager that has loaded what was written, as if nothing else were installed."""
        found = [item for item in discover() if item.source.distribution in self.names]
        return PluginManager(environ).load(found)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield Installed(tmp_path)
    for name in set(sys.modules) - before:
        if name.partition(".")[0].endswith("_package"):
            del sys.modules[name]


def _hook(name: str, reference: str = "json:loads", hook: str = "register_strategies") -> str:
    return f"@hookimpl\ndef {hook}(register):\n    register({name!r}, {reference!r}, summary='a test')\n"


@pytest.fixture
def registering() -> Callable[..., str]:
    """Makes the code of a plugin that registers one thing."""
    return _hook
