"""The space `mlp`: contract, networks and costs by hand, settings that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from automl_nas.errors import SpaceError
from automl_nas.run import complete_manager
from automl_nas.space import Architecture, SearchSpace, enumerate_all
from automl_nas.streams import stream
from automl_nas.testing import SupernetContract
from automl_nas_spaces.mlp import mlp

SMALL: dict[str, Any] = {
    "input_shape": (5,),
    "num_classes": 3,
    "width": (6, 8),
    "blocks": 2,
    "hidden_widths": (4, 8),
    "activations": ("relu", "tanh"),
    "normalisations": ("layer", "none"),
    "dropout": 0.2,
}


class TestMlp(SupernetContract):
    def make_space(self) -> SearchSpace:
        return mlp(**SMALL)


def test_the_decisions() -> None:
    options = {name: decision.options for name, decision in mlp(**SMALL).decisions.items()}
    assert options == {
        "width": (6, 8),
        "depth": (0, 1, 2),
        "block0.hidden": (4, 8),
        "block1.hidden": (4, 8),
        "normalisation": ("layer", "none"),
        "activation": ("relu", "tanh"),
    }
    assert set(mlp().decisions) == {"depth", *(f"block{k}.hidden" for k in range(3)), "activation"}


def test_the_number_of_different_networks() -> None:
    """Of two widths, two normalisations and two activations: a hidden width for each block that runs."""
    space = mlp(**SMALL)
    networks = {space.canonical(each) for each in enumerate_all(space.decisions)}
    assert len(networks) == 2 * 2 * 2 * (1 + 2 + 2 * 2)


def test_a_network_computes_what_its_description_says() -> None:
    space = mlp(**SMALL)
    architecture = Architecture(
        {
            "width": 6,
            "depth": 1,
            "block0.hidden": 4,
            "block1.hidden": 4,
            "normalisation": "layer",
            "activation": "tanh",
        }
    )
    supernet = space.build_supernet().eval()
    weights = {name.removeprefix("network."): tensor for name, tensor in supernet.state_dict().items()}
    x = torch.randn(7, 5)
    h = F.linear(x, weights["stem.weight"][:6], weights["stem.bias"][:6])
    norm = F.layer_norm(h, (6,))  # a fresh normalisation has scales of 1 and shifts of 0
    hidden = F.linear(norm, weights["blocks.0.expand.weight"][:4, :6], weights["blocks.0.expand.bias"][:4]).tanh()
    h = h + F.linear(hidden, weights["blocks.0.project.weight"][:6, :4], weights["blocks.0.project.bias"][:6])
    expected = F.linear(F.layer_norm(h, (6,)).tanh(), weights["head.weight"][:, :6], weights["head.bias"])
    # Sums of at most 8 terms in float32.
    torch.testing.assert_close(supernet(x, architecture), expected, rtol=1e-5, atol=1e-6)


def test_costs_are_those_of_the_layers() -> None:
    space = mlp(**SMALL)
    registry = complete_manager().registry
    models = [registry.construct("cost_models", name, [space]) for name in ("flops", "params")]
    for number in range(8):
        chosen = space.sample(stream(0, "x", number))
        width, depth = int(str(chosen["width"])), int(str(chosen["depth"]))
        hidden = [int(str(chosen[f"block{k}.hidden"])) for k in range(depth)]
        norms = (depth + 1) * 2 * width if chosen["normalisation"] == "layer" else 0
        flops = 5 * width + sum(2 * width * h for h in hidden) + 3 * width
        biases = width + sum(h + width for h in hidden) + 3
        assert [model.estimate(chosen) for model in models] == [flops, flops + biases + norms]


@pytest.mark.parametrize(
    "settings",
    [
        {"width": 0},
        {"width": (8, 6)},
        {"blocks": 0},
        {"min_blocks": 4},
        {"hidden_widths": ()},
        {"hidden_widths": (4, 4)},
        {"hidden_widths": (8, 4)},
        {"dropout": 1.0},
        {"activations": ()},
        {"normalisations": ()},
        {"num_classes": 0},
        {"input_shape": (0,)},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(SpaceError, match=next(iter(settings))):
        mlp(**settings)
