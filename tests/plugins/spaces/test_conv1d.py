"""The space `conv1d`: contract, sizes and costs by hand, a plain network of the same weights, what is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from plugins.spaces.exports import check_exports
from safetensors.torch import save_file
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.evaluation import InitialWeights
from automl_nas.space import Architecture, SearchSpace
from automl_nas.testing import SupernetContract
from automl_nas_costs.models import Flops, Params
from automl_nas_spaces.conv1d import conv1d

TOY: dict[str, Any] = {
    "num_classes": 3,
    "input_shape": (2, 21),
    "widths": (4, 8),
    "multipliers": (0.5, 1.0),
    "min_depths": (1, 1),
    "max_depths": (2, 1),
    "kernels": (3, 5),
    "dilations": (1, 2),
}


class TestContract(SupernetContract):
    samples = 2

    def make_space(self) -> SearchSpace:
        return conv1d(**TOY)


def test_the_decisions() -> None:
    space = conv1d(**TOY)
    assert {name: decision.options for name, decision in space.decisions.items()} == {
        "stage1.width": (0.5, 1.0),
        "stage1.depth": (1, 2),
        "stage1.block1.kernel": (3, 5),
        "stage1.block1.dilation": (1, 2),
        "stage1.block2.kernel": (3, 5),
        "stage1.block2.dilation": (1, 2),
        "stage2.width": (0.5, 1.0),
        "stage2.block1.kernel": (3, 5),
        "stage2.block1.dilation": (1, 2),
    }
    assert space.weighable == frozenset()


def by_hand(values: Architecture) -> tuple[int, int]:
    """Return multiply-adds and parameters, counted from the description of the network."""
    length, channels = 21, 2
    flops = params = 0
    for stage, width in ((1, 4), (2, 8)):
        out = int(width * float(str(values[f"stage{stage}.width"])))
        length = -(-length // 2)
        flops += length * out * channels * 5
        params += out * channels * 5 + 2 * out
        for block in range(1, int(str(values.get(f"stage{stage}.depth", 1))) + 1):
            kernel = int(str(values[f"stage{stage}.block{block}.kernel"]))
            flops += length * out * (kernel + out)
            params += out * (kernel + out) + 4 * out
        channels = out
    return flops + channels * 3, params + channels * 3 + 3


def test_costs_by_hand_and_extraction() -> None:
    space = conv1d(**TOY)
    flops, params = Flops(space), Params(space)
    torch.manual_seed(0)
    supernet, x = space.build_supernet().eval(), torch.randn(2, 2, 21)
    for seed in range(10):
        chosen = space.sample(random.Random(seed))
        assert (flops.estimate(chosen), params.estimate(chosen)) == by_hand(chosen)
        assert torch.equal(supernet.extract(chosen)(x), supernet(x, chosen))


class Plain(nn.Module):
    """The network of one architecture, written anew: widths 2 and 8, one block each."""

    def __init__(self) -> None:
        super().__init__()
        self.stems = nn.ModuleList([nn.Conv1d(2, 2, 5, 2, 2, bias=False), nn.Conv1d(2, 8, 5, 2, 2, bias=False)])
        self.first = nn.ModuleList([nn.BatchNorm1d(2), nn.BatchNorm1d(8)])
        self.deep = nn.ModuleList(
            [
                nn.Conv1d(2, 2, 5, padding=4, dilation=2, groups=2, bias=False),
                nn.Conv1d(8, 8, 3, padding=1, groups=8, bias=False),
            ]
        )
        self.second = nn.ModuleList([nn.BatchNorm1d(2), nn.BatchNorm1d(8)])
        self.point = nn.ModuleList([nn.Conv1d(2, 2, 1, bias=False), nn.Conv1d(8, 8, 1, bias=False)])
        self.third = nn.ModuleList([nn.BatchNorm1d(2), nn.BatchNorm1d(8)])
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for stem, first, deep, second, point, third in zip(
            self.stems, self.first, self.deep, self.second, self.point, self.third, strict=True
        ):
            x = first(stem(x)).relu()
            x = (x + third(point(second(deep(x)).relu()))).relu()
        outputs: Tensor = self.head(x.mean(2))
        return outputs


def test_a_network_equals_one_written_anew() -> None:
    space = conv1d(**TOY)
    values: dict[str, object] = {name: decision.options[0] for name, decision in space.decisions.items()}
    values |= {"stage1.block1.kernel": 5, "stage1.block1.dilation": 2, "stage2.width": 1.0}
    torch.manual_seed(0)
    network, plain = space.build(space.validate(values)), Plain()
    order = [f"{part}.{stage}" for stage in (0, 1) for part in ("stems", "first", "deep", "second", "point", "third")]
    targets = [plain.get_submodule(path) for path in [*order, "head"]]
    sources = [module for module in network.modules() if isinstance(module, nn.Conv1d | nn.BatchNorm1d | nn.Linear)]
    for source, target in zip(sources, targets, strict=True):
        target.load_state_dict(source.state_dict())
    x = torch.randn(4, 2, 21)
    torch.testing.assert_close(network(x), plain(x))


def test_weights_of_a_network_begin_a_network_and_those_of_a_supernet_another(tmp_path: Path) -> None:
    space = conv1d(**TOY)
    chosen = space.sample(random.Random(0))
    torch.manual_seed(0)
    for make in (lambda: space.build(chosen), space.build_supernet):
        source, target = make(), make()
        save_file(source.state_dict(), tmp_path / "weights.safetensors")
        InitialWeights(str(tmp_path / "weights.safetensors")).load_into(target)
        state = target.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in source.state_dict().items())


@pytest.mark.slow
@pytest.mark.process
def test_exports(tmp_path: Path) -> None:
    space = conv1d(**TOY)
    check_exports(space.build(space.sample(random.Random(0))), space.input_shape, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kernels": (3, 4)}, "must be odd"),
        ({"dilations": ()}, "dilations needs different options"),
        ({"widths": (8,)}, "one number for each stage"),
        ({"min_depths": (3, 1)}, "more than the 2 of max_depths"),
        ({"multipliers": (0.1, 1.0)}, "one gives none"),
        ({"widths": (1, 8), "multipliers": (1.0, 1.5)}, "the same number of 1 channels"),
        ({"input_shape": (2, 3)}, "too short"),
        ({"input_shape": (20,)}, "channels, length"),
        (
            {"multipliers": (1.0,), "kernels": (3,), "dilations": (1,), "max_depths": (1, 1)},
            "nothing to search",
        ),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        conv1d(**{**TOY, **settings})
