"""Write the generated parts of the reference: settings of sections and components, commands, hooks.

Usage::

    python docs/generate_reference.py           # rewrites the pages
    python docs/generate_reference.py --check   # exits with 1 if a page is out of date

A generated part is between the comments ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->`` of its page.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
import sys
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import click

from automl_nas import testing
from automl_nas.cli import cli
from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.plugin import hookspecs
from automl_nas.plugin.component import Component
from automl_nas.plugin.kinds import KINDS, kind_of
from automl_nas.plugin.settings import REQUIRED, Setting, describe, fields_of, is_union
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.final_section import DistillSettings, FinalSettings, InitialWeights
from automl_nas.run.configuration.sections import (
    BudgetSettings,
    ProblemSettings,
    RunBudgetSettings,
    RunSettings,
    RuntimeSettings,
    StageSettings,
)

CONTRACTS: dict[str, type[testing.Contract]] = {
    "Contract": testing.Contract,
    "SearchSpaceContract": testing.SearchSpaceContract,
    "SupernetContract": testing.SupernetContract,
    "AskTellContract": testing.AskTellContract,
    "StrategyContract": testing.StrategyContract,
    "EvaluatorContract": testing.EvaluatorContract,
    "PrunerContract": testing.PrunerContract,
    "CostModelContract": testing.CostModelContract,
    "TaskContract": testing.TaskContract,
    "ExporterContract": testing.ExporterContract,
    "ExecutorContract": testing.ExecutorContract,
    "ObserverContract": testing.ObserverContract,
    "CommandContract": testing.CommandContract,
    "PluginContract": testing.PluginContract,
}
"""Name -> the contract whose clauses the page lists."""

FOLDER = Path(__file__).parent / "reference"

SECTIONS: dict[str, Any] = {
    "Run": RunSettings,
    "TimeBudget": RunBudgetSettings,
    "Problem": ProblemSettings,
    "Runtime": RuntimeSettings,
    "Stage": StageSettings,
    "Budget": BudgetSettings,
    "Final": FinalSettings,
    "InitialWeights": InitialWeights,
    "Distillation": DistillSettings,
    "Training": Recipe,
}
"""Heading -> the dataclass that is the section's schema."""

INTRODUCTIONS = {
    "Run": "The top level of the file.",
    "TimeBudget": "`budget`, at the top level.",
    "Problem": "`problem`, at the top level or of one stage, merged over the top one; there null lifts a constraint.",
    "Runtime": "`runtime`.",
    "Stage": "An item of `stages`. Without `stages` a run does SPOS: `single_path`, then `evolution`.",
    "Budget": "`budget` of a stage.",
    "Final": "`final`.",
    "Training": "Every setting called `train`.",
    "InitialWeights": "`final.initial_weights`, and `initial_weights` of strategies, of evaluators and of the section "
    "`space`. A bare string is the file.",
    "Distillation": "`final.distill`.",
}

MORE_OF_FINAL = (
    Setting("from", str | None, None, "the stage whose result is retrained; null: the last one."),
    Setting(
        "space",
        dict | None,
        None,
        "the space of the networks that are delivered, with the same decisions; without a name these settings change "
        "those of the space that is searched; null: that one. `{setting: {fit: {cost: limit}}}` gives each network the "
        "largest whole number whose exact cost meets the limit; see [delivery](../how_to/delivery.md).",
    ),
    Setting(
        "task",
        dict | None,
        None,
        "the task that is trained: other augmentation, say (`{augment: [flip, {name: cutout, size: 8}]}`). Without a "
        "name these settings change those of the run's task; images and splits must be the same; null: that one.",
    ),
    Setting("export", list[Any], ["safetensors"], "the formats to write, each a component; an empty list: none."),
)
"""Settings of ``final`` that are resolved before its dataclass is made."""


def generated() -> dict[str, dict[str, str]]:
    """Return the generated parts: page -> name of the part -> text."""
    context = click.Context(cli, info_name="automl-nas")
    commands = {name: _command(cli.get_command(context, name), name, context) for name in cli.list_commands(context)}
    return {
        "configuration.md": {"reference": settings()},
        "commands.md": {f"options of {name}": text for name, text in commands.items()},
        "hooks.md": {"hooks": hooks()},
        "contracts.md": {name: contract(kind) for name, kind in CONTRACTS.items()},
    }


def settings() -> str:
    """Return the tables of the settings of every section and component."""
    parts = ["## Sections"]
    for heading, cls in SECTIONS.items():
        settings = (*MORE_OF_FINAL, *fields_of(cls)) if cls is FinalSettings else fields_of(cls)
        parts += [f"### {heading}", INTRODUCTIONS.get(heading, ""), _table(settings)]
    parts.append("## Components")
    registry = complete_manager().registry
    for kind, described in KINDS.items():
        own = [registry.get(kind, name) for name in registry.names(kind)]
        parts.append(f"### {described.noun.capitalize()}")
        parts += [
            text for component in own if component.distribution in ("automl-nas", "") for text in _component(component)
        ]
    return "\n\n".join(part for part in parts if part)


