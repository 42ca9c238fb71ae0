"""A run that exports a package, and the command that exports it later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

import automl_nas
from automl_nas.errors import RunDirectoryError

rng = np.random.default_rng(0)


class Network(nn.Module):
    """torch.fx cannot record a condition on a shape, torch.export can."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = automl_nas.OneOf([nn.Linear(4, 4), nn.Identity()], name="hidden")
        self.classify = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.hidden(x)) if x.shape[-1] == 4 else x


@pytest.mark.process
@pytest.mark.slow
def test_a_run_and_the_command(tmp_path: Path) -> None:
    x = rng.normal(size=(60, 4)).astype(np.float32)
    parts: dict[str, Any] = {
        "task": automl_nas.TensorTask(x, (x[:, 0] > 0).astype(int), batch_size=8, class_names=["low", "high"]),
        "space": automl_nas.ModuleSpace(Network, input_shape=(4,)),
    }
    result = automl_nas.search(
        **parts,
        stages=[{"name": "search", "strategy": "random", "budget": {"trials": 1}, "evaluator": {
            "name": "train", "train": {"epochs": 1}}}],
        problem={"costs": ["params"]},
        final={"train": {"epochs": 1}, "export": ["package"], "rehearse": False},
        runtime={"device": "cpu", "threads": 1},
        out=tmp_path / "run",
    )  # fmt: skip
    final = result.final
    assert final is not None
    assert not final.not_exported
    (note,) = final.export_notes
    assert "the package has no network.py: torch.fx cannot record the forward of the network: Network" in note
    assert json.loads((tmp_path / "run" / "result.json").read_text())["final"]["export_notes"] == [note]
    folder = tmp_path / "run" / "export" / "package"
    summary = json.loads((folder / "package.json").read_text())
    assert summary["description"]["test"] == dict(result.metrics)
    assert summary["costs"]["params"]["value"].endswith("parameters")
    assert summary["description"]["runtime"]["threads"] == 1
    assert summary["interface"]["output"]["class_names"] == ["low", "high"]
    assert set(result.files) == {path for path in folder.iterdir() if path.name != "__pycache__"}

    opened = automl_nas.open_run(tmp_path / "run", **parts)
    assert opened.delivery().class_names == ("low", "high")
    assert opened.delivery().description["units"] == {"params": "parameters"}

    (folder / "README.md").write_text("of another run")
    with pytest.raises(RunDirectoryError, match=r"would replace .*README\.md; "):
        opened.export("package", out=folder.parent)
    assert (folder / "README.md").read_text() == "of another run"
