"""What may be imported from the packages of the core: there, complete, and changed only on purpose."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

import automl_nas.errors as errors

PACKAGES = ("", "space", "channels", "evaluation", "strategy", "plugin", "run", "testing", "cli")
PINNED = Path(__file__).with_name("public_names.txt")


def full(package: str) -> str:
    return f"automl_nas.{package}".rstrip(".")


def test_public_names_are_the_pinned_ones() -> None:
    # A name that disappears breaks somebody's plugin. To add one, add its line to the file.
    names = [
        f"{full(package)}.{name}" for package in PACKAGES for name in importlib.import_module(full(package)).__all__
    ]
    assert sorted(names) == PINNED.read_text().splitlines()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_resolves_and_is_listed(package: str) -> None:
    module = importlib.import_module(full(package))
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="'no_such_name'"):
        _ = module.no_such_name


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_objects(package: str) -> None:
    """The block for type checkers names the module that the name is really loaded from."""
    module = importlib.import_module(full(package))
    assert module.__file__ is not None
    blocks = [node for node in ast.parse(Path(module.__file__).read_text()).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname or alias.name: node.module for node in imports for alias in node.names}
    lazy = set(module.__all__) - set(vars(module))
    assert lazy <= set(seen)
    for name in set(module.__all__) & set(seen):
        assert seen[name] is not None
        home = importlib.import_module(str(seen[name]))
        expected = getattr(home, name)
        # automl_nas.search is the package and, called, the function of its name.
        assert getattr(module, name) is expected or (package, name) == ("", "search")


def test_the_tree_of_errors_is_the_one_that_is_drawn() -> None:
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    for line in str(errors.__doc__).splitlines():
        if match := re.match(r"^ {4}((?:│   |    )*)(├── |└── )?(\w+)", line):
            depth = len(match[1]) // 4 + bool(match[2])
            path[depth:] = [match[3]]
            drawn[match[3]] = path[depth - 1] if depth else None
    classes = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert set(drawn) == set(classes)
    for name, cls in classes.items():
        base = cls.__base__.__name__
        assert drawn[name] == (base if base in classes else None)
        assert cls.__doc__