def _component(component: Component) -> list[str]:
    signature = component.signature()
    settings = signature.settings
    source = "core" if component.plugin == "core" else f"plugin `{component.plugin}`"
    text = f"{component.summary[:1].upper()}{component.summary[1:].rstrip('.')} ({source})."
    return [f"#### `{component.name}`", text, _table(settings) if settings else "It has no settings."]


def _table(settings: Iterable[Setting]) -> str:
    rows = ["| setting | type | default | |", "|---|---|---|---|"]
    for setting in settings:
        text = re.sub(r"\bNone\b", "null", setting.description.replace("``", "`"))
        cells = (f"`{setting.name}`", _type(setting.type), _default(setting), text)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _type(annotation: Any) -> str:
    options = typing.get_args(annotation) if is_union(annotation) else (annotation,)
    return " or ".join(text for option in options for text in _one(option))


def _one(annotation: Any) -> list[str]:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return [f"`{option}`" for option in inner]
    if heading := next((heading for heading, cls in SECTIONS.items() if cls is annotation), None):
        return [f"[{heading.lower()}](#{heading.lower()})"]
    if isinstance(annotation, type) and kind_of(annotation) is not None:
        return ["component"]
    if annotation in (Any, object):
        return ["any"]
    if origin in (list, tuple):
        elements = _type(inner[0])
        return ["list" if elements == "any" or " or mapping" in elements else f"list of {elements}"]
    if dict in (origin, annotation):
        return ["mapping"]
    return ["null" if annotation is type(None) else describe(annotation)]


def _default(setting: Setting) -> str:
    if setting.required:
        return "required"
    value = setting.default
    if setting.fields and isinstance(value, dict):
        # Only what differs from the defaults of the section it links to.
        usual = {field.name: field.default for field in dataclasses.replace(setting, default=REQUIRED).fields}
        value = {name: item for name, item in value.items() if item != usual[name]}
        if not value:
            return "its defaults"
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_yaml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return value if isinstance(value, str) and value else json.dumps(value)


def hooks() -> str:
    """Return the table of all hooks, from their specifications."""
    rows = ["| hook | |", "|---|---|"]
    for name, hook in vars(hookspecs).items():
        if inspect.isfunction(hook) and hook.__module__ == hookspecs.__name__:
            signature = f"{name}({', '.join(inspect.signature(hook).parameters)})"
            rows.append(f"| `{signature}` | {_one_line(hook.__doc__)} |")
    return "\n".join(rows)


def contract(kind: type[testing.Contract]) -> str:
    """Return the clauses that a contract adds to those of all contracts."""
    common = {clause.name for clause in testing.clauses(testing.Contract)} if kind is not testing.Contract else set()
    rows = ["| clause | promise | if a component breaks it |", "|---|---|---|"]
    for clause in testing.clauses(kind):
        if clause.name not in common:
            cells = (clause.title, clause.statement, clause.way_out)
            rows.append("| " + " | ".join(cell.replace("|", "\\|").replace("``", "`") for cell in cells) + " |")
    return "\n".join(rows)


def _command(command: click.Command | None, name: str, parent: click.Context) -> str:
    """Return usage, help and options of a command, and those of its subcommands."""
    assert command is not None
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    parts = [f"`{usage}`", inspect.cleandoc(command.help or "").replace("\b\n", "")]
    options = [_option(option, context) for option in command.params if isinstance(option, click.Option)]
    if options:
        parts.append("\n".join(["| option | |", "|---|---|", *options]))
    if isinstance(command, click.Group):
        parts += [_command(command.get_command(context, sub), sub, context) for sub in command.list_commands(context)]
    return "\n\n".join(parts)


def _option(option: click.Option, context: click.Context) -> str:
    value = "" if option.is_flag else " " + option.make_metavar(context).removesuffix(" RANGE")
    names = ", ".join(f"`{name}{value}`" for name in (*option.opts, *option.secondary_opts))
    default = option.default if isinstance(option.default, int | float | str) and not option.is_flag else None
    text = _one_line(option.help) + ("" if default is None else f" Default: {default}.")
    cells = (names, text.replace("<", r"\<"))
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _one_line(text: str | None) -> str:
    return " ".join(inspect.cleandoc(text or "").replace("``", "`").split())


def main(arguments: list[str] | None = None) -> int:
    """Write or check the pages; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a page is out of date")
    check = parser.parse_args(arguments).check
    outdated = 0
    for name, parts in generated().items():
        page = FOLDER / name
        old = new = page.read_text(encoding="utf-8")
        for part, text in parts.items():
            begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
            if begin not in new or end not in new:
                raise SystemExit(f"{page} has no place for its generated part: write {begin} and {end}")
            head, _, rest = new.partition(begin)
            new = f"{head}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"
        if new != old:
            outdated = 1
            if not check:
                page.write_text(new, encoding="utf-8")
    return outdated if check else 0


if __name__ == "__main__":
    sys.exit(main())
