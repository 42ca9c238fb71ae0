"""`compress` in Python and on the command line: the limit is met, the original is in the table, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from plugins.elastic.networks import SmallResNet
from torch import nn

from automl_nas.cli import cli
from automl_nas.errors import ConfigurationError, InfeasibleError, UserError
from automl_nas_elastic import compress
from automl_nas_vision.digits import Digits

SECTIONS: dict[str, Any] = {"runtime": {"device": "cpu", "threads": 1}}
SPACE: dict[str, Any] = {"granularity": 4, "widths": (0.5, 1.0), "include": ["*.conv1.width", "head.width"]}


def digits_network() -> nn.Module:
    return SmallResNet(inputs=1, classes=10)


@pytest.mark.slow
def test_a_model_is_compressed(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = digits_network()
    done = compress(
        network,
        "digits",
        limits={"flops": "<= 0.8 * largest"},
        space=SPACE,
        supernet_epochs=1,
        trials=2,
        final_epochs=1,
        out=tmp_path / "run",
        progress="none",
        sections={**SECTIONS, "final": {"weights": "inherited", "train": {"epochs": 1}, "rehearse": False}},
    )
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
