"""Source that is written for a network makes the same network, and imports torch only."""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import automl_nas
from automl_nas.space import Architecture
from automl_nas.torchvision_import import import_torchvision
from automl_nas_export.package.layers import NoSourceError
from automl_nas_export.package.source import network_source
from automl_nas_spaces.shufflenet_v2 import from_codes, shufflenet_v2

_spec = importlib.util.spec_from_file_location("hard_networks", Path(__file__).parents[1] / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
hard = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hard)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 4, padding_idx=0)
        self.lstm = nn.LSTM(4, 5, num_layers=2, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(10, elementwise_affine=False)
        self.classify = nn.Linear(10, 3, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        outputs, _ = self.lstm(self.embed(tokens))
        return self.classify(self.norm(outputs[:, -1]))


class Scaled(nn.Conv2d):
    """A subclass of a layer of torch: with a parameter and a constant, a list of layers and a mapping of them."""

    def __init__(self) -> None:
        super().__init__(4, 4, 3, padding=1, padding_mode="reflect", groups=2)
        self.scale = nn.Parameter(torch.tensor(1.5), requires_grad=False)
        self.layers = nn.ModuleList([nn.PReLU(4), nn.Identity(), nn.GroupNorm(2, 4)])
        self.heads = nn.ModuleDict({"a": nn.MaxPool2d(3, stride=1, padding=1), "b": nn.AvgPool2d((2, 3), 1)})
        self.register_buffer("shift", torch.arange(4.0).view(4, 1, 1) / 3, persistent=False)
        self.register_buffer("count", torch.tensor(3), persistent=True)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x) * self.scale + self.shift + torch.tensor([math.inf, 0.5])[1]
        for layer in self.layers:
            x = layer(x)
        return self.heads["b"](x).clamp(min=-math.inf).mean((2, 3)) + self.heads["a"](x).sum((2, 3)) * self.count


class Shared(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1)
        self.block = nn.Sequential(nn.BatchNorm2d(4), self.first)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(torch.relu(self.first(x)))


def shufflenet() -> nn.Module:
    settings: dict[str, Any] = {"num_classes": 3, "input_shape": hard.SHAPE, "stem_stride": 1, "variant": "final"}
    space = shufflenet_v2(**settings, widths=(16, 32), repeats=(2, 2), strides=(1, 2))
    return space.build(from_codes(space, [0, 3, 2, 1]))


def extracted() -> nn.Module:
    """A network of a `ModuleSpace`, as it is delivered."""

    def model() -> nn.Module:
        kernels = automl_nas.OneOf([nn.Conv2d(4, 6, size, padding="same") for size in (1, 3)], name="kernel")
        return nn.Sequential(kernels, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))

    space = automl_nas.ModuleSpace(model, input_shape=hard.SHAPE)
    return space.build(Architecture({"kernel": space.decisions["kernel"].options[1]}))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    **hard.NETWORKS,
    "recurrent": Recurrent,
    "scaled": Scaled,
    "shared": Shared,
    "shufflenet": shufflenet,
    "extracted": extracted,
    "mobilenet": lambda: nn.Sequential(
        nn.Conv2d(4, 3, 1), import_torchvision("torchvision.models").mobilenet_v3_small(num_classes=3)
    ),
}


def written(network: nn.Module) -> tuple[str, dict[str, Any]]:
    source = network_source(network, "A network.", "float32")
    scope: dict[str, Any] = {}
    exec(compile(source, "network.py", "exec"), scope)  # noqa: S102
    return source, scope


def leaves(outputs: object) -> list[Tensor]:
    return torch.utils._pytree.tree_leaves(outputs)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_source_makes_the_same_network(name: str) -> None:
    network = NETWORKS[name]()
    if name == "mobilenet":
        network(torch.randn(4, 4, 32, 32))
    network.eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    attributes = {path: vars(module).keys() for path, module in network.named_modules()}
    source, scope = written(network)
    again = scope["build"]()
    assert {key: value.shape for key, value in again.state_dict().items()} == {k: v.shape for k, v in before.items()}
    again.load_state_dict(network.state_dict())
    again.eval()
    x = torch.randint(0, 7, (3, 5)) if name == "recurrent" else torch.randn(3, *hard.SHAPE)
    with torch.no_grad():
        expected, outputs = leaves(network(x)), leaves(again(x))
    assert len(expected) == len(outputs)
    for one, other in zip(expected, outputs, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)
    assert attributes == {path: vars(module).keys() for path, module in network.named_modules()}, "was changed"
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    tied = [len(list(each.parameters())) for each in (network, again)]
    assert tied[0] == tied[1], "tied parameters are one parameter"

    tree = ast.parse(source)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"__future__", "collections", "math", "torch", "safetensors.torch"}


def test_modules_of_equal_code_share_a_class_and_arguments_are_those_that_matter() -> None:
    blocks = [hard.Shuffled() for _ in range(3)]
    source, _ = written(nn.Sequential(*blocks, nn.Conv2d(4, 8, (3, 5), stride=2, padding=(1, 2), bias=False)).eval())
    assert source.count("class Shuffled") == 1
    assert source.count("Shuffled()") == 3
    assert "nn.Conv2d(4, 8, (3, 5), 2, (1, 2), bias=False)" in source


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class LargeConstant(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(4, 200), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) @ self.table


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    network[1].register_forward_hook(lambda module, inputs, output: output * 2)
    return network


def replaced() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(144, 3))
    network[1].forward = lambda x: x * 2  # type: ignore[method-assign]
    return network


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Sequential(nn.ReLU(), Branches()), r"the forward of 1: Branches .*must not depend on values"),
        (LargeConstant, r"the network: LargeConstant computes with a constant of 800 values"),
        (hooked, "1: Linear has forward hooks"),
        (replaced, "1: Linear has a forward of its own"),
    ],
)
def test_what_cannot_be_written_is_named(make: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(NoSourceError, match=reason):
        network_source(make().eval(), "A network.", "float32")
