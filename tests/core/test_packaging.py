"""What pyproject.toml says about the distribution is so. (That the packages agree with it: tests/core/plugin.)"""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import automl_nas

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [ROOT / "automl_nas", *sorted(path.parent for path in (ROOT / "plugins").glob("*/__init__.py"))]
# Distributions whose packages have other names.
PACKAGES_OF = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
# Installed only by those who use the part that needs them; imported where they are used.
EXTRAS = PROJECT["project"]["optional-dependencies"]
OPTIONAL = {
    "pytest",
    *(re.split(r"[<>=~!\[ ;]", item)[0] for name in ("benchmark", "ray", "storage", "timm") for item in EXTRAS[name]),
}
# Part of another one's interface.
INCLUDED = {"pydantic_core", "sqlalchemy"}  # pydantic, optuna
# A module of ours that is copied beside the program that imports it, onto another machine.
COPIED = {"rounds"}


def test_versions_agree() -> None:
    assert PROJECT["project"]["version"] == automl_nas.__version__


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_packages_are_typed(package: Path) -> None:
    assert (package / "py.typed").is_file()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_every_folder_with_modules_is_a_package(package: Path) -> None:
    for folder in {file.parent for file in package.rglob("*.py")} - {*package.rglob("templates")}:
        assert (folder / "__init__.py").is_file()


def test_the_command_exists() -> None:
    for target in PROJECT["project"]["scripts"].values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the top packages that are imported anywhere in a module, by a statement or by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "import_torchvision")):
            yield from (a.value.partition(".")[0] for a in node.args if isinstance(a, ast.Constant))


def test_dependencies_are_those_that_are_imported() -> None:
    found = {
        name for package in PACKAGES for file in package.rglob("*.py") for name in imported(ast.parse(file.read_text()))
    }
    foreign = found - set(sys.stdlib_module_names) - {package.name for package in PACKAGES}
    declared = {re.split(r"[<>=~!\[ ;]", item)[0] for item in PROJECT["project"]["dependencies"]}
    # torch.onnx.export needs onnxscript, and imports it itself.
    assert foreign - OPTIONAL - INCLUDED - COPIED == {PACKAGES_OF.get(name, name) for name in declared} - {"onnxscript"}
