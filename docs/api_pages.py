"""Sphinx extension: write a page for each public package of automl_nas, from its ``__all__`` and docstrings.

The pages go to ``reference/api/`` whenever the documentation is built. They are not kept in the repository.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

import automl_nas

MODULES = ("automl_nas.errors", "automl_nas.streams")
"""Modules that are public as they are; every other public name is exported by a package."""

_INDEX = """\
The Python API
==============

What these packages export is public. Everything else may change without notice.

{table}

.. toctree::
   :hidden:

{names}
"""


def public_modules() -> list[str]:
    """Return the names of the packages of the core, and of the modules that are public as they are."""
    packages = [f"automl_nas.{module.name}" for module in pkgutil.iter_modules(automl_nas.__path__) if module.ispkg]
    return ["automl_nas", *packages, *MODULES]


def public_names(module: ModuleType) -> list[str]:
    """Return ``__all__`` of a package; of a module, the classes and functions that it defines."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]


def page(name: str) -> str:
    """Return the page of a package as reStructuredText for autodoc."""
    module = importlib.import_module(name)
    homes = _homes(module)
    parts = [_title(name), f".. automodule:: {name}\n   :no-members:"]
    elsewhere = []
    for public in public_names(module):
        home = homes.get(public, name)
        owner = max((package for package in public_modules() if f"{home}.".startswith(f"{package}.")), key=len)
        if owner != name:
            elsewhere.append(f"* :py:obj:`{public} <{owner}.{public}>`")
        else:
            parts.append(_entry(f"{name}.{public}", getattr(module, public), home))
    if elsewhere:
        parts.append("Also exported here:\n\n" + "\n".join(elsewhere))
    return "\n\n".join(parts) + "\n"


def write(folder: Path) -> None:
    """Write the index and the pages into a folder; files that are right already are left alone."""
    folder.mkdir(exist_ok=True)
    names = public_modules()
    pages = {name: page(name) for name in names}
    rows = [f":doc:`{name}`\n   {_summary(name)}" for name in names]
    pages["index"] = _INDEX.format(table="\n\n".join(rows), names="\n".join(f"   {name}" for name in names))
    for file in folder.glob("*.rst"):
        if file.stem not in pages:
            file.unlink()
    for name, text in pages.items():
        file = folder / f"{name}.rst"
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Register the extension with Sphinx."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "reference" / "api"))
    return {"parallel_read_safe": True}


def _title(text: str) -> str:
    return f"{text}\n{'=' * len(text)}"


def _summary(name: str) -> str:
    return (inspect.getdoc(importlib.import_module(name)) or "").splitlines()[0]


def _entry(name: str, value: object, home: str) -> str:
    if inspect.isclass(value):
        return f".. autoclass:: {name}\n   :members:\n   :show-inheritance:"
    if inspect.isroutine(value) or hasattr(value, "__wrapped__"):
        return f".. autofunction:: {name}"
    own = inspect.getdoc(value) != inspect.getdoc(type(value))  # a string has the documentation of str
    text = _comment(home, name.rpartition(".")[2]) or ((inspect.getdoc(value) or "").partition("\n")[0] if own else "")
    shown = f"\n   :value: {value!r}" if isinstance(value, (str, tuple)) else ""
    return f".. py:data:: {name}{shown}\n\n   {text}".rstrip()


def _homes(package: ModuleType) -> dict[str, str]:
    """Return the module that defines each name of a package: its block for type checkers imports them from there."""
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    return {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}


def _comment(home: str, name: str) -> str:
    """Return the string below an assignment of a module, on one line, or an empty string."""
    source = Path(str(importlib.import_module(home).__file__)).read_text(encoding="utf-8")
    for node, after in itertools.pairwise(ast.parse(source).body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        match after:
            case ast.Expr(value=ast.Constant(value=str(text))) if any(getattr(t, "id", "") == name for t in targets):
                return " ".join(text.split())
    return ""
