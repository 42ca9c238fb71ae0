"""Metrics that are not defined on a split: refused before a run where its size tells, else left out with a warning."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl_nas import ModuleSpace, OneOf, TensorTask, open_run, search
from automl_nas.cli.summary import summary
from automl_nas.errors import DataError
from automl_nas.plugin.events import WarningSent

STAGES = [
    {
        "name": "search",
        "strategy": "random",
        "evaluator": {"name": "train", "train": {"epochs": 1}},
        "budget": {"trials": 2},
    }
]


def task(metrics: Any, count: int = 40, **settings: Any) -> TensorTask:
    x = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return TensorTask(x, x[:, :1], loss="mse", metrics=metrics, batch_size=4, **settings)


def space() -> ModuleSpace:
    return ModuleSpace(
        lambda: nn.Sequential(nn.Linear(3, 4), OneOf([nn.ReLU(), nn.Tanh()]), nn.Linear(4, 1)), input_shape=(3,)
    )


@pytest.mark.parametrize("split", ["test", "search"])
def test_r2_of_one_sample_is_refused_before_the_run(split: str, tmp_path: Path) -> None:
    fractions = {"test_fraction": 0.2, "search_fraction": 0.2} | {f"{split}_fraction": 1 / 40}
    with pytest.raises(DataError, match=f"'r2' needs at least 2 samples, and the split '{split}' has 1"):
        task(["rmse", "r2"], **fractions)
    task(["rmse", "mae"], **fractions)
    task(["rmse", "r2"], test_fraction=2 / 40)


@pytest.mark.parametrize("data", ["train", "train+search"])
@pytest.mark.parametrize("main", ["odd", "rmse"])
def test_a_run_is_complete_without_the_metric(main: str, data: str, tmp_path: Path) -> None:
    """The metric is NaN in the final stage only: of the split ``test``, and after trials that had numbers."""
    calls: list[int] = []

    def odd(outputs: Tensor, _targets: Tensor) -> float:
        calls.append(len(outputs))
        return math.nan if len(calls) > 3 else 1.0  # the check before the run, and two trials

    metrics: list[Any] = [{"odd": (odd, "maximize")}, "rmse"]
    warnings: list[str] = []
    result = search(
        task=task(metrics if main == "odd" else metrics[::-1]),
        space=space(),
        stages=STAGES,
        final={"train": {"epochs": 1}, "baselines": ["random"], "data": data, "top_k": 2 if data == "train" else 1},
        out=tmp_path / "run",
        progress="none",
        handlers={WarningSent: lambda event: warnings.append(event.text)},
    )
    assert len(calls) > 3
    assert result.metrics.keys() == {"rmse", "loss"}
    assert any("the test metric 'odd' is nan" in text for text in warnings)
    assert result.final is not None and len(result.final.comparisons) == (main == "rmse")
    assert (tmp_path / "run" / "export" / "model.safetensors").exists()
    text = (tmp_path / "run" / "result.json").read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    again = open_run(tmp_path / "run")
    assert again.metrics == result.metrics and again.final == result.final
    assert ("not defined" in "\n".join(summary(tmp_path / "run", again.data))) == (main == "odd")
