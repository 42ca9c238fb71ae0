"""The example configurations resolve as they are, say true things in their comments, and run at toy size."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from docs.pages import DOCS, QUICKSTART, ROOT, TOY, blocks
from plugins.vision import odd_images

import automl_nas
from automl_nas.cli.overrides import Configuration
from automl_nas.evaluation import State
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.plugin.registry import Registry
from automl_nas.run.configuration.builtin import complete_manager
from automl_nas.run.configuration.plan import Plan
from automl_nas.run.configuration.resolver import make_plan
from automl_nas.run.record.ledger import Ledger
from automl_nas.run.record.yaml import parse_yaml
from automl_nas.space import Architecture
from automl_nas_costs.models import Flops
from automl_nas_spaces.shufflenet_v2 import from_codes

SMALL_IMAGES = ROOT / "examples" / "configs" / "spos_cifar10_small.yaml"
DSO = [ROOT / "examples" / "configs" / f"dso_{name}.yaml" for name in ("cifar10", "cifar10_small", "digits")]
CHANNELS = ROOT / "examples" / "configs" / "spos_channels_digits.yaml"
FASHION = ROOT / "examples" / "configs" / "spos_fashion_mnist.yaml"
MIXED = [ROOT / "examples" / "configs" / f"mixed_precision_{name}.yaml" for name in ("digits", "fashion_mnist")]
LATENCY = ROOT / "examples" / "configs" / "latency_digits.yaml"
TABLE = ROOT / "examples" / "configs" / "csv_wine.yaml"
IMAGENET = ROOT / "examples" / "configs" / "spos_imagenet.yaml"  # in test_imagenet_config.py
FOLDER = ROOT / "examples" / "configs" / "image_folder.yaml"
RANKING = ROOT / "examples" / "configs" / "rank_macro_cifar10.yaml"  # runs in plugins/benchmarks/rank/test_study.py
DARTS = ROOT / "examples" / "configs" / "darts_digits.yaml"
MOBILE = ROOT / "examples" / "configs" / "mobilenet_v3_digits.yaml"
PROMOTED = ROOT / "examples" / "configs" / "promoted_digits.yaml"
PRUNED = ROOT / "examples" / "configs" / "pruned_digits.yaml"
RESNET = ROOT / "examples" / "configs" / "resnet_digits.yaml"
ONE_SHOT = ROOT / "examples" / "configs" / "one_shot_nasbench201.yaml"  # in plugins/benchmarks/one_shot
SMALL_SPACE = {
    "name": "shufflenet_v2",
    "stem_stride": 1,
    "widths": [16, 32],
    "repeats": [1, 1],
    "strides": [1, 2],
    "last_channels": 16,
}
SMALL_EDGES = {"name": "dso", "blocks": [1], "width": 4, "levels": 1}
SAFETENSORS = "final.export=[safetensors]"
"""Networks of these spaces are exported as programs in plugins/spaces, and by the runs of test_code.py,
test_first_search.py and test_examples.py."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in the form of cifar10_small.npz, a hundredth as many images."""
    path = tmp_path_factory.mktemp("data") / "cifar10_small.npz"
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 60), ("test", 20)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count, dtype=np.uint8) % 10
    np.savez(path, **arrays)
    return path


def registry() -> Registry:
    return complete_manager().registry


def comments(config: Path) -> str:
    return " ".join(line.partition("#")[2].strip() for line in config.read_text(encoding="utf-8").splitlines())


def test_the_quickstart_says_true_numbers(quickstart: Plan) -> None:
    flops = quickstart.stages[-1].problem.cost_models["flops"]
    assert isinstance(flops, TabulatedCost)
    extremes = flops.extremes()
    wanted = (
        f"{quickstart.space.size:,} networks, from {extremes.smallest_value:,.0f} to {extremes.largest_value:,.0f} "
    )
    assert wanted in comments(QUICKSTART)


