"""Checks before a run of what a task says about itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import get_args

from automl_nas.errors import PluginError
from automl_nas.evaluation.task import Direction, Task


def check_task(task: Task, path: str) -> None:
    """Check the metrics of a task, and that its batches can begin in the middle of an epoch.

    A direction that is neither of the two would be taken for the other one where networks are compared.

    Args:
        task: that was constructed.
        path: of the task in the configuration.

    Raises:
        PluginError: ``metrics`` is empty or something else than a mapping, or has another direction; or `Task.batches`
            has no ``start``.
    """
    metrics: object = task.metrics
    owner, way_out = f"{path}: {type(task).__name__}", 'it must be {name: "maximize" or "minimize"}, at least one'
    if not isinstance(metrics, Mapping):
        raise PluginError(f"{owner}.metrics is {metrics!r:.300}, a {type(metrics).__name__}; {way_out}")
    if not metrics:
        raise PluginError(f"{owner}.metrics is empty; {way_out}")
    for name, direction in metrics.items():
        if not isinstance(name, str) or direction not in get_args(Direction):
            raise PluginError(f"{owner}.metrics has the direction {direction!r} for {name!r}; {way_out}")
    signature = inspect.signature(task.batches)
    try:
        signature.bind("train", 0, 0, 0)
    except TypeError:
        raise PluginError(
            f"{owner}.batches{signature} cannot be called as batches(split, epoch, seed, start); a run that is resumed "
            "in the middle of an epoch begins with batch number start"
        ) from None
