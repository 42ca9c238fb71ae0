"""The model card of a package, ``README.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from automl_nas.evaluation import Delivery
from automl_nas_export.package.interface import Interface

TEMPLATES = Path(__file__).parent / "templates"

NO_LICENCE = (
    "No licence was stated for the weights: ask whoever trained them before passing them on. The terms of the training "
    "data apply as well. `infer.py` and `network.py` were generated and may be used and changed freely."
)

_KINDS = {
    "classes": "{} for each class on axis 1; the largest one is the predicted class.",
    "labels": "{} for each label on axis 1; a label applies where the probability is at least 0.5.",
    "numbers": "The predicted numbers.",
    "other": "The task does not describe what they mean.",
}


def card(
    delivery: Delivery,
    interface: Interface,
    files: Mapping[str, str],
    reason: str | None,
    checks: Sequence[str],
    licence: str,
) -> str:
    """Return the model card, Markdown.

    Args:
        delivery: of the network.
        interface: of the package.
        files: name -> what it is.
        reason: why there is no source; None: there is.
        checks: what was compared, a sentence each.
        licence: of the weights; empty: not stated.
    """
    description = delivery.description
    content = interface.to_json()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    text = environment.get_template("README.md.j2").render(
        title=f"{_task_name(description)}: a network to hand over",
        summary="A trained network for inference, with all that is needed to use it.",
        example={"image": "image.png", "table": "rows.csv", "array": "inputs.npy"}[interface.input["kind"]],
        files=files,
        source_reason=reason,
        shape=interface.input["shape"],
        dtype=interface.input["dtype"],
        input_text=_input_text(interface.input),
        output_text=_output_text(content["output"]),
        baked=content["baked"],
        class_names=interface.output["class_names"],
        test=description.get("test"),
        intervals=description.get("test_interval") or {},
        costs=costs(description),
        conversions=delivery.conversions,
        shown=_shown,
        framework=description.get("framework", "automl_nas"),
        environment=description.get("environment") or {},
        runtime=description.get("runtime"),
        architecture=delivery.architecture.to_dict(),
        checks=checks,
        licence=licence or NO_LICENCE,
    )
    return text.strip() + "\n"


def costs(description: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return for each cost its value with the unit, and how it was measured, in words."""
    units, measured = description.get("units") or {}, description.get("measured") or {}
    table = {}
    for name, value in (description.get("costs") or {}).items():
        unit, how = units.get(name, ""), "value of the cost model for the architecture"
        if name in measured:
            entry = measured[name]
            value = entry["value"]
            conditions = ", ".join(f"{key} {item}" for key, item in _scalars(entry.get("details") or {}))
            how = (
                f"measured with fresh weights, {entry['confidence']:.0%} interval {entry['low']:.4g} to "
                f"{entry['high']:.4g}; {conditions or 'conditions were not recorded'}"
            )
        shown = "unknown" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
        table[name] = {"value": f"{shown} {unit}".strip(), "how": how.replace("|", "/")}
    return table


def _scalars(details: Mapping[str, Any], before: str = "") -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = []
    for key, value in details.items():
        if isinstance(value, Mapping):
            pairs += _scalars(value, f"{before}{key}.")
        elif isinstance(value, str | int | float | bool):
            pairs.append((before + key, value))
    return pairs


def _shown(value: float, interval: tuple[float, float] | None) -> str:
    text = f"{value:,.0f}" if float(value).is_integer() else f"{value:.6g}"
    return text if interval is None else f"{text} (95 % interval {interval[0]:.6g} to {interval[1]:.6g})"


def _task_name(description: Mapping[str, Any]) -> str:
    task = description.get("task")
    name = task.get("name") if isinstance(task, Mapping) else None
    return str(name).rpartition(":")[2] if name else "Network"


def _input_text(rule: Mapping[str, Any]) -> str:
    if rule["kind"] == "image":
        size = " x ".join(map(str, rule["size"]))
        return (
            f"Images, {rule['channels']}, {size} (height x width), resize policy `{rule['resize']}`. Pixels from 0 to "
            f"255 are scaled to {rule['value_range']}, then `(value - mean) / std` with mean {rule['mean']} and std "
            f"{rule['std']}. Layout {rule['layout']}. Images are turned as their EXIF orientation says; the colour "
            f"{rule['background']} is behind transparent pixels.{_size_text(rule)}"
        )
    if rule["kind"] == "table":
        columns = ", ".join(f"`{each['column']}`" for each in rule["features"])
        return f"Computed from the columns {columns}; `preprocessing.json` has the rule of each."
    return "Arrays as the task has them; how they are computed from raw data is not described."


def _size_text(rule: Mapping[str, Any]) -> str:
    if not rule.get("dynamic_size"):
        return ""
    return (
        " `model.onnx` and `model.pt2` also accept other heights and widths (`infer.py --size HEIGHT WIDTH`); quality "
        "was measured at the size above only."
    )


def _output_text(output: Mapping[str, Any]) -> str:
    what = "A logit (not a probability)" if output["logits"] else "A probability"
    text = _KINDS[output["kind"]].format(what)
    if output.get("target_scale"):
        text += " Outputs are standardised: the number is `output * deviation + mean`, as `infer.py` computes it."
    return text
