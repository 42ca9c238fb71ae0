from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from automl_nas.errors import RunFailedError
from automl_nas_export.verify import check_same, flat, probe


def check(network: nn.Module, exported: nn.Module, tolerance: float = 1e-3) -> None:
    def run(x: Tensor) -> Sequence[Tensor]:
        return [tensor for _, tensor in flat(exported(x))]

    check_same("file", network, run, (3,), tolerance)


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


class BakedIn(nn.Module):
    """Right at the batch sizes 1 and 2 only."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:2]


def test_the_tolerance_is_a_fraction_of_the_largest_output() -> None:
    # A factor of 1 + d makes a difference of exactly d of the largest output, for every scale.
    check(Times(1000.0), Times(1000.0 * (1 + 0.9e-3)))
    with pytest.raises(RunFailedError, match=r"file, batch size 1, output: .* \(1\.10e-03 of its largest value"):
        check(Times(1000.0), Times(1000.0 * (1 + 1.1e-3)))


def test_a_batch_size_baked_in_is_found() -> None:
    with pytest.raises(RunFailedError, match=r"batch size 3, output: shape \(2, 3\) instead of \(3, 3\)"):
        check(nn.Identity(), BakedIn())


@pytest.mark.parametrize(
    ("network", "exported", "match"),
    [
        (Times(float("nan")), Times(1.0), "the network itself gives NaN"),
        (Times(1.0), Times(float("nan")), "differs from the network by up to nan"),
        (Times(0.0), Times(1.0), "its values are all 0"),
        (nn.Identity(), nn.Linear(5, 5), "cannot be run at batch size 1: RuntimeError"),
    ],
)
def test_what_cannot_pass(network: nn.Module, exported: nn.Module, match: str) -> None:
    with pytest.raises(RunFailedError, match=match), torch.no_grad():
        check(network, exported)


def test_zeros_equal_zeros() -> None:
    check(Times(0.0), Times(0.0), tolerance=0.0)


def test_outputs_are_found_with_their_places() -> None:
    one, two, three = torch.ones(1), torch.ones(2), torch.ones(3)
    assert list(flat({"a": one, "b": (two, [three])})) == [
        ("output['a']", one),
        ("output['b'][0]", two),
        ("output['b'][1][0]", three),
    ]
    with pytest.raises(RunFailedError, match=r"output\[1\] is a str"):
        list(flat((one, "text")))


def test_another_number_of_outputs_is_told() -> None:
    with pytest.raises(RunFailedError, match="file has 2 outputs, the network 1"):
        check_same("file", nn.Identity(), lambda x: [x, x], (3,), 0.0)


def test_the_probe_has_the_networks_precision_and_is_the_same_each_time() -> None:
    assert probe(nn.Linear(3, 3).double(), (3,), 2).dtype == torch.float64
    assert probe(nn.Identity(), (3,), 2).dtype == torch.float32
    assert torch.equal(probe(nn.Identity(), (3,), 2), probe(nn.Identity(), (3,), 2))


def test_the_probe_is_of_the_tasks_samples_if_there_are_any() -> None:
    samples = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert torch.equal(probe(nn.Linear(3, 3), (3,), 3, samples), samples[[0, 1, 0]])
    assert probe(nn.Linear(3, 3).double(), (3,), 1, samples).dtype == torch.float64
    # Tokens remain integers, whatever the network's precision.
    tokens = probe(nn.Embedding(7, 2).double(), (3,), 3, samples.long())
    assert torch.equal(tokens, samples[[0, 1, 0]].long()) and tokens.dtype == torch.int64
