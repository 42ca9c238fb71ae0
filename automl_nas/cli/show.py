"""``automl-nas show``: the progress and the results of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from automl_nas.cli.common import debug_option, json_option

if TYPE_CHECKING:
    from automl_nas.run.state import RunState, StageState
    from automl_nas.strategy.trial import Trial


@click.command(short_help="Show the progress and the results of a run.")
@click.argument("directory", metavar="DIR")
@click.option("--history", type=click.IntRange(min=0), default=5, show_default=True, help="Number of trials to list.")
@click.option("--best", "by_rank", is_flag=True, help="List the best trials instead of the latest.")
@json_option
@debug_option
def show(directory: str, history: int, by_rank: bool, as_json: bool) -> None:
    """Show the progress of the run in DIR: its stages, the best network so far, the Pareto front and the latest trials.

    The run directory is only read, so the run may continue meanwhile. DIR may be a URL in object storage.
    """
    from automl_nas.object_storage import local_run
    from automl_nas.run.state import RunState

    state = RunState.read(local_run(directory))
    listed = _listed(state, history, by_rank)
    if as_json:
        click.echo(json.dumps(_as_json(state, listed), indent=2, allow_nan=False, ensure_ascii=False))
        return
    for line in _text(state, listed, by_rank):
        click.echo(line)


def _listed(state: RunState, count: int, by_rank: bool) -> list[Trial]:
    if not count:
        return []
    if by_rank:
        return state.leading.problem.rank(state.leading.trials)[:count]
    return sorted((trial for stage in state.stages for trial in stage.trials), key=lambda t: t.number)[-count:]


def _text(state: RunState, listed: Sequence[Trial], by_rank: bool) -> list[str]:
    from automl_nas.cli.summary import summary
    from automl_nas.cli.text import architecture, table
    from automl_nas.run.number_text import duration

    lines = [
        f"run directory: {state.directory}",
        f"status: {_status(state)}",
        f"last record: {duration(state.idle)} ago",
    ]
    if (origin := state.derived_from) is not None:
        lines.append(f"derived from: {origin['run']} (automl-nas {origin['by']})")
    leading = state.leading
    terms = [f"{direction} {name}" for name, direction in leading.problem.objectives.items()]
    terms += [f"{name} {limit}" for name, limit in leading.limits.items()]
    lines += [f"problem: {'; '.join(terms)}", ""]
    lines += table(
        ["stage", "state", "trials", "of which", "logged last"], [_row(stage) for stage in state.stages], left=5
    )
    if state.evaluating:
        begun = ", ".join(f"{number} (attempt {attempt})" for number, attempt in state.evaluating.items())
        lines += ["", f"trials begun and not finished: {begun}"]
    for damage in state.damage:
        lines += ["", f"warning: {damage}"]
    best = leading.problem.best(leading.trials)
    if state.result is not None:
        from automl_nas.run.shortcomings import shortcomings

        lines += ["", *summary(state.directory, state.result)]
        for shortcoming in shortcomings(state.directory, state.result):
            lines += ["", f"warning: {shortcoming.message}"]
    elif best is not None:
        lines += [
            "",
            f"best so far: trial {best.number} of stage '{leading.name}': {_values(best)}",
            architecture(best.architecture, "  "),
        ]
    elif leading.trials:
        lines += ["", "no feasible trial yet"]
    front = leading.problem.pareto(leading.trials)
    if len(front) > 1:
        lines += ["", f"Pareto front of stage '{leading.name}' ({len(front)} networks):", *_trials(front)]
    if listed:
        lines += ["", "best trials:" if by_rank else "latest trials:", *_trials(listed)]
    return lines


def _status(state: RunState) -> str:
    if state.current is None:
        return "complete"
    where = f"at stage '{state.current.name}' ({state.stages.index(state.current) + 1} of {len(state.stages)})"
    if state.status == "running":
        return f"running {where}, {state.holder or 'by another process'}"
    return f"interrupted {where}; to continue: {state.way_to_resume}"


def _row(stage: StageState) -> list[str]:
    from automl_nas.run.number_text import exact

    count = exact(len(stage.trials)) + (f"/{exact(stage.budget)}" if stage.budget else "")
    states = ", ".join(f"{number} {name}" for name, number in stage.states.items())
    logged = "  ".join(f"{name} {value:.6g}" for name, value in stage.logged.items() if isinstance(value, int | float))
    return [stage.name, stage.state, count, states, logged]


def _values(trial: Trial) -> str:
    from automl_nas.run.number_text import cost, measured

    values = [f"{name} {measured(value)}" for name, value in trial.metrics.items()]
    return ", ".join([*values, *(f"{name} {cost(value)}" for name, value in trial.costs.items())])


def _trials(trials: Sequence[Trial]) -> list[str]:
    from automl_nas.cli.text import table
    from automl_nas.run.number_text import exact, measured

    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    costs = list(dict.fromkeys(name for trial in trials for name in trial.costs))
    rows = []
    for trial in trials:
        remark = trial.error or ("" if trial.feasible else "misses a constraint")
        row = [str(trial.number), trial.stage, trial.state.value]
        row += [measured(trial.metrics[name]) if name in trial.metrics else "" for name in metrics]
        row += [exact(trial.costs[name]) if name in trial.costs else "" for name in costs]
        rows.append([*row, f"{trial.seconds:.2f}", remark])
    lines = table(["trial", "stage", "state", *metrics, *costs, "seconds", ""], rows, left=3, indent="  ")
    return lines


def _as_json(state: RunState, listed: Sequence[Trial]) -> dict[str, Any]:
    return {
        "directory": str(state.directory),
        "status": state.status,
        "stage": state.current.name if state.current is not None else None,
        "holder": state.holder or None,
        "derived_from": state.derived_from,
        "idle_seconds": round(state.idle, 3),
        "stages": [
            {
                "name": stage.name,
                "state": stage.state,
                "trials": len(stage.trials),
                "budget": stage.budget,
                "states": stage.states,
                "objectives": stage.problem.objectives,
                "constraints": dict(stage.limits),
                "logged": dict(stage.logged) or None,
                "best": _trial(best) if (best := stage.problem.best(stage.trials)) is not None else None,
                "pareto": [_trial(trial) for trial in stage.problem.pareto(stage.trials)],
            }
            for stage in state.stages
        ],
        "evaluating": [{"number": number, "attempt": attempt} for number, attempt in state.evaluating.items()],
        "damage": [{"file": str(d.path), "line": d.line, "trial": d.number} for d in state.damage],
        "history": [_trial(trial) for trial in listed],
        "result": state.result,
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "stage": trial.stage,
        "state": trial.state.value,
        "feasible": trial.feasible,
        "architecture": trial.architecture.to_dict(),
        "metrics": dict(trial.metrics),
        "costs": dict(trial.costs),
        "violations": {name: value if math.isfinite(value) else None for name, value in trial.violations.items()},
        "fidelity": trial.fidelity,
        "seconds": trial.seconds,
        "error": trial.error or None,
        "info": dict(trial.info),
        "worker": dict(trial.worker) or None,
    }
