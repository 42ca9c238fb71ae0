"""``automl-nas plugins``: what is installed, what it registers, what is broken, and the settings of components."""

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
    help="Import everything that is registered, and check it; exits with 1 if something is wrong.",
)
@json_option
@debug_option
@click.pass_context
def plugins(ctx: click.Context, name: str | None, check: bool, as_json: bool) -> None:
    """List plugins: what each registers, which are broken or disabled, and why.

    With the NAME of a component (evolution, digits, flops, ...): its settings, with types and defaults. With the name
    of a plugin or a distribution: that one alone.
    """
    from automl_nas.run.configuration.builtin import complete_manager

    manager = complete_manager()
    parent = ctx.find_root().command
    if isinstance(parent, click.Group):
        manager.add_commands(parent)  # a command that clashes breaks its plugin, which must show here
    faults = list(manager.check() if check else manager.broken)
    chosen = list(manager.plugins)
    components: list[Component] = []
    if name is not None:
        components = [component for component in manager.registry if component.name == name]
        chosen = [plugin for plugin in chosen if name in (plugin.source.plugin, plugin.source.distribution)]
        faults = [fault for fault in faults if name in (fault.source.plugin, fault.source.distribution)]
        if not components and not chosen and not faults:
            raise PluginError(f"there is no component or plugin '{name}'{did_you_mean(name, _names(manager))}")
    if as_json:
        click.echo(
            json.dumps(_as_json(manager, chosen, faults, components, name is None), indent=2, ensure_ascii=False)
        )
    else:
        lines = [line for component in components for line in _settings(component)]
        lines += [line for plugin in chosen if not components for line in _plugin(plugin)]
        for fault in faults:
            lines += [f"BROKEN {fault.component or fault.source}", f"  {fault.error}", ""]
        if name is None:
            lines += [f"disabled: {source}" for source in manager.disabled]
        if check and not faults:
            lines.append("everything that is registered can be imported and used")
        click.echo("\n".join(lines).rstrip())
    if check and faults:
        ctx.exit(1)


def _names(manager: PluginManager) -> list[str]:
    return [component.name for component in manager.registry] + [plugin.source.plugin for plugin in manager.plugins]


def _plugin(plugin: Plugin) -> list[str]:
    from automl_nas.cli.text import table
    from automl_nas.plugin.kinds import KINDS

    lines = [str(plugin.source)]
    rows = [[KINDS[component.kind].noun, component.name, component.summary] for component in plugin.components]
    rows += [["command", name, command.get_short_help_str(80)] for name, command in sorted(plugin.commands.items())]
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
    faults: Sequence[PluginFailure],
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
                "observers": list(plugin.observers),
            }
            for plugin in chosen
        ],
        "broken": [
            {
                "plugin": fault.source.plugin,
                "distribution": fault.source.distribution or None,
                "component": None
                if fault.component is None
                else {"kind": fault.component.kind, "name": fault.component.name},
                "error": fault.error,
            }
            for fault in faults
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
