"""The space `token_transformer`: contracts, padding, costs by formula, agreement with torch's own encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, SearchSpace
from automl_nas.streams import stream
from automl_nas.testing import SupernetContract
from automl_nas_costs.counting.counts import count, parameters
from automl_nas_spaces.token_transformer import token_transformer

SMALL: dict[str, Any] = {
    "num_classes": 3,
    "input_shape": (7,),
    "vocabulary": 11,
    "embeddings": (6, 8),
    "heads": (1, 2),
    "ratios": (0.5, 2.0),
    "depth": (1, 2),
    "head_width": 4,
}


class TestTokens(SupernetContract):
    def make_space(self) -> SearchSpace:
        return token_transformer(**SMALL, padding=0, drop_path=0.1)

    def inputs(self, space: SearchSpace) -> Tensor:
        return torch.arange(28).reshape(4, 7) % 11


def largest(space: SearchSpace) -> Architecture:
    return Architecture({name: decision.options[-1] for name, decision in space.decisions.items()})


def test_padding_does_not_change_the_outputs() -> None:
    """What comes after a sequence makes no difference: shorter inputs, and other vectors of the padding token."""
    torch.manual_seed(0)
    space = token_transformer(**SMALL, padding=0)
    network: Any = space.build(largest(space)).double().eval()
    short = torch.randint(1, 11, (5, 4))
    padded = torch.cat((short, torch.zeros(5, 3, dtype=torch.long)), 1)
    outputs = network(padded)
    with torch.no_grad():
        network.table.weight[0] = 9.0
    torch.testing.assert_close(network(padded), outputs, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        network.positions.weight = nn.Parameter(network.positions.weight[:4])
    torch.testing.assert_close(network(short), outputs, rtol=1e-10, atol=1e-10)
    assert bool(network(torch.zeros(2, 4, dtype=torch.long)).isfinite().all())


def test_without_padding_every_token_counts() -> None:
    space = token_transformer(**SMALL)
    network = space.build(largest(space)).eval()
    tokens = torch.randint(1, 11, (2, 7))
    changed = tokens.clone()
    changed[:, -1] = 0
    assert not torch.allclose(network(tokens), network(changed))


def test_a_layer_is_that_of_torch() -> None:
    torch.manual_seed(0)
    space = token_transformer(**SMALL)
    ours: Any = space.build(largest(space)).double().eval().get_submodule("layers.1")
    theirs = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True).double().eval()
    for parameter in ours.parameters():
        nn.init.normal_(parameter, std=0.5)
    state = ours.state_dict()
    # Of torch: all queries, all keys, all values; of ours: those of head 0, those of head 1.
    by_part = {
        n: state[f"attention.qkv.{n}"].unflatten(0, (2, 3, 4)).transpose(0, 1).flatten(0, 2) for n in ("weight", "bias")
    }
    renamed = {"self_attn.in_proj_weight": by_part["weight"], "self_attn.in_proj_bias": by_part["bias"]}
    names = {"attention.project": "self_attn.out_proj", "perceptron.expand": "linear1", "perceptron.project": "linear2"}
    for mine, other in {**names, "norm1": "norm1", "norm2": "norm2"}.items():
        renamed |= {f"{other}.{part}": state[f"{mine}.{part}"] for part in ("weight", "bias")}
    theirs.load_state_dict(renamed)
    x, kept = torch.randn(3, 7, 8, dtype=torch.float64), torch.ones(3, 7, dtype=torch.bool)
    kept[0, 5:] = False
    expected = theirs(x, src_key_padding_mask=~kept)
    outputs = ours(x, kept[:, None, None])
    torch.testing.assert_close(outputs[kept], expected[kept], rtol=1e-10, atol=1e-10)


def test_costs_are_those_of_the_formula() -> None:
    """That of AutoFormer's layers without relative positions; an embedding costs parameters, no multiply-adds."""
    space = token_transformer(**SMALL)
    for number in range(6):
        chosen = space.sample(stream(0, "x", number))
        e, depth, n = int(str(chosen["embedding"])), int(str(chosen["depth"])), 7
        macs, params = 3 * e, 11 * e + n * e + 2 * e + 3 * e + 3
        for layer in range(depth):
            q = 4 * int(str(chosen[f"layer{layer}.heads"]))
            m = int(e * float(str(chosen[f"layer{layer}.ratio"])))
            macs += 3 * n * e * q + 2 * n * n * q + n * q * e + 2 * n * e * m
            params += 3 * e * q + 3 * q + q * e + e + 2 * e * m + m + e + 4 * e
        assert sum(count(space, chosen).macs.values()) == macs
        assert sum(parameters(space, chosen).values()) == params


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"padding": 11}, "padding must be a token from 0 to 10"),
        ({"padding": -1}, "padding"),
        ({"vocabulary": 0}, "vocabulary"),
        ({"input_shape": (3, 4)}, r"\(length,\)"),
        ({"heads": ()}, "heads"),
        ({"depth": (3, 2)}, "depth"),
        ({"dropout": -0.1}, "dropout"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        token_transformer(**{**SMALL, **settings})
