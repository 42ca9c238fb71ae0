"""Write the reference part of configuration.md: every section and every component's settings, read from the code.

Usage::

    python docs/generate_reference.py           # rewrites the page
    python docs/generate_reference.py --check   # exits with 1 if the page is out of date
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from automl_nas.evaluation.training.recipe import Recipe
from automl_nas.plugin.component import Component
from automl_nas.plugin.kinds import KINDS, kind_of
from automl_nas.plugin.settings import Setting, describe, fields_of, is_union
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.final_section import FinalSettings
from automl_nas.run.configuration.sections import (
    BudgetSettings,
    ProblemSettings,
    RunSettings,
    RuntimeSettings,
    StageSettings,
)

PAGE = Path(__file__).parent / "reference" / "configuration.md"
BEGIN, END = "<!-- reference: begin -->", "<!-- reference: end -->"

SECTIONS: dict[str, Any] = {
    "Run": RunSettings,
    "Problem": ProblemSettings,
    "Runtime": RuntimeSettings,
    "Stage": StageSettings,
    "Budget": BudgetSettings,
    "Final": FinalSettings,
    "Training": Recipe,
}
"""Heading -> the dataclass that is the section's schema."""

INTRODUCTIONS = {
    "Run": "The top level of the file.",
    "Problem": "`problem`, at the top level or of one stage, merged over the top one; there null lifts a constraint.",
    "Runtime": "`runtime`.",
    "Stage": "An item of `stages`. Without `stages` a run does SPOS: `single_path`, then `evolution`.",
    "Budget": "`budget` of a stage.",
    "Final": "`final`.",
    "Training": "Every setting called `train`.",
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


def reference() -> str:
    """Return the generated part of the page."""
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
        usual = {field.name: field.default for field in setting.fields}
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


def main(arguments: list[str] | None = None) -> int:
    """Write or check the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if the page is out of date")
    check = parser.parse_args(arguments).check
    page = PAGE.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    new = f"{head}{BEGIN}\n\n{reference()}\n\n{END}{rest.partition(END)[2]}"
    if check:
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
