"""`compress` in Python and on the command line: the limit is met, the original is in the table, bad input."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from plugins.elastic.networks import SmallResNet
from plugins.oneshot.conftest import MemoryArtifacts
from torch import nn

from automl_nas.cli import cli
from automl_nas.errors import ConfigurationError, InfeasibleError, UserError
from automl_nas.evaluation import Request, Runtime
from automl_nas.run import complete_manager
from automl_nas.testing.toys import ToyTask
from automl_nas_elastic import ElasticSpace, compress, loss_products
from automl_nas_elastic.comparison import ComparedNetwork, text
from automl_nas_elastic.compression import Compression, configuration
from automl_nas_elastic.preparation import prepared
from automl_nas_oneshot.supernet_weights import SupernetWeights
from automl_nas_vision.digits import Digits

SECTIONS: dict[str, Any] = {"runtime": {"device": "cpu", "threads": 1}}
SPACE: dict[str, Any] = {"granularity": 4, "widths": (0.5, 1.0), "include": ["*.conv1.width", "head.width"]}


def digits_network() -> nn.Module:
    return SmallResNet(inputs=1, classes=10)


def compressed(
    task: Digits | str, out: Path, *, supernet_epochs: int, trials: int, weights: str, **train: float
) -> tuple[nn.Module, Compression]:
    """Compress a network for digits to 80 % of its FLOPs; return it and what `compress` returns."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = digits_network()
    done = compress(
        network,
        task,
        limits={"flops": "<= 0.8 * largest"},
        space=SPACE,
        supernet_epochs=supernet_epochs,
        trials=trials,
        final_epochs=1,
        out=out,
        progress="none",
        sections={**SECTIONS, "final": {"weights": weights, "train": {"epochs": 1, **train}, "rehearse": False}},
    )
    return network, done


@pytest.mark.slow
def test_a_model_is_compressed(tmp_path: Path) -> None:
    network, done = compressed("digits", tmp_path / "run", supernet_epochs=1, trials=2, weights="inherited")
    original, small = done.networks
    assert (original.name, small.name) == ("original", "found")
    assert small.costs["flops"] <= 0.8 * original.costs["flops"]
    assert original.costs["params"] == sum(parameter.numel() for parameter in network.parameters())
    assert small.costs["params"] == sum(parameter.numel() for parameter in done.network.parameters())
    total = 0
    network.eval()

    def predict(inputs: torch.Tensor) -> torch.Tensor:
        nonlocal total
        total += len(inputs)
        return network(inputs)

    with torch.no_grad():
        scores = Digits().score(predict, "test")
    assert total and original.metrics["accuracy"] == pytest.approx(scores["accuracy"], abs=1e-12)
    low, high = original.intervals["accuracy"]
    assert low <= original.metrics["accuracy"] <= high
    lines = str(done).splitlines()
    assert lines[0].split()[:2] == ["network", "accuracy"]
    assert [line.split()[0] for line in lines[1:]] == ["original", "found"]


@pytest.mark.slow
def test_a_model_is_compressed_with_its_own_weights(tmp_path: Path) -> None:
    """Without a supernet the scores are those of the model's cut channels, which the network is trained from."""
    # So small a learning rate leaves the weights where they began.
    network, done = compressed(
        Digits(batch_size=64), tmp_path / "run", supernet_epochs=0, trials=3, weights="scratch", learning_rate=1e-12
    )
    result, space = done.result, ElasticSpace(network, input_shape=(1, 8, 8), **SPACE)
    assert [stage.settings.name for stage in result.plan.stages] == ["search"]
    records = [json.loads(line) for line in (result.directory / "trials.jsonl").read_text().splitlines()]
    trials = [record for record in records if record["event"] == "finished"]
    assert len(trials) == 3 and all(record["info"]["finetune_steps"] == 20 for record in trials)
    assert result.best.metrics["accuracy"] == max(record["metrics"]["accuracy"] for record in trials)
    built, trained = space.build(result.best.architecture), done.network
    for name, parameter in built.named_parameters():
        torch.testing.assert_close(trained.get_parameter(name), parameter, rtol=0, atol=1e-6)
    runtime = Runtime(device="cpu", threads=1)
    evaluator = SupernetWeights(space, Digits(), runtime, MemoryArtifacts(), weights=None, recalibration_images=0)
    (outcome,) = evaluator.evaluate([Request(0, result.best.architecture, seed=0)])
    with torch.no_grad():
        scores = Digits().score(built.eval(), "search")
    assert outcome.metrics["loss"] == pytest.approx(scores["loss"], rel=1e-5)


