"""Every broken component is rejected by the clause that it breaks, with a message that says what to do."""

from __future__ import annotations

import pytest

from automl_nas.cli.app import cli
from automl_nas.testing import clauses
from automl_nas.testing.commands import CORE_COMMANDS
from broken_plugins.cases import Case, all_cases

CASES = all_cases()
BROKEN = [case for case in CASES if case.clause]


def cases() -> list[object]:
    marks = {True: [pytest.mark.process], False: []}
    return [
        pytest.param(
            case, id=f"{case.kind}-{case.name}", marks=marks[case.process or case.clause_of(case.contract()).process]
        )
        for case in BROKEN
    ]


@pytest.mark.parametrize("case", cases())
def test_a_broken_component_is_rejected(case: Case) -> None:
    message = case.rejection()
    assert message, f"{case.kind}.{case.name} passes the clause {case.clause}"
    clause = case.clause_of(case.contract())
    assert clause.title in message and clause.statement in message
    assert message.partition("way out: ")[2] == clause.way_out != ""


@pytest.mark.process
@pytest.mark.parametrize("case", [case for case in CASES if not case.clause], ids=lambda case: case.name)
def test_a_component_that_keeps_its_contract_passes_every_clause(case: Case) -> None:
    """Otherwise a rejection would say nothing."""
    kind = case.contract()
    for clause in clauses(kind):
        clause.run(kind())


def test_the_names_of_the_core_are_complete() -> None:
    own = {name for name, command in cli.commands.items() if command.callback.__module__.startswith("automl_nas.cli")}
    assert own <= CORE_COMMANDS


def test_the_number_of_broken_components() -> None:
    assert len(BROKEN) >= 120
    assert {case.kind for case in BROKEN} == {case.kind for case in CASES if not case.clause}
