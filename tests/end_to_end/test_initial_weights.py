"""Weights from a file that supernets, candidates and final networks begin with, and weights that a factory loads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from end_to_end.runs import network, small_space
from end_to_end.test_final_beginnings import config as final_config, three_classes
from torch import Tensor, nn

import automl_nas
from automl_nas import Architecture, ModuleSpace, OneOf
from automl_nas.errors import ConfigurationError, RunDirectoryError, RunInterrupted
from automl_nas.evaluation.runtime import Runtime
from automl_nas.evaluation.training.fit import score
from automl_nas.plugin import NumbersLogged
from automl_nas.space.modules.elastic_layers.convolution import ElasticConv2d
from automl_nas_vision.digits import Digits

# What is saved at the end is what the training began with, but for numbers that are 0: those become about 1e-30.
FROZEN = {"epochs": 1, "learning_rate": 1e-30, "weight_decay": 0.0, "momentum": 0.0}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of the module of `small_space`, as a user saves those of an own module."""
    file = tmp_path_factory.mktemp("weights") / "pretrained.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(11)
        safetensors.torch.save_file(network().state_dict(), file)
    return file


def supernet_config(space: Any, **strategy: Any) -> dict[str, Any]:
    return {
        "space": space,
        "task": {"name": "digits", "batch_size": 128},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [{"name": "supernet", "strategy": {"name": "single_path", "train": FROZEN, **strategy}}],
        "final": None,
    }


