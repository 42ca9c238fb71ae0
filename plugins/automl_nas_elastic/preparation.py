"""What `compress` computes before its run: limits relative to the original as numbers, and gradients."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from automl_nas.evaluation import CostModel, MeasuredCost, Runtime, Task
from automl_nas.plugin import Registry
from automl_nas.run import complete_manager
from automl_nas.streams import stream_seed
from automl_nas_elastic.space import ElasticSpace
from automl_nas_elastic.taylor import loss_products

_RELATIVE = re.compile(r"\s*(<=?|>=?)\s*([0-9.]+(?:e-?[0-9]+)?)\s*\*\s*largest\s*")


def prepared(raw: Mapping[str, Any], out: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return the configuration with limits as numbers, and with the gradients that the importance ``taylor`` needs.

    ``0.5 * largest`` becomes half of the cost of the original: a run would search for the most expensive network, which
    takes minutes for a model with many decisions. Gradients of a model with a name are computed on the task, and
    written to a file beside the run directory, or in a temporary folder.

    Args:
        raw: the configuration.
        out: the run directory; None: a temporary one.

    Raises:
        UserError: task or space cannot be constructed, or the model has no gradients.
    """
    done = dict(raw)
    limits = (raw.get("problem") or {}).get("constraints")
    relative = isinstance(limits, Mapping) and any(_RELATIVE.fullmatch(str(text)) for text in limits.values())
    space = raw["space"]
    named = isinstance(space, Mapping) and space.get("name") == "from_model"
    taylor = named and space.get("importance") == "taylor" and space.get("gradients") is None
    if not (taylor or (relative and (named or isinstance(space, ElasticSpace)))):
        return done
    registry, seed = complete_manager().registry, raw.get("seed", 0)
    task = raw["task"]
    if not isinstance(task, Task):
        task = registry.construct("tasks", task, seed=seed, path="task")
    if named:
        defaults: dict[str, Any] = {"input_shape": list(task.input_shape)}
        if task.num_classes is not None:
            defaults["num_classes"] = task.num_classes
        spec = {**defaults, **space, **({"importance": "l1"} if taylor else {})}
        space = registry.construct("spaces", spec, seed=stream_seed(seed, "space"), path="space")
    if relative:
        done["problem"] = {**raw["problem"], "constraints": _absolute(dict(limits or {}), space, registry)}
    if taylor:
        file = _gradients_file(out)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(loss_products(space.build(space.largest), task, Runtime(), seed=seed), file)
        done["space"] = {**raw["space"], "gradients": str(file)}
    return done


def _absolute(limits: Mapping[str, Any], space: ElasticSpace, registry: Registry) -> dict[str, Any]:
    """Return the limits with the costs of the original; measured costs and those with settings stay as they are."""
    done = dict(limits)
    for cost, text in limits.items():
        match = _RELATIVE.fullmatch(str(text))
        if match is None or cost not in registry.names("cost_models"):
            continue
        factory = registry.get("cost_models", cost).load()
        if not isinstance(factory, type) or issubclass(factory, MeasuredCost):
            continue
        model: CostModel = registry.construct("cost_models", cost, [space])
        done[cost] = f"{match[1]} {float(match[2]) * model.estimate(space.largest):.10g}"
    return done


def _gradients_file(out: str | os.PathLike[str] | None) -> Path:
    if out is None:
        return Path(tempfile.mkdtemp(prefix="automl_nas-")) / "gradients.safetensors"
    folder = Path(out).absolute()
    return folder.with_name(f"{folder.name}-gradients.safetensors")
