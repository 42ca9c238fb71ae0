"""Evidence in runs: scores with the weights of an earlier stage, also behind another strategy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import automl_nas
from automl_nas.errors import ConfigurationError

EVIDENCE = [{"name": "supernet_weights", "recalibration_images": 0}]
CONFIG: dict[str, Any] = {
    "seed": 3,
    "space": {
        "name": "shufflenet_v2",
        "stem_channels": 8,
        "stem_stride": 1,
        "widths": [16],
        "repeats": [2],
        "strides": [2],
        "last_channels": 8,
    },
    "task": {"name": "digits", "batch_size": 128},
    "problem": {"objectives": {"loss": "minimize"}},
    "runtime": {"threads": 1, "device": "cpu"},
    "stages": [
        {"name": "supernet", "strategy": {"name": "single_path", "train": {"epochs": 1}}},
        {
            "name": "search",
            "strategy": {"name": "surrogate", "evidence": EVIDENCE, "pool": 4, "screened": 1, "initial": 2},
            "evaluator": EVIDENCE[0],
            "budget": {"trials": 3},
        },
    ],
    "final": None,
    "check_networks": 0,
}


def complete(run: Path) -> list[dict[str, Any]]:
    """Return the records of complete trials."""
    lines = (run / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record.get("state") == "complete"]


@pytest.mark.slow
def test_scores_of_a_supernet_are_evidence(tmp_path: Path) -> None:
    """The evaluator is the evidence here, so both numbers of a trial are equal, and the first is the best of four."""
    automl_nas.search(CONFIG, out=tmp_path / "run")
    trials = complete(tmp_path / "run")
    assert len(trials) == 3
    for trial in trials:
        assert trial["info"]["evidence"] == {"loss": trial["metrics"]["loss"]}
    assert [trial["info"]["origin"] for trial in trials] == ["evidence", "evidence", "model"]
    assert trials[0]["metrics"]["loss"] <= trials[1]["metrics"]["loss"]
    assert trials[2]["info"]["weights"].keys() == {"loss"}


@pytest.mark.slow
def test_behind_another_strategy_it_is_constructed_when_the_weights_exist(tmp_path: Path) -> None:
    model = CONFIG["stages"][1]["strategy"]
    stages = [CONFIG["stages"][0], {**CONFIG["stages"][1], "strategy": {"name": "deduplicate", "strategy": model}}]
    automl_nas.search({**CONFIG, "stages": stages}, out=tmp_path / "run")
    assert len(complete(tmp_path / "run")) == 3


def test_numbers_are_checked_before_the_supernet_is_trained(tmp_path: Path) -> None:
    model = {"name": "surrogate", "evidence": EVIDENCE, "pool": 1}
    stages = [CONFIG["stages"][0], {**CONFIG["stages"][1], "strategy": model}]
    with pytest.raises(ConfigurationError, match=r"stages\[1\].strategy.pool: .* at least 2, not 1"):
        automl_nas.search({**CONFIG, "stages": stages}, out=tmp_path / "run")
    assert not (tmp_path / "run" / "artifacts").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "zero_cost", "proxies": ["nwot"], "images": 5000}, r"evidence\[1\]\.images: the training split has"),
        ({"name": "train", "report_epochs": 0}, r"evidence\[1\]\.report_epochs: .* at least 1"),
    ],
)
def test_evidence_is_checked_before_the_supernet_is_trained(settings: Any, said: str, tmp_path: Path) -> None:
    model = {"name": "surrogate", "evidence": [*EVIDENCE, settings], "pool": 4}
    for strategy, place in ((model, "strategy"), ({"name": "deduplicate", "strategy": model}, "strategy.strategy")):
        stages = [CONFIG["stages"][0], {**CONFIG["stages"][1], "strategy": strategy}]
        with pytest.raises(ConfigurationError, match=rf"stages\[1\]\.{place}\.{said}"):
            automl_nas.search({**CONFIG, "stages": stages}, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_evidence_that_needs_a_task_is_refused_without_one() -> None:
    evidence = [{"name": "zero_cost", "proxies": ["nwot"]}]
    stage = {**CONFIG["stages"][1], "strategy": {"name": "surrogate", "evidence": evidence}}
    with pytest.raises(ConfigurationError, match=r"evidence\[0\]: 'zero_cost' needs a Task, which this run does not"):
        automl_nas.search({**CONFIG, "task": None, "stages": [stage]})
