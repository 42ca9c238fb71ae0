"""The example scripts of tasks run all stages and export at toy size, and their data needs few lines."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import onnxruntime
import pytest
import torch
from docs.pages import ROOT

SCRIPTS = sorted((ROOT / "examples" / "tasks").glob("*.py"))
OUTPUTS = {"multi_label": (3,), "regression": (1,), "segmentation": (11, 8, 8), "tokens": (3,)}


def load(script: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{script.stem}", script)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_stage_runs_and_the_export_computes_the_networks_outputs(script: Path, tmp_path: Path) -> None:
    module = load(script)
    result = module.main(tmp_path / "run", epochs=1)
    assert not result.shortcomings and result.final is not None
    delivered = result.final.delivered
    assert set(delivered.test_interval) == set(module.task.metrics) == set(delivered.test)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["final"]["networks"][0]["details"]

    inputs, _ = next(module.task.scored_batches("test"))
    with torch.no_grad():
        expected = result.load_trained()(inputs)
    assert tuple(expected.shape[1:]) == OUTPUTS[script.stem]
    (path,) = [file for file in result.files if file.suffix == ".onnx"]
    session = onnxruntime.InferenceSession(path)
    (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    torch.testing.assert_close(torch.from_numpy(outputs), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_data_and_task_need_at_most_15_lines(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    between = text.partition("import automl_nas\n")[2].partition("\n\n\n")[0]
    lines = [line for line in between.splitlines() if line.strip() and not line.startswith("#")]
    assert "TensorTask" in between and 0 < len(lines) <= 15
