"""The hooks that plugins implement.

A plugin is a module with functions of these names, each marked with `automl_nas.plugin.hookimpl`. A function may omit
parameters it does not use. Each hook is optional; a plugin implements at least one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_nas.plugin.api import Register, hookspec

if TYPE_CHECKING:
    import click

    from automl_nas.plugin.events import ResultInfo, RunInfo, StepInfo
    from automl_nas.strategy.trial import Trial


@hookspec
def register_spaces(register: Register) -> None:
    """Register search spaces: classes derived from `SearchSpace`, or functions annotated to return one."""


@hookspec
def register_strategies(register: Register) -> None:
    """Register search strategies: classes derived from `Strategy`, most often from `AskTellStrategy`."""


@hookspec
def register_evaluators(register: Register) -> None:
    """Register evaluators: classes derived from `Evaluator`."""


@hookspec
def register_pruners(register: Register) -> None:
    """Register pruners, which stop evaluations early: classes derived from `Pruner`."""


@hookspec
def register_cost_models(register: Register) -> None:
    """Register cost models: classes derived from `CostModel`. The name is that of the metric in constraints."""


@hookspec
def register_tasks(register: Register) -> None:
    """Register tasks: classes derived from `Task`."""


@hookspec
def register_exporters(register: Register) -> None:
    """Register exporters: classes derived from `Exporter`."""


@hookspec
def register_executors(register: Register) -> None:
    """Register executors: classes derived from `Executor`."""


@hookspec
def register_observers(register: Register) -> None:
    """Register observers that a configuration can name: classes derived from `Observer`."""


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to the command line: ``@cli.command()`` or ``cli.add_command(...)``.

    The group holds the commands of this plugin only. They are added to the command line when all its hooks have
    returned; a plugin with a command whose name is already used is broken. The hook is called whenever plugins are
    loaded: import what a command needs inside the command.
    """


@hookspec
def register_functions(register: Register) -> None:
    """Register functions that Python programs call as ``automl_nas.NAME``; they are imported when they are first used.

    Register what a user calls directly, and what no configuration can name.
    """


@hookspec
def search_started(run: RunInfo) -> None:
    """Called when a run begins or is resumed (``run.resumed``), once in each process that drives it."""


@hookspec
def step_finished(run: RunInfo, step: StepInfo) -> None:
    """Called after each step of a strategy."""


@hookspec
def trial_finished(run: RunInfo, trial: Trial) -> None:
    """Called when a trial has been recorded, in every state. A resumed run does not repeat recorded trials."""


@hookspec
def search_finished(run: RunInfo, result: ResultInfo) -> None:
    """Called when a run has its result. It is not called for a run that failed or was interrupted."""