def test_stages() -> None:
    settings: dict[str, Any] = {"limits": {"flops": "<= 0.8 * largest"}, "space": SPACE}
    raw = configuration(digits_network(), "digits", supernet_epochs=0, **settings)
    (stage,) = raw["stages"]
    assert stage["evaluator"]["weights"] is None and raw["final"]["weights"] == "scratch"
    assert stage["evaluator"]["finetune_steps"] == 20
    assert stage["strategy"] == {"name": "narrowed_first", "strategy": "surrogate"}
    assert "problem" not in stage  # the loss decides which network is best
    raw = configuration(digits_network(), "digits", supernet_epochs=2, **settings)
    assert [stage["name"] for stage in raw["stages"]] == ["supernet", "search"]
    assert raw["stages"][1]["evaluator"]["weights"] == "supernet" and raw["final"]["weights"] == "inherited"
    raw = configuration(digits_network(), "digits", search_steps=0, **settings)
    assert "finetune_steps" not in raw["stages"][0]["evaluator"]
    for setting in ("supernet_epochs", "search_steps"):
        with pytest.raises(ConfigurationError, match="at least 0"):
            configuration(digits_network(), "digits", **{setting: -1}, **settings)


def test_bad_limits() -> None:
    settings: dict[str, Any] = {"space": SPACE, "progress": "none", "sections": SECTIONS}
    with pytest.raises(ConfigurationError, match="give a limit"):
        compress(digits_network(), "digits", limits={}, **settings)
    with pytest.raises(InfeasibleError, match="flops"):
        compress(digits_network(), "digits", limits={"flops": "<= 10"}, **settings)
    with pytest.raises(UserError, match="flopz"):
        compress(digits_network(), "digits", limits={"flopz": "<= 10"}, **settings)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["resnet18", "--data", "nowhere", "--limit", "flops <= 1"], "neither a folder of images nor an npz file"),
        (["resnet18", "--data", "digits", "--limit", "flops"], "write a cost and its limit"),
        (["resnet81", "--data", "digits", "--limit", "flops <= 1"], "did you mean"),
        (["resnet18", "--data", "digits", "--limit", "flops <= 1", "--set", "space.widht=3"], "widths"),
        (["resnet18", "--data", "digits", "--limit", "flops <= 1"], "does not run on an input of shape"),
        (["resnet18", "--data", "digits", "--limit", "flops <= 1"], "resnet18 has random weights"),
    ],
)
def test_bad_command_lines(arguments: list[str], text: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["compress", *arguments, "--out", str(tmp_path / "run"), "--quiet"])
    assert done.exit_code != 0
    assert text in done.output + str(done.exception)


