"""The example scripts of tasks run all stages and export at toy size, and have few lines."""

from __future__ import annotations

import importlib.util
import io
import json
import tokenize
from pathlib import Path
from types import ModuleType

import onnxruntime
import pytest
import torch
from docs.pages import ROOT

import automl_nas
from automl_nas.run import parse_yaml

FOLDER = ROOT / "examples" / "tasks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
OUTPUTS = {"multi_label": (3,), "regression": (1,), "segmentation": (11, 8, 8), "tokens": (3,)}
_NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


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
    text = (FOLDER / "search.yaml").read_text(encoding="utf-8")
    assert text.count("epochs: 30") == 2
    config = parse_yaml(text.replace("epochs: 30", "epochs: 1"), "search.yaml").value
    result = automl_nas.search(config, task=module.task, space=module.space, out=tmp_path / "run")
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


def lines_of_code(text: str) -> int:
    """Return the number of lines with code: blank lines, comments and the docstring of the module are not."""
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type not in _NO_CODE]
    assert tokens[0].type == tokenize.STRING
    return len({line for token in tokens[1:] for line in range(token.start[0], token.end[0] + 1)})


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_has_at_most_15_lines_as_the_results_say(script: Path) -> None:
    count = lines_of_code(script.read_text(encoding="utf-8"))
    assert count <= 15
    results = (ROOT / "docs" / "results" / "performance.md").read_text(encoding="utf-8")
    assert f"| `examples/tasks/{script.name}` | {count} |" in results
