"""What is imported when: nothing heavy before it is needed, and only downwards through the layers.

The command line and the loading of plugins have tests of this kind of their own.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import automl_nas

ROOT = Path(automl_nas.__file__).parents[1]
HEAVY = {"torch", "torchvision", "onnx", "onnxruntime", "sklearn", "numpy", "pydantic", "rich"}
LAYERS = ["errors", "streams", "space", "channels", "evaluation", "strategy", "plugin", "run", "testing", "cli"]


def loaded_after(code: str) -> set[str]:
    """Return the modules that a fresh interpreter holds after running some code."""
    code += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.process
def test_packages_import_nothing_heavy_and_no_plugin() -> None:
    loaded = loaded_after(f"import automl_nas, {', '.join(f'automl_nas.{layer}' for layer in LAYERS)}")
    assert not loaded & HEAVY
    assert not any(name.startswith("automl_nas_") for name in loaded)


@pytest.mark.process
def test_data_and_interfaces_do_without_torch() -> None:
    code = (
        "from automl_nas.space import Architecture, Choice, Ordinal, SearchSpace, Subset\n"
        "from automl_nas.evaluation import CostModel, Evaluator, Recipe\n"
        "from automl_nas.strategy import AskTellStrategy, Problem, Trial\n"
        "from automl_nas.testing import ToySpace\n"
        "space = ToySpace()\n"
        "space.validate(space.sample(__import__('random').Random(0)))"
    )
    assert not loaded_after(code) & HEAVY


@pytest.mark.process
def test_reading_a_record_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from automl_nas.run import Ledger, Result, RunDirectory\n"
        f"assert not Ledger(Path({str(tmp_path / 'trials.jsonl')!r}), writable=False).trials"
    )
    assert "torch" not in loaded_after(code)


def layer_of(module: str) -> int | None:
    parts = module.split(".")
    return LAYERS.index(parts[1]) if parts[0] == "automl_nas" and len(parts) > 1 and parts[1] in LAYERS else None


def path_of(text: str) -> Path:
    """Return where the module is that a text such as ``package.module:Object`` names, relative to the root."""
    return Path(*text.partition(":")[0].split(".")).with_suffix(".py")


def named_in_calls(file: Path) -> Iterator[str]:
    """Yield the texts that are passed to functions: what is imported or registered by name is among them."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


def test_what_is_imported_by_name_respects_the_layers_too() -> None:
    # import-linter sees import statements only.
    upwards = set()
    for file in sorted((ROOT / "automl_nas").rglob("*.py")):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        own = layer_of(module)
        for text in named_in_calls(file):
            named = layer_of(text.partition(":")[0])
            if own is not None and named is not None and named > own and (ROOT / path_of(text)).exists():
                upwards.add((module, text))
    assert upwards == {
        # The table of kinds names the base class of each; this one is no business of the layers below.
        ("automl_nas.plugin.kinds", "automl_nas.run.trials.executor:Executor"),
    }


def imported_modules(file: Path, modules: set[str]) -> set[str]:
    """Return the modules of this project that a file imports, inside functions and for type checkers too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            parent = "." * node.level + node.module
            if node.level:
                package = ".".join(file.relative_to(source_root(file)).with_suffix("").parts[: -node.level])
                parent = f"{package}.{node.module}"
            # `from package import module` imports the module, not a name of the package.
            names |= {
                f"{parent}.{alias.name}" if f"{parent}.{alias.name}" in modules else parent for alias in node.names
            }
    return names & modules


def source_root(file: Path) -> Path:
    return ROOT if file.is_relative_to(ROOT / "automl_nas") else ROOT / "plugins"


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(source_root(file)).with_suffix("").parts).removesuffix(".__init__")


def test_no_module_is_part_of_an_import_circle() -> None:
    files = {module_of(file): file for top in ("automl_nas", "plugins") for file in (ROOT / top).rglob("*.py")}
    waiting = {name: imported_modules(file, set(files)) - {name} for name, file in files.items()}
    while free := [name for name, imports in waiting.items() if not imports]:
        for name in free:
            del waiting[name]
        waiting = {name: imports.difference(free) for name, imports in waiting.items()}
    # What is left is in a circle, or imports one.
    assert not waiting
