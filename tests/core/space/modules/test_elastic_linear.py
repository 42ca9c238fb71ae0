"""Linear layers, embeddings, normalisation and parameters of searched width against torch's functions on slices."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError
from automl_nas.space import (
    Architecture,
    ElasticEmbedding,
    ElasticLayerNorm,
    ElasticLinear,
    ElasticParameter,
    ModuleSpace,
    Ordinal,
)
from automl_nas.testing import SupernetContract


class Tokens(nn.Module):
    """Tokens -> their vectors and positions -> a hidden layer whose width is a multiple -> one number."""

    def __init__(self) -> None:
        super().__init__()
        self.table = ElasticEmbedding(7, (4, 6, 10), name="width")
        self.positions = ElasticParameter((5, 10), partial(nn.init.trunc_normal_, std=0.02))
        self.norm = ElasticLayerNorm(10)
        self.expand = ElasticLinear(10, (0.5, 1.25, 2), name="ratio", times_input=True)
        self.project = ElasticLinear(20, (4, 6, 10), bias=False, name="width")
        self.head = ElasticLinear(10, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.table(tokens)
        x = x + self.positions(x)
        x = x + self.project(F.gelu(self.expand(self.norm(x))))
        outputs: Tensor = self.head(x.mean(1))
        return outputs


class TestElasticTokens(SupernetContract):
    def make_space(self) -> ModuleSpace:
        return ModuleSpace(Tokens, input_shape=(5,))

    def inputs(self, space: Any) -> Tensor:
        return torch.arange(20).reshape(4, 5) % 7


@pytest.mark.parametrize("width", [4, 6, 10])
@pytest.mark.parametrize(("ratio", "hidden"), [(0.5, {4: 2, 6: 3, 10: 5}), (1.25, {4: 5, 6: 7, 10: 12}), (2, None)])
def test_the_first_rows_and_columns_are_used(width: int, ratio: float, hidden: dict[int, int] | None) -> None:
    space = ModuleSpace(Tokens, input_shape=(5,))
    supernet = space.build_supernet()
    whole: Any = supernet.network
    wide = 2 * width if hidden is None else hidden[width]  # 7.5 and 12.5 are rounded down
    tokens = torch.arange(15).reshape(3, 5) % 7
    x = whole.table.weight[tokens][..., :width] + whole.positions.weight[:, :width]
    h = F.layer_norm(x, (width,), whole.norm.weight[:width], whole.norm.bias[:width])
    h = F.gelu(F.linear(h, whole.expand.weight[:wide, :width], whole.expand.bias[:wide]))
    x = x + F.linear(h, whole.project.weight[:width, :wide])
    expected = F.linear(x.mean(1), whole.head.weight[:, :width], whole.head.bias)
    # The same operations; a product may run over a slice or a copy.
    torch.testing.assert_close(supernet(tokens, {"width": width, "ratio": ratio}), expected, rtol=1e-5, atol=1e-6)
    network = supernet.extract({"width": width, "ratio": ratio})
    kinds = [type(module) for module in network.children()]
    assert [kinds[0], *kinds[2:]] == [nn.Embedding, nn.LayerNorm, nn.Linear, nn.Linear, nn.Linear]
    assert isinstance(network.get_submodule("positions"), torch.fx.GraphModule)
    shapes = {name: tuple(parameter.shape) for name, parameter in network.named_parameters()}
    assert shapes["positions.weight"] == (5, width) and shapes["expand.weight"] == (wide, width)
    assert torch.equal(network(tokens), supernet(tokens, {"width": width, "ratio": ratio}))


def test_a_name_ties_the_width_of_an_embedding_and_of_linear_layers() -> None:
    decisions = ModuleSpace(Tokens, input_shape=(5,)).decisions
    assert dict(decisions) == {"width": Ordinal((4, 6, 10)), "ratio": Ordinal((0.5, 1.25, 2))}


def test_options_may_have_other_names_than_widths() -> None:
    def heads() -> nn.Module:
        return nn.Sequential(OrderedDict(qkv=ElasticLinear(4, {1: 6, 3: 18}), out=ElasticLinear(18, 2)))

    space = ModuleSpace(heads, input_shape=(4,))
    assert dict(space.decisions) == {"qkv": Ordinal((1, 3))}
    network = space.build(Architecture({"qkv": 1}))
    assert [tuple(p.shape) for p in network.parameters()] == [(6, 4), (6,), (2, 6), (2,)]


def test_fresh_layers_are_drawn_for_their_own_fan_in() -> None:
    """torch's default is U(-b, b), b = 1/sqrt(fan_in): 1/2 after a width of 4, 1/32 after 1,024."""

    def wide() -> nn.Module:
        return nn.Sequential(ElasticLinear(3, [4, 1024], name="width"), ElasticLinear(1024, 256))

    space = ModuleSpace(wide, input_shape=(3,))
    for width, bound in ((4, 1 / 2), (1024, 1 / 32)):
        weight = space.build(Architecture({"width": width}))[1].weight  # type: ignore[index]
        # 1,024 uniform draws or more: that none comes within 5 % of the bound has probability below 0.95**1024 < 1e-22.
        assert 0.95 * bound < weight.abs().max() <= bound


def test_wrong_widths_are_refused() -> None:
    for widths, message in (((), "at least one"), ((0, 4), "at least 1"), ((2.5,), "whole numbers, not 2.5")):
        with pytest.raises(SpaceError, match=message):
            ElasticLinear(4, widths)
        with pytest.raises(SpaceError, match=message):
            ElasticEmbedding(4, widths)  # type: ignore[arg-type]
    for multiples, message in (((0.1,), "at least 1, not 0"), ((-1.0,), "above 0"), ((True,), "above 0")):
        with pytest.raises(SpaceError, match=message):
            ElasticLinear(4, multiples, times_input=True)
    narrow = nn.Sequential(ElasticLinear(9, 4), ElasticLayerNorm(3))
    with pytest.raises(SpaceError, match="at most 3 inputs, but its input has 4"):
        narrow(torch.zeros(1, 9))
    with pytest.raises(SpaceError, match="called before it was resolved"):
        ElasticLinear(4, (2, 4))(torch.zeros(1, 4))


def test_a_width_takes_no_weights() -> None:
    supernet = ModuleSpace(Tokens, input_shape=(5,)).build_supernet()
    with pytest.raises(SpaceError, match="'table' takes values only"):
        supernet(torch.zeros(1, 5, dtype=torch.long), {"width": torch.ones(3), "ratio": 2})
