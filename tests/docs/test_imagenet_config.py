"""The configuration of SPOS on ImageNet: the numbers of the paper, and a run at toy size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from core.evaluation.costs.test_cost_table import SPOS_FIXED, Formula, additive, spos_blocks
from docs.pages import ROOT, TOY
from PIL import Image

import automl_nas
from automl_nas.cli.overrides import Configuration
from automl_nas.evaluation import CostTable
from automl_nas.run.record.yaml import parse_yaml
from automl_nas.space import Choice, DecisionSpace

IMAGENET = ROOT / "examples" / "configs" / "spos_imagenet.yaml"


def test_imagenet_has_the_settings_of_the_paper() -> None:
    """Iterations from ImageNet's 1,281,167 training images; costs from the closed form of the space."""
    space = DecisionSpace({f"block{number}": Choice((0, 1, 2, 3)) for number in range(20)})
    options: dict[str, list[float]] = {f"block{place}": list(costs) for place, costs in enumerate(spos_blocks())}
    spos = CostTable.build(Formula(additive(space, options, SPOS_FIXED)), space)
    lines = IMAGENET.read_text(encoding="utf-8").splitlines()
    raw = parse_yaml(IMAGENET.read_text(encoding="utf-8"), "spos_imagenet.yaml").value
    task, (supernet, search), text = (
        raw["task"],
        raw["stages"],
        " ".join(line.partition("#")[2].strip() for line in lines),
    )
    assert (task["batch_size"], task["label_smoothing"], task["test"], task["search"]) == (1024, 0.1, "val", None)
    held_out = round(1_281_167 * task["search_fraction"])
    assert abs(held_out - 50_000) < 100
    recipes = supernet["strategy"]["train"], raw["final"]["train"]
    for images, recipe, published in zip((1_281_167 - held_out, 1_281_167), recipes, (150_000, 300_000), strict=True):
        per_epoch = images // 1024
        assert 0 <= per_epoch * recipe["epochs"] - published < per_epoch
        assert f"{per_epoch * recipe['epochs']:,} iterations (the paper: {published:,})" in text
        assert f"{per_epoch:,} an epoch" in text
        others = {"learning_rate": 0.5, "momentum": 0.9, "weight_decay": 4e-5, "schedule": "linear"}
        assert {name: value for name, value in recipe.items() if name != "epochs"} == others
    assert raw["final"]["data"] == "train+search"
    assert raw["problem"] == {"objectives": {"accuracy": "maximize"}, "constraints": {"flops": "<= 330M"}}
    evolution = {"name": "evolution", "population": 50, "generations": 20, "top_k": 10, "mutation_probability": 0.1}
    assert search["strategy"] == evolution
    assert search["evaluator"]["recalibration_images"] == 20_000
    bins = supernet["strategy"]["bins"]["flops"]
    assert bins == [f"{low}M..{low + 10}M" for low in range(290, 360, 10)]
    assert all(spos.count(1e6 * low, 1e6 * (low + 10)) for low in range(290, 360, 10))
    assert f"{spos.count():,} networks, from {spos.smallest[1] / 1e6:.2f} to {spos.largest[1] / 1e6:.2f}" in text
    assert f"{spos.count(high=330e6):,} of them" in text


@pytest.mark.slow
def test_imagenet_runs_at_toy_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with the layout of ImageNet: train and val, a folder for each class, JPEG files of any size."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 6)):
        for name in ("n01440764", "n01443537"):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                size = (*rng.integers(30, 60, 2), 3)
                Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(folder / f"{name}_{number}.JPEG")
    changes = [f"task.path={tmp_path / 'imagenet'}", *TOY, "space.strides=[2, 2]", "task.size=32", "task.workers=0"]
    changes += ["task.augment=[{name: RandomResizedCrop, size: 32}, flip]", "task.batch_size=8"]
    changes += ["task.search_fraction=0.2", "runtime.threads=1", "final.export=[safetensors]"]
    changes += ["stages.supernet.strategy.bins={flops: [<= 0.8 * largest, '>= 0.8 * largest']}"]
    result = automl_nas.search(Configuration.read(IMAGENET, changes).value, out=tmp_path / "run")
    assert result.final is not None and result.final.delivered.details["classes"] == ["n01440764", "n01443537"]
    task = result.plan.task
    assert task is not None
    assert [sum(len(x) for x, _ in task.batches("train", 0, 0)), len(task.files("test") or ())] == [32, 12]
