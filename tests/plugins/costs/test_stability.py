"""An unsteady machine is logged once in a search, again when it gets worse, and counted at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import automl_nas
from automl_nas.space.space import SearchSpace
from automl_nas_costs import search_finished
from automl_nas_costs.latency import session
from automl_nas_costs.latency.model import LatencyMs
from automl_nas_costs.latency.stability import SessionStats, log_totals

Wrap = Callable[..., SearchSpace]


@pytest.fixture
def drifts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The drift of the control in the next sessions, the last one repeated; nothing is measured."""
    shares: list[float] = []

    def measured(
        models: Sequence[bytes], control: bytes, options: Mapping[str, Any], seeds: Sequence[int]
    ) -> dict[str, Any]:
        drift = shares.pop(0) if len(shares) > 1 else shares[0]
        one = {"value": 1.0, "low": 0.9, "high": 1.1, "confidence": 0.95, "rounds": [1.0] * 5}
        return {
            "control": {"value": 1.0, "drift": drift, "rounds": [1.0] * 5},
            "steady": drift <= 0.05,
            "environment": {"processor": "none", "runtime": "none", "provider": "CPUExecutionProvider"},
            "models": [one for _ in models],
        }

    monkeypatch.setattr(session, "measure_models", measured)
    return shares


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    return warnings


def test_candidates_are_told_apart_and_the_same_news_is_not_told_twice(
    wrap: Wrap, drifts: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    log_totals()  # what other tests measured
    caplog.clear()
    space = wrap((3,), *(lambda n=n: nn.Linear(3, n + 1) for n in range(6)))
    model = LatencyMs(space, cache=None)
    drifts += [0.01, 0.06, 0.09, 0.03, 0.3, 0.21]
    networks = [space.validate({"network": number}) for number in range(6)]
    for network in networks:
        model.estimate(network)
    first, worse = said(caplog)
    assert "moved by 6 %" in first
    assert "moved by 30 %" in worse  # 21 % is of the same class, 20 to 40 %
    # Each measurement has its own notes.
    notes = [bool(model.measurement(network).details["notes"]) for network in networks]
    assert notes == [False, True, True, False, True, True]
    search_finished(None, None)
    (total,) = said(caplog)
    assert "not steady in 4 of 6 measurements of candidates" in total
    assert "by up to 30 %" in total
    search_finished(None, None)
    assert not said(caplog)
    # Sessions without statistics log their own warnings.
    for _ in range(2):
        model.measure([nn.Linear(3, 2)], (3,))
    assert len(said(caplog)) == 2


def test_a_steady_machine_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    stats = SessionStats()
    stats.record(0.02, [])
    assert stats.close() == ""
    assert not said(caplog)


def test_a_search_says_it_once_and_counts(
    drifts: list[float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log_totals()
    drifts += [0.08]
    space = {"name": "shufflenet_v2", "input_shape": [3, 32, 32], "widths": [20, 40], "repeats": [2, 2]}
    raw = {
        "space": {**space, "strides": [2, 2], "stem_stride": 1, "last_channels": 16, "num_classes": 3},
        "problem": {
            "objectives": {"latency_ms": "minimize"},
            "costs": {"latency_ms": {"name": "latency_ms", "cache": None}},
        },
        "stages": [{"name": "search", "strategy": "random", "budget": {"trials": 5}}],
        "final": None,
    }
    automl_nas.search(raw, out=tmp_path / "run")
    first, total = (line for line in said(caplog) if "not steady" in line)
    assert "moved by 8 %" in first
    assert "in 5 of 5 measurements of candidates" in total
