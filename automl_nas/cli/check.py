"""``automl-nas check``: the contract of a component, without pytest."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli.common import debug_option, json_option, working_plugins
from automl_nas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from automl_nas.cli.check_contracts import Target


@dataclass(frozen=True)
class Verdict:
    """A clause, and whether a component keeps it.

    Attributes:
        clause: its name as words.
        promise: what it promises, in a sentence.
        passed: whether the component keeps it.
        finding: what was found if it does not.
        way_out: what to do then.
        seconds: the duration.
    """

    clause: str
    promise: str
    passed: bool
    finding: str
    way_out: str
    seconds: float


@click.command(short_help="Check that components keep the contract of their kind.")
@click.argument("name")
@click.option("--kind", help="Only components of this kind: strategies, spaces, evaluators, cost_models, ...")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of the component, as YAML.")
@click.option("--space", default="", help="The space of the checks: a registered one, or module:function.")
@click.option(
    "--declare",
    multiple=True,
    metavar="ATTRIBUTE=VALUE",
    help="An attribute of the contract class, such as may_repeat=true.",
)
@json_option
@debug_option
@click.pass_context
def check(
    ctx: click.Context,
    name: str,
    kind: str | None,
    settings: tuple[str, ...],
    space: str,
    declare: tuple[str, ...],
    as_json: bool,
) -> None:
    """Check that NAME keeps the contract of its kind, with the clauses of automl_nas.testing and without pytest.

    NAME is a registered component or command, module:Class, a plugin, or a distribution, of which everything is
    checked. The exit code is 1 if a clause is broken.
    """
    from automl_nas.cli.check_contracts import targets

    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # module:Class is imported from there, also by the second process
    chosen = targets(name, kind, working_plugins())
    written, declared = _pairs(settings, "--set"), _pairs(declare, "--declare")
    if (written or declared) and len(chosen) > 1:
        raise ConfigurationError(
            f"'{name}' means {len(chosen)} things ({', '.join(map(str, chosen[:3]))}, ...); settings and declarations "
            "belong to one: name it, or choose one with --kind",
            path="--set" if written else "--declare",
        )
    chosen = [replace(target, settings=written, space=space, declared=declared) for target in chosen]
    reports, broken = [], 0
    for target in chosen:
        if not as_json:
            click.echo(str(target))
        verdicts = []
        for verdict in _verdicts(target):
            verdicts.append(verdict)
            broken += not verdict.passed
            if not as_json:
                click.echo("\n".join(_lines(verdict)))
        reports.append({"kind": target.kind, "name": target.name, "clauses": [vars(verdict) for verdict in verdicts]})
    count = sum(len(report["clauses"]) for report in reports)
    if as_json:
        click.echo(json.dumps({"clauses": count, "broken": broken, "components": reports}, indent=2))
    else:
        click.echo(f"{count - broken} of {count} clauses passed")
    if broken:
        ctx.exit(1)


def _verdicts(target: Target) -> Iterator[Verdict]:
    from automl_nas.cli.check_contracts import contract_for
    from automl_nas.testing import BrokenClauseError, clauses

    arguments = (target.kind, target.name, target.settings, target.space, target.declared)
    kind: Any = type(contract_for(*arguments))
    for clause in clauses(kind):
        begun, finding = time.perf_counter(), ""
        try:
            clause.run(kind())
        except BrokenClauseError as error:
            finding = error.finding
        yield Verdict(clause.title, clause.statement, not finding, finding, clause.way_out, time.perf_counter() - begun)


def _lines(verdict: Verdict) -> list[str]:
    if verdict.passed:
        return [f"  passed  {verdict.clause}"]
    return [
        f"  FAILED  {verdict.clause}",
        f"          promise: {verdict.promise}",
        f"          found:   {verdict.finding}",
        f"          way out: {verdict.way_out}",
    ]


def _pairs(texts: tuple[str, ...], option: str) -> dict[str, Any]:
    """Return the values of ``KEY=VALUE``; a key with dots is nested.

    Raises:
        ConfigurationError: an argument is not of this form.
    """
    from automl_nas.run import parse_yaml

    values: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigurationError(f"must be KEY=VALUE, not '{text}'", path=option)
        *parents, last = key.split(".")
        level = values
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise ConfigurationError(f"'{parent}' in '{text}' has a value already", path=option)
        level[last] = parse_yaml(value, f"{option} {key}").value
    return values
