"""A run whose networks begin with weights of the user's own does not go on with other weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from end_to_end.test_faults import run
from end_to_end.test_identity import settings
from torch import nn

import automl_nas
from automl_nas import ModuleSpace
from automl_nas.errors import RunDirectoryError
from automl_nas.space import KEEP, SearchSpace, replace
from automl_nas_elastic import ElasticSpace


def trained(seed: int) -> nn.Sequential:
    """Return a network as if a training had ended with the weights of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def elastic(seed: int) -> SearchSpace:
    return ElasticSpace(trained(seed), input_shape=(1, 8, 8))


def replaced(seed: int) -> SearchSpace:
    network = trained(seed)
    return ModuleSpace(lambda: replace(network, {"3": [KEEP, nn.GELU()]}), input_shape=(1, 8, 8))


def fresh(seed: int) -> SearchSpace:
    """Return a space whose networks draw all weights, some of them with NumPy."""

    class Head(nn.Linear):
        def __init__(self) -> None:
            super().__init__(16, 10)
            self.register_buffer("noise", torch.from_numpy(np.random.randn(10).astype(np.float32)))

    def network() -> nn.Module:
        return replace(nn.Sequential(*trained(seed)[:-1], Head()), {"3": [nn.ReLU(), nn.GELU()]})

    return ModuleSpace(network, input_shape=(1, 8, 8))


def recorded(path: Path) -> dict[str, str]:
    weights: dict[str, str] = json.loads((path / "identity.json").read_text(encoding="utf-8"))["space"]["weights"]
    return weights


@pytest.mark.parametrize("space", [elastic, replaced])
def test_a_run_goes_on_with_the_same_weights_only(tmp_path: Path, space: Callable[[int], SearchSpace]) -> None:
    whole = settings(space(0), final=None)
    run(whole, tmp_path)
    assert set(recorded(tmp_path)) == {"0.weight", "0.bias", "2.weight", "2.bias", "6.weight", "6.bias"}
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RunDirectoryError, match=r"another search space: the networks begin with other weights, '0\.w"):
        run(settings(space(1), final=None), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    run(settings(space(0), final=None), tmp_path)


def test_drawn_weights_are_no_part_of_a_run(tmp_path: Path) -> None:
    run(settings(fresh(0), final=None), tmp_path)
    assert recorded(tmp_path) == {}
    run(settings(fresh(1), final=None), tmp_path)


def test_a_result_is_read_with_a_space_of_any_weights(tmp_path: Path) -> None:
    """The network of a result has the weights that the run trained."""
    run(settings(elastic(0)), tmp_path)
    images = torch.randn(2, 1, 8, 8)
    outputs = [automl_nas.open_run(tmp_path, space=elastic(seed)).load_trained()(images) for seed in (0, 1)]
    assert torch.equal(*outputs)


def test_own_weights_are_those_of_the_network() -> None:
    network = trained(0).to(torch.bfloat16)
    space = ModuleSpace(lambda: replace(network, {"3": [KEEP, nn.GELU()]}), input_shape=(1, 8, 8))
    own = dict(space.own_weights)
    assert {name: tensor.dtype for name, tensor in own.items()} == dict.fromkeys(own, torch.bfloat16)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in own.items())
    drawn = ModuleSpace(lambda: replace(trained(0), {"3": [nn.ReLU(), nn.GELU()]}), input_shape=(1, 8, 8))
    assert not drawn.own_weights
