"""A commented configuration for a task, with choices that follow from the data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automl_nas.errors import DataError
from automl_nas.run import dump_yaml
from automl_nas_estimators.defaults.data import TaskChoice
from automl_nas_estimators.defaults.spaces import SpaceChoice, choose_space, comment

if TYPE_CHECKING:
    from automl_nas.evaluation import Task
    from automl_nas.plugin import Registry

_CANDIDATES = 100
"""The number of candidates of a search, if enough samples are held out to tell so many apart."""


@dataclass(frozen=True)
class Choices:
    """A configuration.

    Attributes:
        text: YAML with comments.
        task: that it names, constructed; its batches have the default size.
        summary: what was chosen, some lines for the user.
    """

    text: str
    task: Task
    summary: tuple[str, ...]


def choose_configuration(
    choice: TaskChoice,
    registry: Registry,
    *,
    title: str,
    seed: int = 0,
    deliver: bool = True,
    sections: Mapping[str, Any] | None = None,
) -> Choices:
    """Return a configuration for a task.

    Args:
        choice: the task; ``batch_size`` is added to it.
        registry: of components.
        title: what is searched, for the first line.
        seed: of the run.
        deliver: whether the final stage also trains baselines and exports the network.
        sections: sections of the configuration in place of the chosen ones; None: the chosen ones.

    Raises:
        UserError: the data cannot be read.
    """
    task = _make_task(choice, registry)
    count = task.size("train")
    if "batch_size" not in choice.settings:
        batch = min(count, 16 if count < 500 else 64 if count < 20_000 else 128)
        choice.settings["batch_size"] = batch
        choice.comments["batch_size"] = f"the train split has {count:,} samples"
    space = choose_space(task.input_shape, task.preprocessing())
    batch = choice.settings["batch_size"]
    iterations = max(1, count // batch)
    supernet, final = _epochs(2000, iterations, 60), _epochs(1500, iterations, 40)
    sizes = ", ".join(f"{task.size(split):,} {split}" for split in ("train", "search", "test"))
    written: dict[str, list[str]] = {
        "seed": [f"seed: {seed}"],
        "runtime": [
            *comment(
                "The number of CPU threads; as it is, that of the cores. Fewer leave cores to other programs, and "
                "small networks are often as fast with 1. The rounding of sums depends on it: another machine needs "
                "the same number for the same result."
            ),
            "# runtime: {threads: 2}",
        ],
        "task": [
            f"# {_kind(task)}; samples: {sizes}.",
            "# Networks are compared on the search split; the test split is used once, for the final report.",
            *_section("task", choice.settings, choice.comments),
        ],
        "space": list(space.lines),
        "problem": [
            f"# The delivered network may have at most 80 % of the {space.cost_words} of the largest one.",
            "problem:",
            f'  constraints: {{{space.cost}: "<= 0.8 * largest"}}',
        ],
        "stages": _stages(task, space, supernet, iterations, batch),
        "final": _final(space, final, max(1, task.size("train+search") // batch), deliver, task.preprocessing()),
    }
    for name, value in (sections or {}).items():
        written[name] = ["# Given by the caller.", *dump_yaml({name: value}).rstrip("\n").splitlines()]
    head = [
        f"# Search a network for {title}; every value may be changed.",
        "#",
        "#     automl-nas plan THIS_FILE          how long it will take",
        "#     automl-nas run THIS_FILE --smoke   whether every stage and export works",
        "#     automl-nas run THIS_FILE",
    ]
    summary = (
        f"{_kind(task)}; samples: {sizes}",
        *(f"{name}: {' '.join(_plain(written[name]))}" for name in ("space", "problem")),
        f"training: {supernet} epochs for all networks, {final} for the best one, in batches of {batch}",
    )
    text = "\n".join([*head, *written.pop("seed"), *("\n" + "\n".join(lines) for lines in written.values()), ""])
    return Choices(text, task, summary)


def _stages(task: Task, space: SpaceChoice, epochs: int, iterations: int, batch: int) -> list[str]:
    held_out = task.size("search")
    # The best of many candidates on few samples is the luckiest one.
    candidates = max(10, min(_CANDIDATES, held_out))
    population = 20 if candidates == _CANDIDATES else max(5, candidates // 5)
    generations = candidates // population
    recalibration = f", recalibration_images: {min(512, task.size('train'))}" if space.normalised else ""
    reason = "" if candidates == _CANDIDATES else f" More would be compared by chance on {held_out} held-out samples."
    return [
        "stages:",
        *comment(
            f"One set of weights for all networks, trained for {epochs * iterations:,} iterations of {batch} samples. "
            "More epochs rank candidates better.",
            "  ",
        ),
        "  - name: supernet",
        f"    strategy: {{name: single_path, train: {{epochs: {epochs}, {space.training}}}}}",
        *comment(
            f"{population} candidates in each of {generations} generations, compared by their loss with these weights."
            f"{reason}",
            "  ",
        ),
        "  - name: search",
        f"    strategy: {{name: evolution, population: {population}, generations: {generations}, "
        f"top_k: {min(5, population // 2)}}}",
        f"    evaluator: {{name: supernet_weights, weights: supernet{recalibration}}}",
    ]


def _final(
    space: SpaceChoice, epochs: int, iterations: int, deliver: bool, preprocessing: Mapping[str, Any] | None
) -> list[str]:
    text = f"The best network is trained from scratch for {epochs * iterations:,} iterations, and tested once."
    if deliver:
        text += (
            " To judge the search, the largest allowed and a random network are trained in the same way; without them, "
            "set baselines: []."
        )
    described = (preprocessing or {}).get("input") in ("image", "table")
    exports = "[]" if not deliver else "[package]" if described else "[safetensors, onnx]"
    package = "A folder to hand over: the network in several formats, a model card, and infer.py for new files."
    return [
        *comment(text),
        "final:",
        f"  train: {{epochs: {epochs}, {space.training}}}",
        f"  baselines: {'[largest, random]' if deliver else '[]'}",
        *(comment(package, "  ") if exports == "[package]" else []),
        f"  export: {exports}",
    ]


def _make_task(choice: TaskChoice, registry: Registry) -> Task:
    """Construct the task; a table with missing values gets the setting that accepts them, with the reason."""

    def construct() -> Task:
        task: Task = registry.construct("tasks", choice.settings, path="task")
        return task

    try:
        return construct()
    except DataError:
        if choice.settings["name"] != "csv":
            raise
        plain = dict(choice.settings)
        choice.settings["missing"] = "impute"
        try:
            task = construct()
        except DataError:
            choice.settings = plain
            return construct()  # the cause was another one
        if any(feature["missing"] for feature in (task.preprocessing() or {})["features"]):
            choice.comments["missing"] = (
                "some cells are empty: a number becomes the mean, and a feature marks it; text becomes zeros; rows "
                "without a target are left out"
            )
        else:  # only targets are missing, so nothing is imputed, and the task is the same
            choice.settings["missing"] = "drop"
            choice.comments["missing"] = "rows without a target are left out; no cell of the inputs is empty"
        return task


def _kind(task: Task) -> str:
    shape = " x ".join(map(str, task.input_shape))
    rule = task.preprocessing() or {}
    if rule.get("input") == "tokens":
        inputs = f"Sequences of {shape} tokens, a vocabulary of {rule['vocabulary']:,}"
    elif len(task.input_shape) == 3:
        channels, height, width = task.input_shape
        inputs = f"Images of {_counted(channels, 'channel')}, {height} x {width} pixels"
    elif len(task.input_shape) == 2:
        inputs = f"Signals of {shape} (channels x length)"
    else:
        inputs = f"Tables of {_counted(task.input_shape[0], 'feature')}"
    noun = {"classes": "classes", "labels": "labels", "numbers": "numbers to predict"}
    kind = (task.outputs() or {}).get("kind")
    names = task.class_names
    count = len(names) if names else task.num_classes
    predicted = f", {count} {noun[kind]}" if kind in noun and count else f", {count} classes" if names else ""
    if kind == "numbers" and count == 1:
        predicted = ", one number to predict"
    return f"{inputs}{predicted}; metrics: {', '.join(task.metrics)}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def _epochs(iterations: int, per_epoch: int, most: int) -> int:
    return min(most, max(10, round(iterations / per_epoch)))


def _section(name: str, settings: Mapping[str, Any], comments: Mapping[str, str]) -> list[str]:
    lines = [f"{name}:"]
    for key, value in settings.items():
        if key in comments:
            lines += comment(f"{key}: {comments[key]}.", "  ")
        # JSON is YAML, except that strings may need no quotes.
        lines.append(f"  {key}: {json.dumps(value, ensure_ascii=False)}")
    return lines


def _plain(lines: Sequence[str]) -> list[str]:
    """Return lines of YAML without comments, indentation and the name of the section."""
    rest = [line.strip() for line in lines if not line.lstrip().startswith("#")]
    first = rest[0].partition(":")[2].strip()
    return [*([first] if first else []), *rest[1:]]
