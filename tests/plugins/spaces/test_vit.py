"""The space `vit`: contract, the figures of AutoFormer and ViT to the unit, attention against loops and torchvision."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, ModuleSpace, SearchSpace, enumerate_all
from automl_nas.testing import SupernetContract
from automl_nas.torchvision_import import import_torchvision
from automl_nas_costs.counting.counts import count, parameters
from automl_nas_spaces.vit import from_torchvision, vit

SMALL: dict[str, Any] = {
    "num_classes": 3,
    "input_shape": (2, 8, 12),
    "patch": 4,
    "embeddings": (8, 12),
    "heads": (1, 2),
    "ratios": (0.5, 2.0),
    "depth": (1, 2),
    "head_width": 4,
    "distance": 1,
}
PLAIN: dict[str, Any] = {"relative_positions": False, "pool": "token", "eps": 1e-6}


class TestAutoFormer(SupernetContract):
    def make_space(self) -> SearchSpace:
        return vit(**SMALL, drop_path=0.1)


class TestViT(SupernetContract):
    def make_space(self) -> SearchSpace:
        return vit(**SMALL, **PLAIN, dropout=0.1)


def test_the_decisions_and_the_number_of_different_networks() -> None:
    space = vit(**SMALL)
    assert set(space.decisions) == {
        "embedding",
        "depth",
        *(f"layer{k}.{part}" for k in (0, 1) for part in ("heads", "ratio")),
    }
    networks = {space.canonical(each) for each in enumerate_all(space.decisions)}
    assert len(networks) == 2 * (4 + 4**2)


RATIOS = {
    "tiny": (3.5, 3.5, 3, 3.5, 3, 3, 4, 4, 3.5, 4, 3.5, 4, 3.5),
    "small": (3, 3.5, 3, 3.5, 4, 4, 4, 4, 4, 4, 4, 3.5, 4),
    "base": (3.5, 3.5, 4, 3.5, 4, 3.5, 3.5, 3, 4, 4, 3, 4, 3, 3.5),
}
HEADS = {
    "tiny": (3,) * 10 + (4, 3, 3),
    "small": (6, 6, 5, 7, 5, 5, 5, 6, 6, 7, 7, 6, 7),
    "base": (9, 9, 9, 9, 9, 10, 9, 9, 10, 9, 10, 9, 9, 10),
}
EMBEDDING = {"tiny": 192, "small": 384, "base": 576}
# The authors' code: networks, and (parameters, multiply-adds with relative positions) of the smallest and the largest
# one and of the published one; multiply-adds without relative positions of the latter.
FIGURES = {
    "tiny": (1_056_964_608, (5_366_056, 1_345_368_576), (10_517_272, 2_541_425_024), (5_867_944, 1_481_938_432)),
    "small": (
        77_103_263_459_313,
        (13_057_320, 3_065_331_200),
        (34_790_440, 7_684_024_320),
        (22_891_432, 5_161_400_832),
    ),
    "base": (
        10_108_977_168_384,
        (41_687_896, 9_300_287_616),
        (76_882_264, 16_537_806_208),
        (53_691_688, 11_691_179_008),
    ),
}
WITHOUT_RELATIVE = {"tiny": 1_283_236_352, "small": 4_773_931_776, "base": 11_045_397_248}


def figures(space: ModuleSpace, architecture: Architecture) -> tuple[int, int]:
    """Return parameters and multiply-adds, counted on tensors without data."""
    return sum(parameters(space, architecture).values()), sum(count(space, architecture).macs.values())


def found(space: ModuleSpace, preset: str) -> Architecture:
    values: dict[str, Any] = {name: decision.options[0] for name, decision in space.decisions.items()}
    values |= {"embedding": EMBEDDING[preset], "depth": len(HEADS[preset])}
    for layer, (heads, ratio) in enumerate(zip(HEADS[preset], RATIOS[preset], strict=True)):
        values |= {f"layer{layer}.heads": heads, f"layer{layer}.ratio": float(ratio)}
    return space.validate(values)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["tiny", "small", "base"])
def test_the_presets_are_the_spaces_of_autoformer(preset: Any) -> None:
    space = vit(preset=preset)
    number, smallest, largest, published = FIGURES[preset]
    per_layer = [
        math.prod(len(space.decisions[f"layer{layer}.{part}"].options) for part in ("heads", "ratio"))
        for layer in range(space.decisions["depth"].options[-1])  # type: ignore[arg-type]
    ]
    depths = space.decisions["depth"].options
    networks = sum(math.prod(per_layer[:depth]) for depth in depths)  # type: ignore[misc]
    assert len(space.decisions["embedding"].options) * networks == number
    ends = [Architecture({n: d.options[place] for n, d in space.decisions.items()}) for place in (0, -1)]
    assert [figures(space, end) for end in ends] == [smallest, largest]
    # The published network of AutoFormer-T has hidden layers of ratio 3, which the published range lacks.
    ratios = (3.0, 3.5, 4.0)
    wide = vit(preset=preset, ratios=ratios)
    assert figures(wide, found(wide, preset)) == published
    without = vit(preset=preset, ratios=ratios, relative_positions=False)
    assert figures(without, found(without, preset))[1] == WITHOUT_RELATIVE[preset]


@pytest.mark.parametrize(
    ("preset", "embeddings", "number"),
    [
        ("tiny", (192, 216, 240, 256), 11_669_224),
        ("small", (320, 384, 448), 34_790_440),
        ("base", (528, 576, 624, 640), 80_160_360),
    ],
)
def test_the_supernets_of_autoformer(preset: Any, embeddings: tuple[int, ...], number: int) -> None:
    """Those of T and B are wider than the widest embedding that is searched."""
    with torch.device("meta"):
        supernet = vit(preset=preset, embeddings=embeddings).build_supernet()
    assert sum(parameter.numel() for parameter in supernet.parameters()) == number


def test_vit_b_16_is_a_member() -> None:
    """As torchvision's, of whose multiply-adds 715,327,488 are products of queries, keys and values."""
    space = vit(embeddings=(384, 768), heads=(6, 12), ratios=(2.0, 4.0), depth=(10, 12), **PLAIN)
    largest = Architecture({name: decision.options[-1] for name, decision in space.decisions.items()})
    assert figures(space, largest) == (86_567_656, 17_563_828_224)