def learned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that no forward pass changes."""
    return {name: tensor for name, tensor in tensors.items() if "running" not in name and "num_batches" not in name}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    one, other = learned(one), learned(other)
    return one.keys() == other.keys() and all(unchanged(tensor, other[name]) for name, tensor in one.items())


def unchanged(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and float((one - other).abs().max()) < 1e-20


def saved(run: Path, stage: str) -> dict[str, Tensor]:
    return safetensors.torch.load_file(run / "artifacts" / stage / "weights.safetensors")


@pytest.mark.slow
def test_a_supernet_begins_with_the_weights_of_a_module_or_of_another_supernet(
    pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = {f"network.{name}": tensor for name, tensor in safetensors.torch.load_file(pretrained).items()}
    monkeypatch.chdir(pretrained.parent)  # the path is recorded as an absolute one
    automl_nas.search(supernet_config(small_space(), initial_weights=pretrained.name), out=tmp_path / "first")
    assert same(saved(tmp_path / "first", "supernet"), expected)
    identity = json.loads((tmp_path / "first" / "identity.json").read_text())
    assert identity["files"] == {str(pretrained): sha256(pretrained.read_bytes()).hexdigest()}
    weights = {"file": str(tmp_path / "first" / "artifacts" / "supernet" / "weights.safetensors"), "strict": True}
    automl_nas.search(supernet_config(small_space(), initial_weights=weights), out=tmp_path / "second")
    assert same(saved(tmp_path / "second", "supernet"), expected)


@pytest.mark.slow
def test_the_weights_of_the_space_are_those_of_all_that_is_trained(pretrained: Path, tmp_path: Path) -> None:
    """Supernet, a candidate and the final network: what has the same name in the file begins with it."""
    weights = {"file": str(pretrained), "strict": False}
    raw = supernet_config({"name": small_space, "initial_weights": weights})
    raw["stages"] += [
        {
            "name": "search",
            "strategy": "random",
            "evaluator": {"name": "train", "train": FROZEN},
            "budget": {"trials": 1},
        }
    ]
    raw["final"] = {"train": FROZEN, "export": []}
    result = automl_nas.search(raw, out=tmp_path / "run")
    expected = safetensors.torch.load_file(pretrained)
    assert same(saved(tmp_path / "run", "supernet"), {f"network.{name}": tensor for name, tensor in expected.items()})
    final = saved(tmp_path / "run", "final")
    shared = {name: tensor for name, tensor in learned(final).items() if name in expected}
    assert "0.weight" in shared and "10.weight" in shared
    assert all(unchanged(tensor, expected[name]) for name, tensor in shared.items())
    config = result.plan.config
    assert "initial_weights" not in config["space"]
    assert [stage["strategy"].get("initial_weights") for stage in config["stages"]] == [weights, None]
    assert config["stages"][1]["evaluator"]["initial_weights"] == config["final"]["initial_weights"] == weights
    with pytest.raises(ConfigurationError, match="no stage of this run trains a network") as caught:
        automl_nas.search(
            space={"name": small_space, "initial_weights": str(pretrained)},
            problem={"objectives": {"params": "minimize"}},
            stages=[{"name": "search", "strategy": "random", "budget": {"trials": 1}}],
        )
    assert caught.value.path == "space.initial_weights"


def one_choice() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh()}, name="activation"), nn.Linear(64, 10)
    )


def test_a_candidate_begins_with_the_weights(tmp_path: Path) -> None:
    """A candidate whose weights do not change scores as the network with the weights of the file does."""
    torch.manual_seed(5)
    file, plain = tmp_path / "weights.safetensors", nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(64, 10))
    safetensors.torch.save_file(plain.state_dict(), file)
    space = ModuleSpace(one_choice, input_shape=(1, 8, 8))
    raw = {
        "space": space,
        "task": {"name": "digits", "batch_size": 128},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [
            {
                "name": "search",
                "strategy": "random",
                "evaluator": {"name": "train", "train": FROZEN, "initial_weights": str(file)},
                "budget": {"trials": 2},
            }
        ],
        "final": None,
    }
    result = automl_nas.search(raw, out=tmp_path / "run")
    expected = score(plain, Digits(batch_size=128), Runtime(device="cpu"), "search")
    relu = next(candidate for candidate in _trials(result) if candidate[0]["activation"] == "relu")
    assert relu[1] == expected


def _trials(result: automl_nas.Result) -> list[tuple[Architecture, Mapping[str, float]]]:
    from automl_nas.run import RunState

    return [(trial.architecture, trial.metrics) for trial in RunState.read(result.directory).stages[0].trials]


def test_every_tensor_that_does_not_fit_is_named_before_the_run(tmp_path: Path) -> None:
    tensors = {f"network.{name}": tensor for name, tensor in network().state_dict().items()}
    file = tmp_path / "weights.safetensors"
    wrong = {**tensors, "network.0.weight": torch.zeros(4, 1, 3, 3), "network.10.bias": torch.zeros(5)}
    del wrong["network.10.weight"]
    safetensors.torch.save_file(wrong, file)
    for place, raw in {
        "stages[0].strategy.initial_weights": supernet_config(small_space(), initial_weights=str(file)),
        "stages[0].evaluator.initial_weights": {
            **supernet_config(small_space()),
            "stages": [
                {
                    "name": "search",
                    "strategy": "random",
                    "evaluator": {"name": "train", "train": FROZEN, "initial_weights": str(file)},
                }
            ],
        },
    }.items():
        with pytest.raises(ConfigurationError) as caught:
            automl_nas.search(raw, out=tmp_path / "run")
        assert caught.value.path == place
        assert not (tmp_path / "run").exists()
        if "strategy" in place:
            for text in (
                "network.0.weight has the shape (4, 1, 3, 3) there and (8, 1, 3, 3) in the network",
                "network.10.weight is missing there",
                "network.10.bias has the shape (5,) there and (10,) in the network",
                f"({len(tensors) - 3} of {len(tensors)} tensors fit); strict: false loads those that fit",
            ):
                assert text in str(caught.value)
        else:
            assert "0.weight is missing there" in str(caught.value)
    loose = supernet_config(small_space(), initial_weights={"file": str(file), "strict": False})
    automl_nas.search(loose, out=tmp_path / "run")
    name = "network.2.conv1.0.weight"
    assert unchanged(saved(tmp_path / "run", "supernet")[name], tensors[name])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("nowhere.safetensors", "cannot read .*nowhere.safetensors"),
        ({"file": "nowhere.safetensors"}, "cannot read"),
        ({"strict": True}, "file"),
        ({"file": "f", "strikt": True}, "strikt"),
        (7, "initial_weights"),
    ],
)
def test_bad_settings_are_refused(weights: Any, message: str, tmp_path: Path) -> None:
    for raw in (
        supernet_config(small_space(), initial_weights=weights),
        supernet_config({"name": small_space, "initial_weights": weights}),
        {**supernet_config(small_space()), "final": {"initial_weights": weights}},
    ):
        with pytest.raises(ConfigurationError, match=message) as caught:
            automl_nas.search(raw, out=tmp_path / "run")
        assert "initial_weights" in caught.value.path
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["initial_weights", "teacher"])
def test_a_file_that_changed_is_noticed_when_the_run_is_resumed(setting: str, tmp_path: Path) -> None:
    file, good = tmp_path / "weights.safetensors", tmp_path / "good.safetensors"
    if setting == "teacher":
        tensors = three_classes().state_dict()
        final: dict[str, Any] = {
            "distill": {"teacher": f"{three_classes.__module__}:three_classes", "weights": str(file)}
        }
    else:
        automl_nas.search(final_config(), out=tmp_path / "first")
        tensors = saved(tmp_path / "first", "final")
        final = {"initial_weights": {"file": str(file), "strict": False}}
    safetensors.torch.save_file(tensors, file)
    shutil.copyfile(file, good)
    raw = final_config(**final)
    whole = automl_nas.search(raw, out=tmp_path / "whole")

    def interrupt(event: NumbersLogged) -> None:
        raise KeyboardInterrupt

    with pytest.raises(RunInterrupted):
        automl_nas.search(raw, out=tmp_path / "run", handlers={NumbersLogged: interrupt})
    safetensors.torch.save_file({name: tensor + 1 for name, tensor in tensors.items()}, file)
    with pytest.raises(RunDirectoryError, match=r"begun with the weights .* this file changed \(SHA-256 \w{12}, now"):
        automl_nas.search(raw, out=tmp_path / "run", resume=True)
    file.unlink()
    with pytest.raises(ConfigurationError, match="cannot read"):
        automl_nas.search(raw, out=tmp_path / "run", resume=True)
    # The result of a complete run needs the file no more.
    assert automl_nas.open_run(tmp_path / "whole").found
    shutil.copyfile(good, file)
    assert automl_nas.search(raw, out=tmp_path / "run", resume=True).data == whole.data
    safetensors.torch.save_file({name: tensor + 1 for name, tensor in tensors.items()}, file)
    objects = {"space": raw["space"], "task": raw["task"], "evaluator": raw["stages"][0]["evaluator"]}
    objects["cost_model"] = raw["problem"]["costs"]["toy_cost"]
    with pytest.raises(RunDirectoryError, match="this file changed"):
        automl_nas.retrain(tmp_path / "run", out=tmp_path / "again", trust=True, **objects)
    again = automl_nas.retrain(tmp_path / "run", out=tmp_path / "again", changed_data=True, trust=True, **objects)
    identity = json.loads((again.directory / "identity.json").read_text())
    assert identity["files"] == {str(file): sha256(file.read_bytes()).hexdigest()}
    assert identity["earlier_data"][0]["files"] == {str(file): sha256(good.read_bytes()).hexdigest()}
    if setting == "teacher":
        return
    # Without the weights there is no file to compare.
    plain = automl_nas.retrain(tmp_path / "run", out=tmp_path / "plain", final={"initial_weights": None}, **objects)
    assert "files" not in json.loads((plain.directory / "identity.json").read_text())


def test_a_file_that_is_missing_is_noticed_when_the_run_is_resumed(tmp_path: Path) -> None:
    table, file = tmp_path / "table.csv", tmp_path / "weights.safetensors"
    table.write_text("\n".join(["x,y,z", *(f"{x},{y},{'ab'[x * y % 2]}" for x in range(12) for y in range(12))]))
    raw: dict[str, Any] = {
        "task": {"name": "csv", "path": str(table), "target": "z", "batch_size": 16},
        "space": "mlp",
        "problem": {"costs": ["params"], "objectives": {"params": "minimize"}},
        "runtime": {"device": "cpu", "threads": 1},
        "stages": [{"name": "search", "strategy": "random", "budget": {"trials": 2}}],
        "final": {"train": {"epochs": 1}, "export": []},
    }
    automl_nas.search(raw, out=tmp_path / "first")
    shutil.copyfile(tmp_path / "first" / "artifacts" / "final" / "weights.safetensors", file)
    raw["final"]["initial_weights"] = {"file": str(file), "strict": False}

    def interrupt(event: NumbersLogged) -> None:
        raise KeyboardInterrupt

    with pytest.raises(RunInterrupted):
        automl_nas.search(raw, out=tmp_path / "run", handlers={NumbersLogged: interrupt})
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(RunDirectoryError, match=f"begun with the weights {file}, and this file is missing; restore it"):
        automl_nas.resume(tmp_path / "run")
    file.write_bytes(content)
    assert automl_nas.resume(tmp_path / "run").found


def test_weights_that_a_factory_loads_are_kept() -> None:
    """In the supernet, in what is extracted from it, and in networks that are built, except in narrower layers."""
    torch.manual_seed(3)
    stem, wide = nn.Conv2d(1, 6, 3, padding=1).state_dict(), torch.randn(8, 6, 1, 1)

    def factory() -> nn.Module:
        first, last = nn.Conv2d(1, 6, 3, padding=1), ElasticConv2d(6, (4, 8), 1, bias=False, name="width")
        option = nn.Conv2d(6, 6, 1)
        if not first.weight.is_meta:
            first.load_state_dict(stem)
            with torch.no_grad():
                last.weight.copy_(wide)
                option.weight.fill_(0.25)
        return nn.Sequential(first, OneOf({"conv": option, "skip": nn.Identity()}, name="option"), last)

    space = ModuleSpace(factory, input_shape=(1, 8, 8))
    supernet = space.build_supernet()
    full, narrow = Architecture({"option": "conv", "width": 8}), Architecture({"option": "conv", "width": 4})
    for whole in (supernet.extract(full), space.build(full)):
        state = whole.state_dict()
        assert torch.equal(state["0.weight"], stem["weight"]) and torch.equal(state["0.bias"], stem["bias"])
        assert torch.equal(state["1.weight"], torch.full((6, 6, 1, 1), 0.25))
        assert torch.equal(state["2.weight"], wide)
    assert torch.equal(supernet.extract(narrow).state_dict()["2.weight"], wide[:4])
    built = space.build(narrow).state_dict()
    assert torch.equal(built["0.weight"], stem["weight"])
    assert not torch.equal(built["2.weight"], wide[:4])
