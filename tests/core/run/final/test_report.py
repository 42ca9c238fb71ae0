"""The report of the final stage: its JSON, and what follows from its values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from automl_nas.evaluation.costs.measured import Measurement
from automl_nas.run.final.delivered import LimitCheck
from automl_nas.run.final.report import BaselineComparison, FinalReport
from automl_nas.run.shortcomings import no_feasible_network
from automl_nas.space import Architecture
from automl_nas.strategy import Trial
from automl_nas.strategy.trial import State

MEASUREMENT = {"value": 4.0, "low": 3.9, "high": 4.1, "confidence": 0.95, "details": {"rounds": 5}}
SECTION: dict[str, Any] = {
    "metric": "accuracy",
    "chosen": 1,
    "networks": [
        {
            "role": "found",
            "trial": 3,
            "seed": 0,
            "architecture": {"a": 1, "edges": [0, 2]},
            "costs": {"ms": 4.0},
            "failed": "the training loss became nan",
        },
        {
            "role": "found",
            "trial": 5,
            "seed": 0,
            "architecture": {"a": 2, "edges": [1]},
            "costs": {"ms": 4.0},
            "space": {"name": "sized", "width": 7},
            "measured": {"ms": MEASUREMENT},
            "search": {"accuracy": 0.8},
            "test": {"accuracy": 0.75, "loss": 0.5},
            "test_interval": {"accuracy": [0.7, 0.8]},
        },
        {
            "role": "random",
            "trial": None,
            "seed": 0,
            "architecture": {"a": 0, "edges": []},
            "costs": {"ms": 3.0},
            "test": {"accuracy": 0.5},
            "test_interval": {},
        },
    ],
    "comparison": [
        {"with": "random", "network": 2, "difference": 0.25},
        {"with": "random", "network": 2, "difference": 0.25, "interval": [0.1, 0.4], "exceeds_noise": True},
    ],
    "settings": {"seeds": 1, "train": {"epochs": 1}},
    "files": ["export/model.safetensors"],
    "not_exported": [{"format": "onnx", "error": "it branches on values"}],
    "budget": [
        {
            "cost": "ms",
            "unit": "ms",
            "limit": "<= 4",
            "predicted": 4.0,
            "measured": MEASUREMENT,
            "exported": None,
            "margin": -0.025,
            "met": False,
        }
    ],
}


def test_the_json_of_a_report_is_what_was_read() -> None:
    """Also the order of the keys, so that result.json stays the same, byte by byte."""
    report = FinalReport.from_json(SECTION)
    assert json.dumps(report.to_json()) == json.dumps(SECTION)
    assert FinalReport.from_json(report.to_json()) == report
    assert report.delivered.architecture == Architecture({"a": 2, "edges": [1]})
    assert report.delivered.measured == {"ms": Measurement(4.0, 3.9, 4.1, details={"rounds": 5})}
    assert report.missed_limits == (
        LimitCheck("ms", "ms", "<= 4", 4.0, Measurement(**MEASUREMENT), None, -0.025, False),
    )


def test_a_report_of_an_earlier_version_can_be_read() -> None:
    section = {key: value for key, value in SECTION.items() if key not in ("budget", "not_exported")}
    report = FinalReport.from_json(section)
    assert report.limits == () and report.not_exported == ()


@pytest.mark.parametrize(
    ("interval", "exceeds"), [(None, None), ((0.1, 0.4), True), ((-0.4, -0.1), True), ((-0.1, 0.4), False)]
)
def test_a_difference_exceeds_the_noise_if_its_interval_excludes_zero(
    interval: tuple[float, float] | None, exceeds: bool | None
) -> None:
    assert BaselineComparison("random", 2, 0.1, interval).exceeds_noise is exceeds


def test_the_reason_for_no_feasible_network_names_what_is_missed() -> None:
    architecture = Architecture({"a": 1})
    far, near = (Trial(n, architecture, violations={"ms <= 4": value}) for n, value in ((0, 0.5), (1, 0.25)))
    failed = Trial(2, architecture, state=State.FAILED, error="out of memory")
    assert "made no trials" in no_feasible_network("search", [])
    assert "no complete trial (1 recorded)" in no_feasible_network("search", [failed])
    assert "out of memory" in no_feasible_network("search", [failed])
    assert "(trial 1) misses ms <= 4 by 25.0%" in no_feasible_network("search", [far, near, failed])
