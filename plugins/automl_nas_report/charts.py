"""The charts of a report. Each has a bound on the number of its elements, whatever the number of trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from automl_nas.run import StageState, exact, human
from automl_nas.strategy import Problem, Trial
from automl_nas_report.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    axes,
    dot,
    drawing,
    element,
    polyline,
    text,
)

MOST_DOTS = 1500
"""The largest number of trials that a chart draws."""

MOST_POINTS = 400
"""The largest number of points of a line."""

COLOURS = 8
"""The number of CSS classes ``line0``, ``line1``, ..."""


@dataclass(frozen=True)
class Chart:
    """A drawing with its caption.

    Attributes:
        svg: the drawing.
        caption: what it shows, and what it leaves out.
        keys: name -> CSS class of what is distinguished by colour.
    """

    svg: Markup
    caption: str
    keys: Mapping[str, str]


def _scales(xs: Sequence[float], ys: Sequence[float]) -> tuple[Scale, Scale]:
    return Scale.of(xs, LEFT, WIDTH - RIGHT), Scale.of(ys, HEIGHT - BOTTOM, TOP)


def thinned(count: int, most: int) -> list[int]:
    """Return positions that are spread evenly over a sequence, the last one included; all if they are few."""
    if count <= most:
        return list(range(count))
    return sorted({round(position * (count - 1) / (most - 1)) for position in range(most)})


def _drawn(trials: Sequence[Trial], always: Sequence[Trial]) -> tuple[list[Trial], str]:
    """Return the trials to draw, and a sentence about those left out."""
    drawn_trials = [trials[position] for position in thinned(len(trials), MOST_DOTS)]
    present = {trial.number for trial in drawn_trials}
    drawn_trials += [trial for trial in always if trial.number not in present]
    note = "" if len(trials) <= MOST_DOTS else f" {exact(len(drawn_trials))} of {exact(len(trials))} trials are drawn."
    return drawn_trials, note


def front_of(stage: StageState, x_name: str) -> list[Trial]:
    """Return the Pareto front of the main objective of a stage and another value, in the order of the latter.

    The other value is minimised unless the problem says otherwise.
    """
    metric, direction = next(iter(stage.problem.objectives.items()))
    problem = Problem({metric: direction, x_name: stage.problem.objectives.get(x_name, "minimize")})
    trials = [t for t in stage.trials if _finite(t.values.get(x_name)) and _finite(t.values.get(metric))]
    return sorted(problem.pareto(trials), key=lambda t: (t.values[x_name], t.values[metric]))


def trade_off(stage: StageState, x_name: str, best: Trial | None, x_unit: str = "") -> Chart | None:
    """Return the main objective over another value of all candidates, with the Pareto front of the two.

    Args:
        stage: its trials; those that miss a constraint have another colour.
        x_name: a cost or metric.
        best: marked, unless None.
        x_unit: of ``x_name``.

    Returns:
        The chart; None if no trial has both values.
    """
    y_name = next(iter(stage.problem.objectives))
    shown = [t for t in stage.trials if _finite(t.values.get(x_name)) and _finite(t.values.get(y_name))]
    if not shown:
        return None
    front = _spread(front_of(stage, x_name))
    drawn_trials, note = _drawn(shown, front if best is None else [*front, best])
    drawn_trials = [t for t in drawn_trials if _finite(t.values.get(x_name)) and _finite(t.values.get(y_name))]
    x, y = _scales([t.values[x_name] for t in drawn_trials], [t.values[y_name] for t in drawn_trials])
    at = {t.number: (x(t.values[x_name]), y(t.values[y_name])) for t in drawn_trials}
    on_front = {t.number for t in front}
    items = axes(x, y, f"{x_name} ({x_unit})" if x_unit else x_name, y_name)
    items += [dot(*at[t.number], 3.0, "missed") for t in drawn_trials if not t.feasible]
    items += [dot(*at[t.number], 3.0, "met") for t in drawn_trials if t.feasible and t.number not in on_front]
    if len(front) > 1:
        items.append(polyline([at[t.number] for t in front], "front"))
    items += [dot(*at[t.number], 4.0, "front-dot", _title(t, x_name, y_name)) for t in front]
    if best is not None and best.number in at:
        items.append(dot(*at[best.number], 7.0, "best", _title(best, x_name, y_name)))
    keys = {"meets all limits": "met"}
    keys |= {"misses a limit": "missed"} if any(not t.feasible for t in drawn_trials) else {}
    keys |= {"Pareto front of the two": "front-dot"} if front else {}
    keys |= {"best": "best"} if best is not None and best.number in at else {}
    caption = f"{y_name} against {x_name} of all candidates.{note}"
    return Chart(drawing(items, f"{y_name} against {x_name}"), caption, keys)


def _spread(front: Sequence[Trial]) -> list[Trial]:
    return [front[position] for position in thinned(len(front), MOST_POINTS)]


def _title(trial: Trial, *names: str) -> str:
    return f"trial {trial.number}: " + ", ".join(f"{name} {human(trial.values[name])}" for name in names)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def history(trials: Sequence[Trial], comparable: Sequence[Trial], metric: str, direction: str) -> Chart | None:
    """Return a metric of all trials over their number, and the best value so far.

    Args:
        trials: of a stage, by number.
        comparable: those that can be the best: complete, feasible, of the highest fidelity.
        metric: the main objective.
        direction: ``maximize`` or ``minimize``.
    """
    shown = [t for t in trials if _finite(t.values.get(metric))]
    if not shown:
        return None
    sign = 1.0 if direction == "maximize" else -1.0
    steps: list[Trial] = []
    for trial in sorted(comparable, key=lambda t: t.number):
        value = trial.values.get(metric)
        if value is not None and _finite(value) and (not steps or sign * value > sign * steps[-1].values[metric]):
            steps.append(trial)
    steps = _spread(steps)
    drawn_trials, note = _drawn(shown, steps)
    numbers = [float(t.number) for t in shown]
    x, y = _scales([numbers[0], numbers[-1]], [t.values[metric] for t in drawn_trials])
    able = {t.number for t in comparable}
    items = axes(x, y, "trial", metric)
    items += [dot(x(t.number), y(t.values[metric]), 2.5, "met" if t.number in able else "missed") for t in drawn_trials]
    if steps:
        line: list[tuple[float, float]] = []
        for before, after in zip([None, *steps], steps, strict=False):
            if before is not None:
                line.append((x(after.number), y(before.values[metric])))
            line.append((x(after.number), y(after.values[metric])))
        line.append((x(numbers[-1]), y(steps[-1].values[metric])))
        items.append(polyline(line, "front"))
    keys = {"candidate": "met", "cannot be the best (limits, fidelity)": "missed", "best so far": "front-dot"}
    if not any(t.number not in able for t in drawn_trials):
        del keys["cannot be the best (limits, fidelity)"]
    return Chart(drawing(items, f"{metric} over trials"), f"{metric} of each trial, and the best so far.{note}", keys)


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], x_name: str, y_name: str) -> Chart | None:
    """Return lines in one chart; points that are not finite are left out.

    Args:
        lines: name -> points.
        x_name: title of the x axis.
        y_name: title of the y axis.
    """
    finite = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in lines.items()}
    finite = {name: points for name, points in finite.items() if points}
    if not finite:
        return None
    hidden = len(finite) - COLOURS
    finite = dict(list(finite.items())[:COLOURS])
    drawn = {name: [points[i] for i in thinned(len(points), MOST_POINTS)] for name, points in finite.items()}
    x, y = _scales(
        [point[0] for points in drawn.values() for point in points],
        [point[1] for points in drawn.values() for point in points],
    )
    items, keys = axes(x, y, x_name, y_name), {}
    for position, (name, points) in enumerate(drawn.items()):
        class_ = f"line{position}"
        keys[name] = class_
        if len(points) > 1:
            items.append(polyline([(x(a), y(b)) for a, b in points], f"curve {class_}"))
        if len(points) <= 40:
            items += [dot(x(a), y(b), 2.5, f"point {class_}") for a, b in points]
    note = f" {hidden} more lines are left out." if hidden > 0 else ""
    return Chart(drawing(items, f"{y_name} over {x_name}"), f"{y_name} over {x_name}.{note}", keys)


def layers(rows: Sequence[tuple[str, str, str, float]], shapes: Sequence[str]) -> Markup:
    """Return the layers of a network from top to bottom, each as a bar as long as its share of the parameters.

    Args:
        rows: name, description, CSS class, and number of parameters of each layer.
        shapes: of the output of each layer.
    """
    step, width = 24.0, 760.0
    most = max((row[3] for row in rows), default=0.0) or 1.0
    items: list[Markup] = []
    for position, ((name, description, class_, count), shape) in enumerate(zip(rows, shapes, strict=True)):
        y = 4.0 + position * step
        if position:
            items.append(element("line", x1=12.0, x2=12.0, y1=y - 5, y2=y, class_="axis"))
        items.append(element("rect", x=4.0, y=y, width=16.0, height=19.0, rx=4, class_=f"layer {class_}"))
        items.append(text(28.0, y + 14, _cut(description, 44), class_="tick strong"))
        items.append(text(330.0, y + 14, shape, class_="tick"))
        items.append(text(428.0, y + 14, _cut(name, 32), class_="tick faint"))
        items.append(element("rect", x=632.0, y=y + 4, width=70.0 * count / most, height=11.0, rx=2, class_="bar"))
        items.append(text(757.0, y + 14, human(count) if count else "", class_="tick", text_anchor="end"))
    return drawing(items, "the layers of the network", width, 8.0 + step * len(rows))


def _cut(value: str, most: int) -> str:
    return value if len(value) <= most else f"{value[: most - 1]}…"