@pytest.fixture(scope="module")
def grey_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in the form of Fashion-MNIST."""
    path = tmp_path_factory.mktemp("data") / "fashion_mnist.npz"
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 60), ("test", 20)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count, dtype=np.uint8) % 10
    np.savez(path, **arrays)
    return path


@pytest.mark.slow
def test_fashion_mnist_runs_at_toy_size(grey_images: Path, tmp_path: Path) -> None:
    changes = [f"task.path={grey_images}", "task.batch_size=16", *TOY, "final.train.warmup_epochs=0", SAFETENSORS]
    changes += ["space.strides=[1, 2]", "stages.supernet.strategy.train.warmup_epochs=0"]
    result = automl_nas.search(Configuration.read(FASHION, changes).value, out=tmp_path / "run")
    assert result.final is not None
    roles = [network.role for network in result.final.networks]
    assert roles == ["found", "largest", *["random"] * 5]


@pytest.mark.slow
@pytest.mark.parametrize("config", [SMALL_IMAGES, FASHION], ids=lambda config: config.stem)
def test_the_small_images_say_true_numbers(config: Path, request: pytest.FixtureRequest) -> None:
    """FLOPs are additive: the extremes have the extreme option of every block."""
    data = request.getfixturevalue("images" if config == SMALL_IMAGES else "grey_images")
    raw = Configuration.read(config, [f"task.path={data}"]).value
    plan = make_plan(raw, registry(), checked=True)
    flops, count = Flops(plan.final_space), len(plan.space.decisions)
    base = flops.estimate(from_codes(plan.space, [0] * count))
    changes = [
        [
            flops.estimate(from_codes(plan.space, [code * (place == here) for place in range(count)])) - base
            for code in range(4)
        ]
        for here in range(count)
    ]
    small, large = (base + sum(map(pick, changes)) for pick in (min, max))
    limit = plan.stages[-1].problem.constraints[0].high
    assert small < limit < large
    wanted = f"{plan.space.size:,} networks, from {small / 1e6:.1f} to {large / 1e6:.1f} million multiply-adds"
    assert wanted in comments(config)


@pytest.mark.slow
def test_darts_runs_at_toy_size(tmp_path: Path) -> None:
    """The derived cells meet the limit of the file, which not all networks do, and are drawn."""
    changes = ["stages.search.strategy.train.epochs=1", "final.train.epochs=1", "final.baselines=[]"]
    result = automl_nas.search(Configuration.read(DARTS, changes).value, out=tmp_path / "run")
    assert "at most 6,000 parameters" in comments(DARTS)
    assert sum(p.numel() for p in result.load_trained().parameters()) <= 6000
    assert all((tmp_path / "run" / "cells" / f"{cell}.svg").is_file() for cell in ("normal", "reduce"))


@pytest.mark.slow
def test_trainings_are_stopped_at_toy_size(tmp_path: Path) -> None:
    changes = ["final.train.epochs=1", "final.baselines=[]", SAFETENSORS]
    changes += ["stages.search.budget.trials=6", "stages.search.pruner.n_startup_trials=2"]
    changes += ["stages.search.pruner.n_warmup_steps=0", "stages.search.evaluator.train.epochs=2"]
    result = automl_nas.search(Configuration.read(PRUNED, changes).value, out=tmp_path / "run")
    assert result.plan.space.size == 5**6 and "15,625" in comments(PRUNED)
    trials = Ledger(tmp_path / "run" / "trials.jsonl", writable=False).trials.values()
    assert {trial.state for trial in trials} == {State.COMPLETE, State.PRUNED}


@pytest.mark.slow
def test_candidates_are_promoted_at_toy_size(tmp_path: Path) -> None:
    changes = ["final.train.epochs=1", "final.baselines=[]", SAFETENSORS]
    changes += ["stages.search.strategy.candidates=4"]
    changes += ["stages.search.strategy.reduction=2", "stages.search.budget.trials=7"]
    changes += ["stages.supernet.strategy.train.epochs=1", "stages.search.evaluator.evaluators[2].train.epochs=1"]
    changes += ["stages.search.evaluator.evaluators[1].train.epochs=1"]
    result = automl_nas.search(Configuration.read(PROMOTED, changes).value, out=tmp_path / "run")
    trials = list(Ledger(tmp_path / "run" / "trials.jsonl", writable=False).trials.values())
    levels = [[trial.architecture for trial in trials if trial.info.get("level") == level] for level in (1, 2, 3)]
    assert list(map(len, levels)) == [4, 2, 1]
    assert set(levels[2]) <= set(levels[1]) <= set(levels[0]) and result.best.architecture == levels[2][0]


def test_every_configuration_is_tested_here() -> None:
    found = sorted((ROOT / "examples" / "configs").glob("*.yaml"))
    assert found == [
        TABLE,
        DARTS,
        *DSO,
        FOLDER,
        LATENCY,
        *MIXED,
        MOBILE,
        ONE_SHOT,
        PROMOTED,
        PRUNED,
        QUICKSTART,
        RANKING,
        RESNET,
        CHANNELS,
        SMALL_IMAGES,
        FASHION,
        IMAGENET,
    ]


@pytest.mark.slow
def test_a_folder_with_every_oddity_runs_at_toy_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken file stops the run before it begins; with consent the run ends with an export."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = odd_images.write(tmp_path / "images", 24)
    files[0].write_bytes(files[0].read_bytes()[:100])
    changes = [f"task.path={tmp_path / 'images'}", "task.size=16", "task.batch_size=8", *TOY]
    changes += [f"space.{key}={value}" for key, value in SMALL_SPACE.items() if key != "name"]
    changes += ["final.train.warmup_epochs=0", "final.baselines=[random]", SAFETENSORS]
    with pytest.raises(automl_nas.errors.DataError, match=r"1 of 72 files .*:\n  airplane/00.png"):
        automl_nas.search(Configuration.read(FOLDER, changes).value, out=tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    changes.append("task.skip_broken=true")
    result = automl_nas.search(Configuration.read(FOLDER, changes).value, out=tmp_path / "run")
    assert result.final is not None and result.final.delivered.details["classes"] == list(odd_images.NAMES)
    assert (tmp_path / "run" / "export" / "model.safetensors").is_file()


def test_a_table_runs_at_toy_size(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "examples" / "prepare_wine.py"))["main"](tmp_path / "wine.csv")
    data = f"task.path={tmp_path / 'wine.csv'}"
    without_limits = [data, "problem={objectives: {loss: minimize}}"]  # for which all networks would be counted
    plan = make_plan(Configuration.read(TABLE, without_limits).value, registry(), checked=True)
    assert f"{plan.space.size} networks" in comments(TABLE)
    changes = [data, SAFETENSORS, "final.baselines=[]", "space.blocks=1", "space.hidden_widths=[16, 32]"]
    changes += ["final.train.epochs=1", "stages.supernet.strategy.train.epochs=1"]
    changes += [f"stages.search.strategy.{name}=2" for name in ("population", "generations", "top_k")]
    result = automl_nas.search(Configuration.read(TABLE, changes).value, out=tmp_path / "run")
    assert result.metrics.keys() == {"accuracy", "balanced_accuracy", "macro_f1", "loss"}
    assert result.final is not None
    details = result.final.delivered.details
    assert details["classes"] == ["class_0", "class_1", "class_2"] and sum(details["support"]) == 36


@pytest.mark.slow
def test_blocks_and_channels_run_at_toy_size(tmp_path: Path) -> None:
    changes = [*TOY, "stages.supernet.strategy.widen_epochs=1", "final.baselines=[random]"]
    changes += ["stages.supernet.strategy.train.warmup_epochs=0", SAFETENSORS]
    result = automl_nas.search(Configuration.read(CHANNELS, changes).value, out=tmp_path / "run")
    (block,) = [name for name in result.plan.space.decisions if name == "stage1.block1.scale"]
    assert result.best.architecture[block] in (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
    assert result.plan.stages[1].problem.feasible(result.best.architecture)


@pytest.mark.slow
def test_once_for_all_runs_at_toy_size(tmp_path: Path) -> None:
    exported = make_plan(Configuration.read(MOBILE, ["problem={}"]).value, registry(), checked=True).final
    assert exported is not None and [each["name"] for each in exported.export] == ["safetensors", "onnx", "pt2"]
    changes = ["space.widths=[8, 8]", "space.depths=[1, 2]", "space.last_channels=[16, 16]", "final.train.epochs=1"]
    changes += ["space.kernels=[3, 5]", "space.expansions=[3, 6]", SAFETENSORS]
    changes += ["stages.supernet.strategy.train={epochs: 1}", "stages.search.evaluator.recalibration_images=64"]
    changes += [f"stages.search.strategy.{key}=2" for key in ("population", "generations", "top_k")]
    changes += ["problem.constraints.flops=<= 0.9 * largest", "final.baselines=[random]"]
    result = automl_nas.search(Configuration.read(MOBILE, changes).value, out=tmp_path / "run")
    assert result.plan.stages[1].problem.feasible(result.best.architecture)
    assert "model.safetensors" in {path.name for path in result.files}


@pytest.mark.slow
def test_a_resnet_of_searched_sizes_runs_at_toy_size(tmp_path: Path) -> None:
    plan = make_plan(Configuration.read(RESNET, []).value, registry(), checked=True)
    largest = plan.space.validate({name: decision.options[-1] for name, decision in plan.space.decisions.items()})
    assert f"Half of the {Flops(plan.space).estimate(largest):,} multiply-adds" in comments(RESNET)
    changes = ["space.widths=[8, 16]", "space.max_depths=[1, 2]", "space.stem_width=8", "final.train.epochs=1"]
    changes += ["space.multipliers=[0.5, 1.0]", "space.ratios=[0.25, 0.5]"]
    changes += ["stages.supernet.strategy.train={epochs: 1}", "stages.search.evaluator.recalibration_images=64"]
    changes += [f"stages.search.strategy.{key}=2" for key in ("population", "generations", "top_k")]
    changes += ["final.baselines=[random]", SAFETENSORS]
    result = automl_nas.search(Configuration.read(RESNET, changes).value, out=tmp_path / "run")
    assert result.plan.stages[1].problem.feasible(result.best.architecture)


def test_the_small_images_run_at_toy_size(images: Path, tmp_path: Path) -> None:
    """The quickstart runs in test_code.py."""
    changes = [
        f"task.path={images}",
        *TOY,
        "space.strides=[2, 2]",
        "task.batch_size=16",
        "runtime.threads=1",
        "stages.supernet.strategy.train.warmup_epochs=0",
        "final.train.warmup_epochs=0",
        SAFETENSORS,
        "final.baselines=[largest]",
    ]
    result = automl_nas.search(Configuration.read(SMALL_IMAGES, changes).value, out=tmp_path / "run")
    assert result.plan.stages[1].problem.feasible(result.best.architecture)
    assert [path.name for path in result.files] == ["model.safetensors", "architecture.json"]


@pytest.mark.slow
@pytest.mark.parametrize("config", MIXED, ids=lambda config: config.stem)
def test_mixed_precision_runs_at_toy_size(config: Path, grey_images: Path, tmp_path: Path) -> None:
    """Limits and numbers in the comments are those of the space as it is written; then a smaller one is searched."""
    digits = config.stem == "mixed_precision_digits"
    data = [] if digits else [f"task.path={grey_images}", "task.batch_size=16"]
    plan = make_plan(Configuration.read(config, data).value, registry(), checked=True)
    cost = plan.stages[-1].problem.cost_models["bit_ops"]
    assert isinstance(cost, TabulatedCost)
    assert f"{plan.space.size:,} networks" in comments(config)
    if digits:
        extremes = cost.extremes()
        assert f"from {extremes.smallest_value / 1e6:.2f} to {extremes.largest_value / 1e6:.2f} million" in comments(
            config
        )
    else:
        costs = [
            cost.estimate(Architecture(dict.fromkeys(plan.space.decisions, f"W{bits}A{bits}"))) for bits in (2, 3, 4)
        ]
        limits = [stage.problem.constraints[0].high for stage in plan.stages[1:]]
        assert limits == [*costs, 2 * costs[-1]]
    changes = [*data, "space.widths=[4]", "space.repeats=[2]", "space.strides=[1]", "final.train.epochs=1"]
    changes += ["final.train.warmup_epochs=0", "stages.supernet.strategy.train={epochs: 1}"]
    for stage in plan.stages[1:]:
        name = f"stages.{stage.settings.name}"
        changes += [f"{name}.strategy.{key}=2" for key in ("population", "generations", "top_k")]
        changes += [f"{name}.evaluator.recalibration_images=32", f"{name}.problem.constraints.bit_ops=<= 0.8 * largest"]
    if digits:
        changes += ["final.baselines=[random]", SAFETENSORS]
    result = automl_nas.search(Configuration.read(config, changes).value, out=tmp_path / "run")
    assert result.plan.stages[-1].problem.feasible(result.architecture)


@pytest.mark.slow
def test_a_limit_on_latency_runs_at_toy_size(tmp_path: Path) -> None:
    """What is delivered has been measured, as a network and as a file, and a prediction says how good it is."""
    changes = [change for change in TOY if "flops" not in change]
    quick = "{name: latency_ms, rounds: 5, round_ms: 0, burst_ms: 1, warmup_ms: 1, cache: null}"
    changes += ["problem.constraints.latency_ms=<= 1 * largest"]  # networks this small differ by little
    changes += ["problem.costs.latency_ms.samples=10", f"problem.costs.latency_ms.latency={quick}"]
    result = automl_nas.search(Configuration.read(LATENCY, changes).value, out=tmp_path / "run")
    (row,) = result.data["final"]["budget"]
    assert row["cost"] == "latency_ms" and row["met"] == (row["margin"] >= 0)
    for measured in (row["measured"], row["exported"]):
        assert 0 < measured["low"] <= measured["value"] <= measured["high"]
    note = result.plan.stages[-1].problem.cost_models["latency_ms"].note()  # type: ignore[attr-defined]
    assert "predicted from 10 networks of this session by" in note and "on held-out networks tau" in note


@pytest.mark.parametrize("config", DSO, ids=lambda path: path.stem)
def test_dso_runs_at_toy_size(config: Path, images: Path, tmp_path: Path) -> None:
    """Without a penalty: in so few steps all edges would die at once."""
    search, changes = "stages.search.strategy", ["runtime.threads=1", SAFETENSORS, "final.seeds=1"]
    changes += [
        f"{search}.train.epochs=2",
        f"{search}.pretrain_epochs=1",
        f"{search}.sparsity=null",
        f"{search}.gamma=0",
    ]
    changes += ["space.blocks=[1, 1]", "space.width=4", "space.levels=1", "final.space.width=4"]
    changes += ["final.baselines=[random]"]  # a network of few edges has hardly any of equal cost
    changes += ["final.train.epochs=1", "final.train.restart_epochs=null", "final.train.restart_factor=1"]
    if config.stem == "dso_digits":
        changes += ["task.search_fraction=0.95"]
    else:
        changes += ["task.batch_size=8", "task.workers=0", f"task.path={images}"]
    result = automl_nas.search(Configuration.read(config, changes).value, out=tmp_path / "run")
    assert result.data["final"]["networks"][0]["role"] == "found"


@pytest.mark.slow
def test_the_shortest_configuration_is_enough() -> None:
    """configuration.md begins with it, and says what its defaults are."""
    shown, _ = blocks(ROOT / "docs" / "reference" / "configuration.md", "yaml")[0]
    plan = make_plan(parse_yaml(shown, "configuration.md").value, registry())
    assert [stage.settings.strategy["name"] for stage in plan.stages] == ["single_path", "evolution"]
    assert plan.stages[1].problem.objectives == {"loss": "minimize"}
    assert plan.final is not None
    assert [spec["name"] for spec in plan.final.export] == ["safetensors"]


@pytest.mark.parametrize(
    "page",
    [
        "reference/configuration.md",
        "reference/costs.md",
        "how_to/dso.md",
        "how_to/mixed_precision.md",
        "how_to/spos.md",
        "how_to/strategies.md",
        "how_to/export.md",
        "how_to/tasks.md",
        "how_to/surrogate.md",
        "how_to/delivery.md",
        "concepts/pipeline.md",
    ],
)
def test_every_piece_of_a_configuration_resolves(page: str, images: Path, tmp_path: Path) -> None:
    """Pieces are put into a whole configuration; its space is a small one, so that tables are soon made."""
    for text, _ in blocks(DOCS / page, "yaml"):
        piece = parse_yaml(text, page).value
        if "strategy" in piece:
            piece = {"stages": [{"name": "search", "evaluator": "train", **piece}], "final": None}
        if any(f"name: {task}" in text for task in ("torchvision", "csv", "arrays")):
            continue  # their data would be downloaded, or are no images; tests of the tasks have small files
        names = re.findall(r"name: (\w+)", text)
        if "weights: supernet" in text and "supernet" not in names:
            piece["stages"].insert(0, {"name": "supernet", "strategy": "single_path"})
        if "name: image_folder" in text:
            odd_images.write(tmp_path / "images", 12)
            piece["task"] |= {"path": str(tmp_path / "images"), "batch_size": 8}
        elif "path: " in text:
            piece["task"] |= {"path": str(images), "train_labels": "train_labels", "batch_size": 16}  # few images
        space = SMALL_EDGES if "name: dso" in text else SMALL_SPACE
        if "name: mixed_precision" in text:
            space = piece["space"]  # small, and another space's settings are no settings of this one
        make_plan({"task": "digits", **piece, "space": space}, registry())
