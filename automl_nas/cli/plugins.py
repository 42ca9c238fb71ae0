"""``automl-nas plugins``: the installed plugins, what they register, failures, and the settings of components."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli.common import debug_option, json_option
from automl_nas.errors import PluginError, did_you_mean

if TYPE_CHECKING:
    from automl_nas.plugin.component import Component
    from automl_nas.plugin.failures import PluginFailure
    from automl_nas.plugin.manager import Plugin, PluginManager
    from automl_nas.plugin.settings import Setting


@click.command(short_help="List plugins, or the settings of a component.")
@click.argument("name", required=False)
@click.option(
    "--check",
    is_flag=True,
    help="Import and check all registered components; the exit code is 1 if a check fails.",
)
@json_option
@debug_option
@click.pass_context
def plugins(ctx: click.Context, name: str | None, check: bool, as_json: bool) -> None:
    """List plugins: the components of each, and which plugins are broken or disabled, and why.

    NAME of a component (evolution, digits, flops, ...): list its settings with types and defaults. NAME of a plugin or
    a distribution: list only its plugins.
    """
    from automl_nas.run.configuration.builtin import complete_manager

    manager = complete_manager()
    parent = ctx.find_root().command
    if isinstance(parent, click.Group):
        manager.add_commands(parent)  # a plugin with a command whose name is taken must be listed as broken
    failures = list(manager.check() if check else manager.broken)
    chosen = list(manager.plugins)
    components: list[Component] = []
    if name is not None:
        components = [component for component in manager.registry if component.name == name]
        chosen = [plugin for plugin in chosen if name in (plugin.source.plugin, plugin.source.distribution)]
        failures = [failure for failure in failures if name in (failure.source.plugin, failure.source.distribution)]
        if not components and not chosen and not failures:
            raise PluginError(f"unknown component or plugin '{name}'{did_you_mean(name, _names(manager))}")
    if as_json:
        click.echo(
            json.dumps(_as_json(manager, chosen, failures, components, name is None), indent=2, ensure_ascii=False)
        )
    else:
        lines = [line for component in components for line in _settings(component)]
        lines += [line for plugin in chosen if not components for line in _plugin(plugin)]
        for failure in failures:
            lines += [f"BROKEN {failure.component or failure.source}", f"  {failure.error}", ""]
        for remark in manager.remarks:
            if name is None or name in (remark.source.plugin, remark.source.distribution):
                lines += [f"WARNING {remark.source}", f"  {remark.error}", ""]
        if name is None:
            lines += [f"disabled: {source}" for source in manager.disabled]
        if check and not failures:
            lines.append("all registered components passed the checks")
        click.echo("\n".join(lines).rstrip())
    if check and failures:
        ctx.exit(1)


def _names(manager: PluginManager) -> list[str]:
    return [component.name for component in manager.registry] + [plugin.source.plugin for plugin in manager.plugins]


def _plugin(plugin: Plugin) -> list[str]:
    from automl_nas.cli.text import table
    from automl_nas.plugin.kinds import KINDS

    lines = [str(plugin.source)]
    rows = [[KINDS[component.kind].noun, component.name, component.summary] for component in plugin.components]
    rows += [["command", name, command.get_short_help_str(80)] for name, command in sorted(plugin.commands.items())]
    rows += [["function", f"automl_nas.{name}", each.summary] for name, each in sorted(plugin.functions.items())]
    if plugin.observers:
        rows.append(["observer", ", ".join(plugin.observers), ""])
    return [*lines, *table(["", "", ""], rows, left=3, indent="  ")[1:], ""]


def _settings(component: Component) -> list[str]:
    from automl_nas.cli.text import table
    from automl_nas.plugin.kinds import KINDS

    signature = component.signature()
    lines = [
        f"{KINDS[component.kind].noun} '{component.name}': {component.summary}",
        f"  {component.reference}, {component.source}",
    ]
    if signature.collaborators:
        needs = ", ".join(f"{c.type.__name__}{' (optional)' if c.optional else ''}" for c in signature.collaborators)
        lines.append(f"  needs: {needs}")
    rows = [row for setting in signature.settings for row in _rows(setting, "")]
    if rows:
        lines += ["", *table(["setting", "type", "default", ""], rows, left=4, indent="  ")]
    else:
        lines.append("  it has no settings")
    return [*lines, ""]


def _rows(setting: Setting, prefix: str) -> list[list[str]]:
    name = f"{prefix}{setting.name}"
    inner = [row for field in setting.fields for row in _rows(field, f"{name}.")]
    default = (
        "required" if setting.required else "as below" if inner and setting.default else json.dumps(setting.default)
    )
    return [[name, setting.annotation, default, setting.description.replace("``", "")], *inner]


def _as_json(
    manager: PluginManager,
    chosen: Sequence[Plugin],
    failures: Sequence[PluginFailure],
    components: Sequence[Component],
    everything: bool,
) -> dict[str, Any]:
    return {
        "plugins": [
            {
                "name": plugin.source.plugin,
                "distribution": plugin.source.distribution or None,
                "version": plugin.source.version or None,
                "module": plugin.source.module,
                "components": [
                    {"kind": c.kind, "name": c.name, "reference": c.reference, "summary": c.summary}
                    for c in plugin.components
                ],
                "commands": sorted(plugin.commands),
                "functions": sorted(plugin.functions),
                "observers": list(plugin.observers),
            }
            for plugin in chosen
        ],
        "broken": [
            {
                "plugin": failure.source.plugin,
                "distribution": failure.source.distribution or None,
                "component": None
                if failure.component is None
                else {"kind": failure.component.kind, "name": failure.component.name},
                "error": failure.error,
            }
            for failure in failures
        ],
        "remarks": [
            {"plugin": remark.source.plugin, "distribution": remark.source.distribution or None, "error": remark.error}
            for remark in manager.remarks
            if everything or any(remark.source == plugin.source for plugin in chosen)
        ],
        "disabled": [source.plugin for source in manager.disabled] if everything else [],
        "components": [
            {
                "kind": component.kind,
                "name": component.name,
                "plugin": component.plugin,
                "settings": [_setting_json(setting) for setting in component.signature().settings],
            }
            for component in components
        ],
    }


def _setting_json(setting: Setting) -> dict[str, Any]:
    return {
        "name": setting.name,
        "type": setting.annotation,
        "required": setting.required,
        "default": None if setting.required else setting.default,
        "description": setting.description,
        **({"settings": [_setting_json(field) for field in setting.fields]} if setting.fields else {}),
    }
