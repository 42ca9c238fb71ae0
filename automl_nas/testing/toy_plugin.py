"""The toys as a plugin, for tests with configurations that hold only names, such as tests with several processes.

The plugin is not installed. A test loads it with ``PluginManager.register_module``; `installed_toys` makes it available
in other processes. It registers the spaces ``toy`` and ``failing``, the evaluators ``toy``, ``failing``,
``curves`` and ``event_log``, the strategy ``random_proposals`` and the cost model ``toy_cost``.
"""

from __future__ import annotations

import os
from pathlib import Path

from automl_nas.plugin.api import Register, hookimpl


@hookimpl
def register_spaces(register: Register) -> None:
    """Register the spaces."""
    register("toy", "automl_nas.testing.toys:ToySpace", summary="a few choices of a kernel size")
    register(
        "failing", "automl_nas.testing.failing_candidates:failing_space", summary="candidates that fail or are slow"
    )


@hookimpl
def register_strategies(register: Register) -> None:
    """Register the strategy."""
    register(
        "random_proposals",
        "automl_nas.testing.failing_candidates:RandomProposals",
        summary="random architectures, which do not depend on the trials",
    )


@hookimpl
def register_evaluators(register: Register) -> None:
    """Register the evaluators."""
    register("toy", "automl_nas.testing.toys:ToyEvaluator", summary="an accuracy in closed form")
    register("failing", "automl_nas.testing.failing_candidates:FailingEvaluator", summary="fails, prunes or takes long")
    register("curves", "automl_nas.testing.toy_curves:ToyCurves", summary="learning curves in closed form")
    register("event_log", "automl_nas.testing.event_log:LoggingEvaluator", summary="sleeps, and logs begin and end")


@hookimpl
def register_cost_models(register: Register) -> None:
    """Register the cost model."""
    register("toy_cost", "automl_nas.testing.toys:ToyCost", summary="the sum of the numbers of options")


def installed_toys(folder: Path, *others: str) -> dict[str, str]:
    """Write the metadata of a distribution with this plugin; return the environment for processes that load it.

    Args:
        folder: the folder for the metadata.
        others: the names of other plugins that these processes load.
    """
    info = folder / "toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[automl_nas]\ntoys = {__name__}\n")
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "AUTOML_NAS_PLUGINS": ",".join(("toys", *others))}
