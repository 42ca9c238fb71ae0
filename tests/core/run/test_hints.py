"""The command that continues a run, or exports its network, works as printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from automl_nas.run.hints import way_to_export, way_to_resume

SPACE, OWN = {"name": "toy"}, {"name": "python:my_module:Space"}
SAMPLER = {"name": "optuna", "sampler": {"name": "my_package.samplers:Sampler", "settings": {}}}


def config(**sections: Any) -> dict[str, Any]:
    return {"space": SPACE, "task": {"name": "npz", "path": "C:data.npz"}, "final": {"space": SPACE}, **sections}


@pytest.mark.parametrize(
    ("sections", "resume", "export"),
    [
        ({}, "automl-nas resume 'my run'", "automl-nas export 'my run' --format NAME"),
        (
            {"stages": [{"name": "search", "strategy": SAMPLER}]},
            "automl-nas resume 'my run' --trust",
            "automl-nas export 'my run' --format NAME",  # which needs no strategy
        ),
        (
            {"space": OWN, "final": {"space": OWN}},
            "automl_nas.search(..., out='my run', resume=True) in Python, with the objects of the run",
            "automl-nas export 'my run' --format NAME --space module:function --trust",
        ),
        (
            {"space": OWN, "task": OWN, "final": {}},
            "automl_nas.search(..., out='my run', resume=True) in Python, with the objects of the run",
            "automl-nas export 'my run' --format NAME --space module:function --task module:function --trust",
        ),
        (
            {"stages": [{"name": "search", "strategy": "random", "evaluator": OWN}]},
            "automl_nas.search(..., out='my run', resume=True) in Python, with the objects of the run",
            "automl-nas export 'my run' --format NAME",
        ),
    ],
)
def test_the_hint_has_what_the_run_needs(sections: dict[str, Any], resume: str, export: str) -> None:
    assert way_to_resume(Path("my run"), config(**sections)) == resume
    assert way_to_export(Path("my run"), config(**sections)) == export
