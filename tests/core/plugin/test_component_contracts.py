"""Every registered first-party component has a test class derived from the contract of its kind."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from automl_nas.plugin.component import Component
from automl_nas.plugin.kinds import KINDS
from automl_nas.run.configuration.builtin import complete_manager

TESTS = Path(__file__).parents[2]
CONTRACTS = {
    "spaces": {"SearchSpaceContract", "SupernetContract"},
    "strategies": {"StrategyContract", "AskTellContract"},
    "evaluators": {"EvaluatorContract"},
    "pruners": {"PrunerContract"},
    "cost_models": {"CostModelContract"},
    "tasks": {"TaskContract"},
    "exporters": {"ExporterContract"},
    "executors": {"ExecutorContract"},
    "observers": {"ObserverContract"},
}


@dataclass(frozen=True)
class ContractTest:
    """A class that pytest runs.

    Attributes:
        bases: the names of all its base classes.
        names: the names in it, in its bases and in what they use of their module.
        imported: the modules from which its module imports them, by name.
    """

    bases: frozenset[str]
    names: frozenset[str]
    imported: dict[str, str]


def contract_tests() -> Iterator[ContractTest]:
    """Yield the classes of tests that are derived from a contract, read from the sources."""
    for file in sorted(TESTS.rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        if "Contract" not in text or "broken_plugins" in file.parts:
            continue
        tree = ast.parse(text)
        defined: dict[str, ast.stmt] = {}
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                defined[node.name] = node
            elif isinstance(node, ast.Assign):
                defined.update({target.id: node for target in node.targets if isinstance(target, ast.Name)})
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                defined[node.target.id] = node
        imported = {
            alias.asname or alias.name: f"{node.module}:{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        # type("TestName", (Base,), ...) makes classes of a base that is not itself run.
        made = {
            each.id
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "type"
            for argument in call.args[1:2]
            for each in ast.walk(argument)
            if isinstance(each, ast.Name)
        }
        for name, node in defined.items():
            if isinstance(node, ast.ClassDef) and (name.startswith("Test") or name in made):
                yield ContractTest(frozenset(bases(node, defined)), frozenset(used(node, defined, set())), imported)


def bases(node: ast.ClassDef, defined: dict[str, ast.stmt]) -> Iterator[str]:
    for base in node.bases:
        name = base.attr if isinstance(base, ast.Attribute) else base.id if isinstance(base, ast.Name) else ""
        yield name
        if isinstance(parent := defined.get(name), ast.ClassDef):
            yield from bases(parent, defined)


def used(node: ast.AST, defined: dict[str, ast.stmt], seen: set[str]) -> set[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name | ast.Constant):
            name = each.id if isinstance(each, ast.Name) else each.value
            if isinstance(name, str) and name not in seen:
                seen.add(name)
                if name in defined:
                    used(defined[name], defined, seen)
    return seen


COMPONENTS = list(complete_manager().registry)
FOUND = list(contract_tests())


def test_every_kind_has_a_contract() -> None:
    assert CONTRACTS.keys() == KINDS.keys()


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda component: f"{component.kind}-{component.name}")
def test_the_component_has_a_contract_test(component: Component) -> None:
    module, _, name = component.reference.partition(":")
    package = module.partition(".")[0]
    origins = [
        test.imported.get(each, "") for test in FOUND if test.bases & CONTRACTS[component.kind] for each in test.names
    ]
    by_name = any(component.name in test.names and test.bases & CONTRACTS[component.kind] for test in FOUND)
    assert by_name or any(
        origin.endswith(f":{name}") and origin.replace(":", ".").partition(".")[0] == package for origin in origins
    ), f"no class derived from {' or '.join(sorted(CONTRACTS[component.kind]))} uses {component.reference}"
