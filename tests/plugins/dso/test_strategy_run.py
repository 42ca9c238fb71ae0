"""A search in a real run: killed and resumed, with its artifacts, files and final network."""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from end_to_end.runs import in_child, kill_at, progress, record

import automl_nas
from automl_nas.errors import ConfigurationError
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.record.artifacts import load_weights
from automl_nas.space.selection import Weighted
from automl_nas_dso.space import DsoSpace

SPACE: dict[str, Any] = {"blocks": [1, 1], "width": 4, "levels": 2, "operations": ["sep3", "max3"], "sharing": "full"}
CONFIG: dict[str, Any] = {
    "seed": 1,
    "task": {"name": "digits", "batch_size": 128, "search_fraction": 0.5},
    "space": {"name": "dso", **SPACE},
    "runtime": {"device": "cpu", "threads": 1},
    "stages": [
        {
            "name": "search",
            "strategy": {
                "name": "dso",
                "train": {"epochs": 5, "learning_rate": 0.1, "schedule": "constant"},
                "pretrain_epochs": 1,
                "prune_epochs": 1,
                "gamma": 0.07,
                "lambda_learning_rate": 0.5,
                "lambda_momentum": 0.5,
                "iterations_per_step": 3,
            },
        }
    ],
    "final": {"space": {"variant": "final"}, "train": {"epochs": 1}},
    "checkpoint_seconds": 0.0,
}


def preload() -> None:
    """Import what a run needs, so that forked processes begin with it."""
    import automl_nas.run.session  # noqa: F401

    plan = make_plan(CONFIG, complete_manager().registry)
    plan.components.factory("strategies", "dso", "")
    plan.components.factory("exporters", "safetensors", "")
    torch.optim.SGD([torch.zeros(1)])  # the first optimiser of a process imports the compiler


def run(out: Path) -> None:
    automl_nas.search(CONFIG, out=out, resume=True)


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        # 4 epochs of 5 full batches: 718 images of 1,437 are for the weights.
        ("strategy", {"gamma": 1e-3}, r"stages\[0\].strategy.gamma: 0.001 is too small: in the 20 steps of lambda"),
        ("strategy", {"gamma_schedule": "adaptive_latency"}, r"stages\[0\].strategy.latency: the problem has no cost"),
        (
            "strategy",
            {"weight_steps": 21},
            r"stages\[0\].strategy.weight_steps: lambda would have no step.* 20 iterations",
        ),
        ("task", {"search_fraction": 0.05}, r"task.batch_size: the split 'search' \(72 samples\) has no full batch"),
        ("space", {"name": "nasbench201"}, r"dso searches edges, but the decision '.*' is a Choice"),
    ],
)
def test_what_cannot_work_is_said_before_there_is_a_run(
    section: str, changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copy.deepcopy(CONFIG)
    if section == "space":
        config |= {"space": changes, "final": None}
    else:
        place = config["stages"][0] if section == "strategy" else config
        place[section] |= changes
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for out in (tmp_path / "run", None):
        with pytest.raises(ConfigurationError, match=message):
            automl_nas.search(config, out=out)
        assert not list(tmp_path.iterdir())


def test_a_penalty_that_would_do_does(tmp_path: Path) -> None:
    """The penalty that the message names is accepted, and one a little smaller than the least is not."""
    registry = complete_manager().registry

    def refused(gamma: float) -> str:
        config = copy.deepcopy(CONFIG)
        config["stages"][0]["strategy"]["gamma"] = gamma
        try:
            make_plan(config, registry)
        except ConfigurationError as error:
            return str(error)
        return ""

    least, better = re.findall(r"at least (\S+), better (\S+) ", refused(1e-3))[0]
    assert not refused(float(better))
    assert not refused(1.05 * float(least))
    assert refused(0.95 * float(least))


@pytest.mark.slow
@pytest.mark.process
def test_killed_on_the_way_it_ends_the_same(tmp_path: Path) -> None:
    """In phase 2, while edges are removed, and when the trial is made."""
    preload()
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    pid = in_child(partial(run, whole))
    assert os.waitpid(pid, 0)[1] == 0
    length = progress(whole)
    assert kill_at(partial(run, killed), killed, [length // 2, length - 4], seed=1) == 2
    assert record(killed) == record(whole)

    lines = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    live = [line["live_edges"] for line in lines if "live_edges" in line]
    assert len(live) == 4
    (trial,) = record(whole)["trials"]
    assert 0 < trial["info"]["live_edges"] < live[0]

    # The file for people says what the ledger says, and the artifacts are the network.
    for folder in (whole, killed):
        result = json.loads((folder / "lambda" / "search.json").read_text())
        assert result["lambda"] == trial["info"]["lambda"]
        assert (result["trial"], result["live_edges"], result["edges"]) == (0, trial["info"]["live_edges"], 24)
        drawn = sorted(path.name for path in (folder / "lambda").iterdir())
        assert drawn == ["search-stage1.block1.svg", "search-stage2.block1.svg", "search.json"]
        edges = (folder / "lambda" / "search-stage1.block1.svg").read_text().count('class="edge"')
        assert edges == sum(len(sources) for name, sources in trial["architecture"].items() if "stage1" in name)
    space = DsoSpace(**{**SPACE, "input_shape": (1, 8, 8)})
    architecture = space.validate(trial["architecture"])
    supernet = space.build_supernet().eval()
    supernet.load_state_dict(load_weights(whole / "artifacts" / "search" / "weights.safetensors"))
    scales = load_weights(whole / "artifacts" / "search" / "lambda.safetensors")
    selection = {}
    for name, decision in space.decisions.items():
        sources = architecture[name]
        assert isinstance(sources, tuple)
        weights = scales[name][[decision.position(source) for source in sources]]
        assert dict(zip(sources, weights.tolist(), strict=True)) == result["lambda"].get(name, {})
        selection[name] = Weighted(sources, weights)
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network = supernet.extract(selection)
    # Lambda is multiplied into the projection's weights when it is extracted.
    torch.testing.assert_close(network(x), supernet(x, selection), rtol=1e-5, atol=1e-6)
    assert record(whole)["result"]["final"]["networks"][0]["role"] == "found"
