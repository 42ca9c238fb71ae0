"""A broken component as a case: which contract must reject it, by which clause."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from automl_nas.testing import BrokenClauseError, Contract, Origin, clauses
from automl_nas.testing.contract import Clause

MODULES = ("searches", "steppers", "evaluators", "costs", "spaces", "supernets", "tasks", "exporters")
MODULES += ("recorders", "races", "observers", "executors", "commands", "plugins")


T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """A component that breaks a clause.

    Attributes:
        kind: the module of this package with the component.
        name: of the component.
        clause: the name of the clause without ``test_``; empty for a component that keeps the contract.
        build: returns the contract class whose methods make the component.
        process: whether the component starts a process.
    """

    kind: str
    name: str
    clause: str
    build: Callable[[], type[Contract]]
    process: bool = False

    def contract(self) -> type[Contract]:
        """Return the contract class of the component."""
        origin = Origin("broken_plugins.cases:make", (self.kind, self.name))
        return type(self.name, (self.build(),), {"origin": lambda contract: origin, "__module__": __name__})

    def rejection(self) -> str:
        """Run the clause; return its message, or an empty string if the component passes."""
        kind = self.contract()
        try:
            self.clause_of(kind).run(kind())
        except BrokenClauseError as error:
            return str(error)
        return ""

    def clause_of(self, kind: type[Contract]) -> Clause:
        """Return the clause."""
        return next(clause for clause in clauses(kind) if clause.name == f"test_{self.clause}")


class Cases:
    """The cases of one module.

    Args:
        kind: the module.
        contract: returns the contract class of a component.
    """

    def __init__(self, kind: str, contract: Callable[[Any], type[Contract]]) -> None:
        self.kind, self._contract = kind, contract
        self.cases: dict[str, Case] = {}

    def keeps(self, component: T) -> T:
        """Note a component that keeps the contract."""
        return self.breaks("")(component)

    def breaks(self, clause: str, *, process: bool = False) -> Callable[[T], T]:
        """Note a component that breaks a clause, and perhaps starts a process."""

        def note(component: T) -> T:
            name: str = component.__name__  # type: ignore[attr-defined]
            assert name not in self.cases, name
            self.cases[name] = Case(self.kind, name, clause, lambda: self._contract(component), process)
            return component

        return note


def all_cases() -> list[Case]:
    """Return the cases of all modules."""
    return [case for module in MODULES for case in cases_of(module).values()]


def cases_of(kind: str) -> dict[str, Case]:
    """Return name -> case of a module."""
    cases: Cases = importlib.import_module(f"broken_plugins.{kind}").CASES
    return cases.cases


def make(kind: str, name: str) -> Contract:
    """Return the contract of a case, in another process."""
    return cases_of(kind)[name].contract()()
