"""A commented configuration for a data set, with choices that follow from the data."""

from __future__ import annotations

import csv
import json
import math
import statistics
import textwrap
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_nas.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from automl_nas.evaluation.task import Task
    from automl_nas.plugin.registry import Registry

DIGITS = "digits"
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_TARGETS = ("target", "label", "class", "y")
_ARRAYS = {
    "train_images": ("train_images", "x_train", "X_train"),
    "train_labels": ("train_labels", "y_train"),
    "test_images": ("test_images", "x_test", "X_test"),
    "test_labels": ("test_labels", "y_test"),
}
_SIDES = (8, 12, 16, 24, 28, 32, 48, 64)
_LOOKED_AT = 200
"""The number of image files whose size is read."""


@dataclass
class TaskChoice:
    """The section ``task``.

    Attributes:
        settings: of the task.
        comments: setting -> why it has this value.
    """

    settings: dict[str, Any]
    comments: dict[str, str] = field(default_factory=dict)


def first_configuration(path: str, target: str | None, registry: Registry) -> str:
    """Return the text of a configuration for a data set.

    Args:
        path: a folder of images, a CSV file, an npz file, or ``digits``.
        target: for a table: the column to predict; None: a column called ``target``, ``label``, ``class`` or ``y``, or
            the last one.
        registry: of components.

    Raises:
        ConfigurationError: the path is something else.
        DataError: the data cannot be read.
    """
    choice = _choice(path, target)
    task = _make_task(choice, registry)
    count = task.size("train")
    batch = 16 if count < 500 else 64 if count < 20_000 else 128
    choice.settings["batch_size"] = batch
    choice.comments["batch_size"] = f"the train split has {count:,} samples"
    iterations = max(1, count // batch)
    supernet, final = _epochs(2000, iterations, 60), _epochs(1500, iterations, 40)
    table = len(task.input_shape) == 1
    space = _mlp(task.input_shape[0]) if table else _shufflenet(task.input_shape)
    training = "optimizer: adamw, learning_rate: 0.01" if table else "learning_rate: 0.1, warmup_epochs: 2"
    recalibration = "" if table else ", recalibration_images: 512"
    weights = "inherited" if table else "supernet_weights"
    cost, cost_words = ("params", "parameters") if table else ("flops", "multiply-adds")
    exports = "[safetensors, onnx]"
    sizes = ", ".join(f"{task.size(split):,} {split}" for split in ("train", "search", "test"))
    return "\n".join(
        [
            f"# Search a network for {path}. Written by `automl-nas init`; every value may be changed.",
            "#",
            "#     automl-nas plan THIS_FILE          how long it will take",
            "#     automl-nas run THIS_FILE --smoke   whether every stage and export works",
            "#     automl-nas run THIS_FILE",
            "seed: 0",
            "",
            f"# {_kind(task)}; samples: {sizes}.",
            "# Networks are compared on the search split; the test split is used once, for the final report.",
            *_section("task", choice.settings, choice.comments),
            "",
            *space,
            "",
            f"# The delivered network may have at most 80 % of the {cost_words} of the largest one.",
            "problem:",
            f'  constraints: {{{cost}: "<= 0.8 * largest"}}',
            "",
            "stages:",
            *_comment(
                f"One set of weights for all networks, trained for {supernet * iterations:,} iterations of {batch} "
                "samples. More epochs rank candidates better.",
                "  ",
            ),
            "  - name: supernet",
            f"    strategy: {{name: single_path, train: {{epochs: {supernet}, {training}}}}}",
            "  # 20 candidates in each of 5 generations, compared by their loss with these weights.",
            "  - name: search",
            "    strategy: {name: evolution, population: 20, generations: 5, top_k: 5}",
            f"    evaluator: {{name: {weights}, weights: supernet{recalibration}}}",
            "",
            *_comment(
                f"The best network is trained from scratch for {final * iterations:,} iterations, and tested once. To "
                "judge the search, the largest allowed and a random network are trained in the same way; without them, "
                "set baselines: []."
            ),
            "final:",
            f"  train: {{epochs: {final}, {training}}}",
            "  baselines: [largest, random]",
            f"  export: {exports}",
            "",
        ]
    )


def _choice(path: str, target: str | None) -> TaskChoice:
    if path == DIGITS and not Path(path).exists():
        if target is not None:
            raise ConfigurationError("only a table has columns; leave the target out", source="--target")
        return TaskChoice({"name": "digits"})
    place = Path(path).expanduser()
    if not place.exists():
        raise ConfigurationError(
            f"{path} does not exist; give a folder of images, a CSV file, an npz file, or no path for scikit-learn's "
            "digits"
        )
    if place.is_file() and place.suffix.lower() == ".csv":
        return _csv(path, place, target)
    if target is not None:
        raise ConfigurationError("only a table has columns; leave the target out", source="--target")
    if place.is_dir():
        return _folder(path, place)
    if place.suffix.lower() == ".npz":
        return _npz(path, place)
    raise ConfigurationError(
        f"{path} is neither a folder of images nor a CSV or npz file; docs/how_to/tasks.md describes tasks for other "
        "data"
    )


def _folder(path: str, place: Path) -> TaskChoice:
    files = [file for file in sorted(place.rglob("*")) if file.suffix.lower() in _SUFFIXES]
    if not files:
        raise DataError(f"{path} holds no images ({', '.join(_SUFFIXES)}); it needs a folder for each class")
    return _image_files(path, files)


def _image_files(path: str, files: Sequence[Path]) -> TaskChoice:
    step = max(1, len(files) // _LOOKED_AT)
    sides = _shorter_sides(files[::step][:_LOOKED_AT])
    settings: dict[str, Any] = {"name": "image_folder", "path": path}
    if not sides:
        return TaskChoice({**settings, "size": 32}, {"size": "the sizes of the files could not be read"})
    median = int(statistics.median(sides))
    size = max((side for side in _SIDES if side <= median), default=_SIDES[0])
    reason = f"pixels; the shorter side of the images is {min(sides)} to {max(sides)}, the median is {median}"
    if median > _SIDES[-1]:
        reason += ". Larger inputs show more and train more slowly"
    return TaskChoice({**settings, "size": size, "augment": "crop_flip"}, {"size": reason, "augment": _FLIP})


_FLIP = "mirrors images: set shift or none if left and right differ, as in writing"


def _shorter_sides(files: Sequence[Path]) -> list[int]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        return []
    sides = []
    for file in files:
        try:
            with Image.open(file) as image:
                sides.append(min(image.size))
        except (OSError, UnidentifiedImageError, ValueError):
            continue  # the task names broken files
    return sides


def _csv(path: str, place: Path, target: str | None) -> TaskChoice:
    try:
        with place.open(encoding="utf-8-sig", newline="") as file:
            sample = file.read(1 << 16)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a CSV file: {error}") from None
    header = sample.partition("\n")[0]
    separator = max(",;\t|", key=header.count) if any(mark in header for mark in ",;\t|") else ","
    rows = list(csv.reader(sample.splitlines(), delimiter=separator))
    if not rows or len(rows[0]) < 2:
        raise DataError(f"{path} needs a header with at least two columns")
    columns = rows[0]
    first = [place.parent / row[0] for row in rows[1:20] if row]
    if target is None and first and all(file.suffix.lower() in _SUFFIXES for file in first):
        return _image_files(path, [file for file in first if file.is_file()])
    if target is not None and target not in columns:
        raise ConfigurationError(f"{path} has no column '{target}'; it has {', '.join(columns)}", source="--target")
    chosen = target or next((name for name in columns if name.lower() in _TARGETS), columns[-1])
    settings = {"name": "csv", "path": path, "target": chosen}
    if separator != ",":
        settings["separator"] = separator
    reason = "the column to predict" if target else "the column to predict, a guess; other columns: "
    others = [name for name in columns if name != chosen]
    if not target:
        reason += ", ".join(others[:6]) + (" and others" if len(others) > 6 else "")
    return TaskChoice(settings, {"target": " ".join(reason.split())})


def _npz(path: str, place: Path) -> TaskChoice:
    try:
        with zipfile.ZipFile(place) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as an npz file: {error}") from None
    settings: dict[str, Any] = {"name": "npz", "path": path}
    comments: dict[str, str] = {}
    missing = []
    for setting, possible in _ARRAYS.items():
        name = next((name for name in possible if name in names), None)
        if name is None:
            missing.append(setting)
        elif name != setting:
            settings[setting] = name
    if "train_images" in missing or "train_labels" in missing:
        raise DataError(
            f"{path} holds the arrays {', '.join(names) or 'none'}; it needs train_images and train_labels (or x_train "
            "and y_train); for other names, set task.train_images and so on in a configuration of your own"
        )
    if missing:
        settings["test_fraction"] = 0.2
        comments["test_fraction"] = "the file has no test arrays, so images are held out"
    settings["augment"] = "crop_flip"
    comments["augment"] = _FLIP
    return TaskChoice(settings, comments)


def _make_task(choice: TaskChoice, registry: Registry) -> Task:
    """Construct the task; a table with missing values gets the setting that accepts them."""
    from automl_nas.plugin.component_errors import component_errors
    from automl_nas.run.configuration.components import Components

    components = Components(registry, {})

    def construct() -> Task:
        with component_errors(registry, path="task"):
            spec = components.resolve("tasks", choice.settings, "task")
            task: Task = components.construct("tasks", spec, [], 0, "task")
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
        choice.comments["missing"] = "some cells are empty: numbers get the mean and a feature that marks them"
        return task


def _kind(task: Task) -> str:
    shape = " x ".join(map(str, task.input_shape))
    inputs = f"{shape} features" if len(task.input_shape) == 1 else f"Images of {shape}"
    names = task.class_names
    classes = f", {len(names)} classes" if names else f", {task.num_classes} classes" if task.num_classes else ""
    return f"{inputs}{classes}; metrics: {', '.join(task.metrics)}"


def _epochs(iterations: int, per_epoch: int, most: int) -> int:
    return min(most, max(10, round(iterations / per_epoch)))


def _shufflenet(shape: Sequence[int]) -> list[str]:
    side = min(shape[1:])
    stem = 1 if side <= 32 else 2
    # Stages halve the image; at least 4 pixels remain.
    halvings = max(0, min(3, int(math.log2(max(side / stem, 1) / 4)))) if side >= 4 * stem else 0
    stages = max(2, halvings)
    strides = [1] * (stages - halvings) + [2] * halvings
    widths, repeats = [32, 64, 128][:stages], [4, 4, 4][:stages]
    return [
        *_comment(
            f"ShuffleNetV2: {4 * stages} blocks with 4 candidates each, so {4 ** (4 * stages):,} networks. The stem "
            f"has stride {stem} for images of {side} pixels, and {halvings} of {stages} stages halve them."
        ),
        "space:",
        "  name: shufflenet_v2",
        "  stem_channels: 16",
        f"  stem_stride: {stem}",
        f"  widths: {widths}",
        f"  repeats: {repeats}",
        f"  strides: {strides}",
        "  last_channels: 128",
    ]


def _mlp(features: int) -> list[str]:
    width = 32 if features <= 32 else 64
    hidden = [width // 2, width, 2 * width]
    return [
        *_comment(
            f"Residual perceptrons of width {width} for {features} features: for each of 3 blocks a hidden width or "
            "skip, and one activation."
        ),
        f"space: {{name: mlp, width: {width}, blocks: 3, hidden_widths: {hidden}}}",
    ]


def _section(name: str, settings: Mapping[str, Any], comments: Mapping[str, str]) -> list[str]:
    lines = [f"{name}:"]
    for key, value in settings.items():
        if key in comments:
            lines += _comment(f"{key}: {comments[key]}.", "  ")
        # JSON is YAML, except that strings may need no quotes.
        lines.append(f"  {key}: {json.dumps(value, ensure_ascii=False)}")
    return lines


def _comment(text: str, indent: str = "") -> list[str]:
    prefix = f"{indent}# "
    return textwrap.wrap(text, 110, initial_indent=prefix, subsequent_indent=prefix, break_long_words=False)