def test_the_weights_of_a_model_must_fit(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / "other.safetensors"
    save_file(SmallResNet(16).state_dict(), file)
    model = "plugins.elastic.networks:SmallResNet"
    command = ["compress", model, "--data", "digits", "--limit", "flops <= 1", "--weights", str(file)]
    command += ["--set", "space.arguments={inputs: 1, classes: 10}"]
    done = CliRunner().invoke(cli, [*command, "--out", str(tmp_path / "run"), "--quiet"])
    assert done.exit_code != 0
    assert "does not hold the weights of the network" in done.output + str(done.exception)


class Two(nn.Module):
    """Two linear layers, of which the first channels of the hidden layer do not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 16), nn.Linear(16, 3)
        with torch.no_grad():
            self.last.weight[:, :8] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x.flatten(1))))


def test_products_of_weights_and_gradients_and_what_stays() -> None:
    """Without consumers, the first eight channels have the gradient 0; against autograd on each batch by itself."""
    network, task = Two(), ToyTask()
    products = loss_products(network, task, Runtime(device="cpu"), seed=3, batches=2)
    batches = list(islice(task.batches("train", 0, 3), 2))
    for number, (x, y) in enumerate(batches):
        gradients = torch.autograd.grad(task.loss(network(x), y), list(network.parameters()))
        for (name, parameter), gradient in zip(network.named_parameters(), gradients, strict=True):
            product = parameter.detach() * gradient
            torch.testing.assert_close(
                products[f"{name}:0"][number], product.flatten(1).sum(1) if product.dim() > 1 else product
            )
            if product.dim() > 1:
                torch.testing.assert_close(products[f"{name}:1"][number], product.sum(0))
    assert all(parameter.grad is None for parameter in network.parameters())
    space = ElasticSpace(network, input_shape=(1, 4, 4), widths=(0.5, 1.0), importance="taylor", gradients=products)
    narrow = space.build(space.largest.replace({"first.width": 8}))
    assert torch.equal(narrow.last.weight, network.last.weight[:, 8:])


def test_the_importance_of_a_model_with_a_name_is_a_file_beside_the_run(tmp_path: Path) -> None:
    model = "plugins.elastic.networks:SmallResNet"
    settings = {**SPACE, "arguments": {"inputs": 1, "classes": 10}, "importance": "taylor"}
    raw = configuration(model, "digits", limits={"flops": "<= 1M"}, space=settings)
    with pytest.raises(ConfigurationError, match="importance taylor needs gradients"):
        make_space({**raw["space"], "input_shape": [1, 8, 8]})
    done = prepared(raw, tmp_path / "run")
    assert done["space"]["gradients"] == str(tmp_path / "run-gradients.safetensors")
    first = (tmp_path / "run-gradients.safetensors").read_bytes()
    assert prepared(raw, tmp_path / "run") == done
    assert (tmp_path / "run-gradients.safetensors").read_bytes() == first  # so a resumed run has the same space
    assert isinstance(make_space({**done["space"], "input_shape": [1, 8, 8]}), ElasticSpace)
    assert prepared({**raw, "space": "resnet"}, None)["space"] == "resnet"


def make_space(spec: dict[str, Any]) -> Any:
    return complete_manager().registry.construct("spaces", spec, seed=0)


def test_the_teacher_of_narrower_networks() -> None:
    settings: dict[str, Any] = {"limits": {"flops": "<= 1M"}, "space": SPACE, "supernet_epochs": 1}
    for teacher, distill, strategy_teacher in (
        ("largest", True, "largest"),
        ("original", True, "initial"),
        ("none", False, "largest"),
    ):
        raw = configuration(digits_network(), "digits", teacher=teacher, **settings)  # type: ignore[arg-type]
        strategy = raw["stages"][0]["strategy"]
        assert (strategy["distill"], strategy["teacher"]) == (distill, strategy_teacher)
        assert raw["final"].get("distill") == ({"teacher": "built"} if teacher == "original" else None)


def test_the_original_teaches_without_a_supernet() -> None:
    """Regression: without a training before the search the teacher was ignored."""
    raw = configuration(digits_network(), "digits", limits={"flops": "<= 1M"}, space=SPACE, teacher="original")
    assert raw["final"]["distill"] == {"teacher": "built"}

    class Labels(Digits):
        def outputs(self) -> dict[str, Any]:
            return {"kind": "labels"}

    raw = configuration(digits_network(), Labels(), limits={"flops": "<= 1M"}, space=SPACE, teacher="original")
    assert "distill" not in raw["final"]  # its loss compares logits of exclusive classes


def test_measured_costs_have_intervals() -> None:
    rows = [
        ComparedNetwork(
            "original", {"accuracy": 0.5}, {"accuracy": (0.4, 0.6)}, {"flops": 1000, "ms": 2.5}, {"ms": (2, 3)}
        ),
        ComparedNetwork("random", {}, {}, {"flops": 500}),
    ]
    lines = text(rows).splitlines()
    assert lines[0].split() == ["network", "accuracy", "flops", "ms"]
    assert lines[1].split() == ["original", "0.5000", "[0.4000,", "0.6000]", "1,000", "2.5", "[2,", "3]"]
    assert lines[2].split() == ["random", "-", "500", "-"]


def test_relative_limits_are_those_of_the_original(tmp_path: Path) -> None:
    """The multiply-adds of the original by torch's counter, which counts two operations for each."""
    from torch.utils.flop_counter import FlopCounterMode

    network = digits_network().eval()
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, 8, 8))
    flops = counter.get_total_flops() // 2
    limits = {"flops": "<= 0.5 * largest", "params": "<= 3000", "latency_ms": "<= 0.5*largest"}
    raw = configuration(network, "digits", limits=limits, space=SPACE)
    done = prepared(raw, None)["problem"]["constraints"]
    assert done == {**limits, "flops": f"<= {0.5 * flops:.10g}"}
    model = {"name": "from_model", "model": "plugins.elastic.networks:SmallResNet"}
    named = {**raw, "space": {**model, "arguments": {"inputs": 1, "classes": 10}, **SPACE}}
    assert prepared(named, None)["problem"]["constraints"] == done
