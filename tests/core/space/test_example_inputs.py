"""Inputs for networks of which the shape of an input is known: floating numbers, or tokens where they refuse them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from automl_nas.space import MetaPass, example_input, run_on_example


class Indexed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.arange(12.0).reshape(4, 3))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.table[tokens]


class OneHot(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return F.one_hot(tokens, 4)


class Buffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("network", "dtype"),
    [
        (nn.Linear(3, 2), torch.float32),
        (nn.Linear(3, 2).double(), torch.float64),
        (nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 2)).half(), torch.float16),
        (Buffer(), torch.float64),
        (nn.ReLU(), torch.float32),
    ],
    ids=["float", "double", "half", "buffer", "no tensors"],
)
def test_zeros_have_the_type_of_the_network(network: nn.Module, dtype: torch.dtype) -> None:
    inputs = example_input(network, (5, 3), batch=2)
    assert inputs.dtype == dtype
    assert inputs.shape == (2, 5, 3)
    assert not inputs.any()


def test_zeros_are_where_the_network_is_unless_told() -> None:
    assert example_input(nn.Linear(3, 2, device="meta"), (3,)).is_meta
    assert example_input(nn.ReLU(), (3,)).device.type == "cpu"
    assert example_input(nn.Linear(3, 2), (3,), device="meta").is_meta


@pytest.mark.parametrize("network", [nn.Embedding(4, 3), Indexed(), OneHot()], ids=lambda each: type(each).__name__)
def test_a_network_of_tokens_runs(network: nn.Module) -> None:
    assert torch.equal(run_on_example(network, torch.zeros(2, 5)), network(torch.zeros(2, 5, dtype=torch.int64)))


@pytest.mark.parametrize("network", [nn.Embedding(4, 3), Indexed()], ids=lambda each: type(each).__name__)
def test_a_network_of_tokens_runs_on_meta(network: nn.Module) -> None:
    network = network.to("meta")
    with MetaPass():
        assert run_on_example(network, example_input(network, (5,), batch=2)).shape == (2, 5, 3)


def test_a_network_of_floats_runs_once_and_its_errors_are_its_own() -> None:
    calls: list[torch.dtype] = []

    def run(inputs: Tensor) -> Tensor:
        calls.append(inputs.dtype)
        return nn.Linear(3, 2)(inputs)

    assert run_on_example(run, torch.zeros(1, 3)).shape == (1, 2)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run_on_example(run, torch.zeros(1, 4))
    assert calls == [torch.float32] * 2


def test_all_inputs_become_tokens() -> None:
    first, second = nn.Embedding(4, 3), nn.Embedding(4, 3)

    def run(left: Tensor, right: Tensor) -> tuple[torch.dtype, torch.dtype]:
        first(left), second(right)
        return left.dtype, right.dtype

    assert run_on_example(run, torch.randn(2, 5), torch.randn(2, 4)) == (torch.int64, torch.int64)
