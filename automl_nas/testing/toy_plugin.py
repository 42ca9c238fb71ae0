"""The toys as a plugin, for tests whose configurations hold names only: those with processes of their own.

It is no installed plugin. A test loads it with ``PluginManager.register_module``, and `installed_toys` lets other
processes find it. It registers the spaces ``toy`` and ``suspects``, the evaluators ``toy``, ``suspects`` and ``diary``,
the strategy ``drawn`` and the cost model ``toy_cost``.
"""

from __future__ import annotations

import os
from pathlib import Path

from automl_nas.plugin.api import Register, hookimpl


@hookimpl
def register_spaces(register: Register) -> None:
    """Register the spaces."""
    register("toy", "automl_nas.testing.toys:ToySpace", summary="a few choices of a kernel size")
    register("suspects", "automl_nas.testing.failing_candidates:failing_space", summary="candidates of every fate")


@hookimpl
def register_strategies(register: Register) -> None:
    """Register the strategy."""
    register(
        "drawn", "automl_nas.testing.failing_candidates:RandomProposals", summary="drawn at random, whatever it is told"
    )


@hookimpl
def register_evaluators(register: Register) -> None:
    """Register the evaluators."""
    register("toy", "automl_nas.testing.toys:ToyEvaluator", summary="a closed form")
    register(
        "suspects", "automl_nas.testing.failing_candidates:FailingEvaluator", summary="fails, prunes and takes its time"
    )
    register("diary", "automl_nas.testing.event_log:LoggingEvaluator", summary="sleeps, and writes down when")


@hookimpl
def register_cost_models(register: Register) -> None:
    """Register the cost model."""
    register("toy_cost", "automl_nas.testing.toys:ToyCost", summary="the sum of the numbers of options")


def installed_toys(folder: Path, *others: str) -> dict[str, str]:
    """Make this plugin one that is installed; return the environment of processes that find it.

    Args:
        folder: takes the metadata of a distribution.
        others: the plugins that these processes load beside it, by name.
    """
    info = folder / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[automl_nas]\ntoys = {__name__}\n")
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "AUTOML_NAS_PLUGINS": ",".join(("toys", *others))}