def test_a_member_with_the_weights_of_torchvision_computes_the_same() -> None:
    torch.manual_seed(0)
    theirs = (
        import_torchvision("torchvision.models")
        .VisionTransformer(
            image_size=8, patch_size=4, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16, num_classes=3
        )
        .eval()
    )
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.5)  # theirs begin at zero in the head and in biases
    space = vit(**{**SMALL, **PLAIN, "input_shape": (3, 8, 8), "embeddings": (4, 8)})
    supernet = space.build_supernet().eval()
    ours = supernet.extract(Architecture({n: d.options[-1] for n, d in space.decisions.items()} | {"embedding": 8}))
    ours.load_state_dict(from_torchvision(theirs.state_dict(), head_width=4))
    x = torch.randn(5, 3, 8, 8)
    # Two layers in float32, in another order of operations.
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-4)


def test_attention_with_relative_positions_is_the_sum_over_pairs() -> None:
    """Each head alone, by loops over pairs of tokens: section 3.2 of AutoFormer, equations 4 and 5."""
    torch.manual_seed(0)
    space = vit(**SMALL)
    supernet = space.build_supernet().double().eval()
    for parameter in supernet.parameters():
        torch.nn.init.normal_(parameter)
    architecture = Architecture({n: d.options[-1] for n, d in space.decisions.items()})
    attention: Any = supernet.extract(architecture).get_submodule("layers.1.attention")
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    places = [None, *((row, column) for row in range(2) for column in range(3))]

    def entry(table: Any, query: int, key: int) -> torch.Tensor:
        one, two = places[query], places[key]
        if one is None or two is None:
            return table.rows[0] + table.columns[0]
        rows, columns = (max(-1, min(1, b - a)) for a, b in zip(one, two, strict=True))
        return table.rows[rows + 2] + table.columns[columns + 2]

    mixed = torch.zeros(2, 7, 8, dtype=torch.float64)
    for head in range(2):
        weight, bias = (
            attention.qkv.weight[12 * head : 12 * (head + 1)],
            attention.qkv.bias[12 * head : 12 * (head + 1)],
        )
        q, k, v = (x @ weight.T + bias).split(4, -1)
        for token in range(7):
            scores = [(q[:, token] * (k[:, key] + entry(attention.keys, token, key))).sum(-1) / 2 for key in range(7)]
            shares = torch.stack(scores, -1).softmax(-1)
            for key in range(7):
                part = shares[:, key, None] * (v[:, key] + entry(attention.values, token, key))
                mixed[:, token, 4 * head : 4 * (head + 1)] += part
    expected = mixed @ attention.project.weight.T + attention.project.bias
    torch.testing.assert_close(attention(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("settings", [{}, PLAIN])
def test_a_head_is_the_same_whatever_the_number_of_heads(settings: dict[str, Any]) -> None:
    """With the second head's columns of the projection at zero, two heads compute what one computes."""
    space = vit(**SMALL, **settings)
    supernet = space.build_supernet().double().eval()
    for name, parameter in supernet.named_parameters():
        torch.nn.init.normal_(parameter)
        if name.endswith("attention.project.weight"):
            with torch.no_grad():
                parameter[:, 4:] = 0
    x = torch.randn(3, 2, 8, 12, dtype=torch.float64)
    base = {name: decision.options[-1] for name, decision in space.decisions.items()}
    one, two = ({**base, "layer0.heads": heads, "layer1.heads": heads} for heads in (1, 2))
    torch.testing.assert_close(supernet(x, one), supernet(x, two), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 5}, "8x12 cannot be divided into patches of 5x5"),
        ({"patch": 0}, "patch must be"),
        ({"heads": (2, 1)}, "heads must be .* increasing"),
        ({"embeddings": (8, 8)}, "embeddings needs different"),
        ({"ratios": (-1.0,)}, "ratios must be"),
        ({"depth": (2, 1)}, "depth must be"),
        ({"depth": (0, 1)}, "at least 1"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"num_classes": 0}, "num_classes"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        vit(**{**SMALL, **settings})
