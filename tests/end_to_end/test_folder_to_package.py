"""From a folder of images with every oddity to predictions for new files, by three commands."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from automl_nas import open_run
from automl_nas.cli import cli

SCRIPT = Path(__file__).parents[2] / "examples" / "prepare_odd_folder.py"
NAMES = ("ant", "bee", "cow", "dog", "eel")

ALONE = """
import runpy, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("automl_nas", "automl_nas_vision", "torch", "torchvision", "onnx"):
            raise ModuleNotFoundError("blocked: " + name)
sys.meta_path.insert(0, Block())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

SHORT = (
    "space.repeats=[1, 1, 1]",
    "stages.supernet.strategy.train.epochs=1",
    "stages.supernet.strategy.train.warmup_epochs=0",
    "stages.search.strategy.population=2",
    "stages.search.strategy.generations=1",
    "stages.search.strategy.top_k=1",
    "final.train.epochs=2",
    "final.train.warmup_epochs=0",
    "final.baselines=[]",
    "final.rehearse=false",
)


def prepare(folder: Path) -> ModuleType:
    """Write an odd folder from generated photographs: smooth, since JPEG stores colours of neighbours together."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 18), ("test", 3)):
        labels = np.repeat(np.arange(5), count)
        rough = rng.integers(0, 256, (len(labels), 4, 4, 3), dtype=np.uint8)
        rough[..., 0] = rough[..., 0] // 4 + 40 * labels[:, None, None]
        images = [Image.fromarray(each).resize((32, 32), Image.Resampling.BICUBIC) for each in rough]
        arrays |= {f"{split}_images": np.stack([np.asarray(image) for image in images]), f"{split}_labels": labels}
    np.savez(folder / "source.npz", class_names=np.array(NAMES), **arrays)
    spec = importlib.util.spec_from_file_location("prepare_odd_folder", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(folder / "source.npz", folder / "photographs", 18)
    return module


def command(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.slow
@pytest.mark.process
def test_three_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    output = command("init", "photographs", code=2)
    for part in ("airplane", "ant/empty.png", "ant/truncated.jpg", "bee/page.jpg", "'unsorted'", "class 'eel' has 2"):
        assert (part in output) == (part != "airplane")
    command("init", "photographs", "--set", "task.skip_broken=true", "--set", "task.min_class_images=5")
    monkeypatch.chdir(tmp_path.parent)  # the configuration works in every working directory
    settings = [part for text in SHORT for part in ("--set", text)]
    command("run", tmp_path / "photographs.yaml", "--out", tmp_path / "run", "--quiet", *settings)

    result = open_run(tmp_path / "run")
    assert not result.shortcomings and not (result.final and result.final.export_notes)
    task, network = result.plan.final_task, result.load_trained()
    assert task is not None
    files = task.files("test")
    assert files is not None and len({Path(file).suffix for file in files}) > 2
    new = sorted(str(file) for file in (tmp_path / "new").iterdir())
    script = str(tmp_path / "run" / "export" / "package" / "infer.py")
    alone = [sys.executable, "-c", ALONE, script, "--json", *files, *new]
    done = subprocess.run(alone, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()  # warnings of Pillow would be others
    assert line.startswith(f"infer.py: {tmp_path / 'new' / 'truncated.jpg'}: not a readable image")
    predictions = {each["file"]: each for each in json.loads(done.stdout)}
    assert predictions.keys() == {*files, *(file for file in new if "truncated" not in file)}

    with torch.no_grad():
        outputs = torch.cat([network(inputs) for inputs, _ in task.scored_batches("test")])  # type: ignore[attr-defined]
    expected = outputs.double().softmax(1)
    computed = torch.tensor([[*predictions[file]["probabilities"].values()] for file in files], dtype=torch.float64)
    torch.testing.assert_close(computed, expected, rtol=0, atol=1e-4)
    top = expected.topk(2).values
    clear = (top[:, 0] - top[:, 1] > 2e-4).tolist()
    names = [NAMES[row] for row in expected.argmax(1).tolist()]
    assert [predictions[file]["class"] for file, sure in zip(files, clear, strict=True) if sure] == [
        name for name, sure in zip(names, clear, strict=True) if sure
    ]
    assert sum(clear) >= len(files) - 1
