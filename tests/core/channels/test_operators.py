"""Which channels may vary behind an operator, judged by brute force: by permuting channels, and by networks made anew.

Channels have no order: if a layer produces them in another one, and the next layer reads them in it, a network that
treats them alike has the same output. Where it has not, their positions matter, and they must be fixed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.channels import Axis, Narrowing, Plan, owners_of, traced

WIDTH = 6
SHAPE = (3, 5, 5)
KEPT = [0, 2, 5]


class Between(nn.Module):
    """A layer, an operator, and a layer that reads what it returns."""

    def __init__(self, width: int, operator: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.operator = nn.Conv2d(3, width, 3, padding=1), operator
        self.last = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.operator(self.first(x)))  # type: ignore[no-any-return]


def along_channels(x: Tensor, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of rows to the channels of each pixel."""
    return apply(x.permute(0, 2, 3, 1).flatten(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])


def numbers(x: Tensor) -> Tensor:
    """Return values, one for each channel, as images."""
    return x.view(-1, 1, 1)


def ones_added(x: Tensor) -> Tensor:
    return x * numbers(torch.ones(x.shape[1]).cumsum(0))


def changed_at_the_start(x: Tensor) -> Tensor:
    table = torch.zeros(x.shape[1])
    table[0] = 1
    return x + numbers(table)


EQUAL: dict[str, Callable[[Tensor], Tensor]] = {
    "nothing": lambda x: x,
    "relu": torch.relu,
    "clamp": lambda x: x.clamp(-0.1, 0.2),
    "larger of two": lambda x: torch.max(x, 0.5 * x),
    "reversed rows": lambda x: x.flip(2, 3),
    "shifted rows": lambda x: x.roll((1, 2), (2, 3)),
    "shifted by nothing": lambda x: x.roll(0, 1),
    "padded and cut rows": lambda x: F.pad(x, (1, -1, -1, 1)),
    "sums along rows": lambda x: x.cumsum(3),
    "softmax of rows": lambda x: x.softmax(3),
    "average pooling": lambda x: F.avg_pool2d(x, 3, 1, 1),
    "maximum pooling": lambda x: F.max_pool2d(x, 3, 1, 1),
    "reflection": lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
    "upsampling": lambda x: F.interpolate(x, scale_factor=2.0),
    "mean of channels": lambda x: x * x.mean(1, keepdim=True),
    "mean and variance": lambda x: x / (1 + x.var((2, 3), correction=1, keepdim=True)),
    "variance of channels": lambda x: x / (1 + x.var(1, correction=0, keepdim=True)),
    "largest channel": lambda x: x - x.max(1, keepdim=True).values,
    "logarithm of a sum": lambda x: x - x.logsumexp(1, keepdim=True),
    "norm": lambda x: x / x.norm(),
    "norm of another order": lambda x: x / x.norm(p=1),
    "norm with an order": lambda x: x / torch.linalg.vector_norm(x, 3.0),
    "largest absolute value": lambda x: x / x.norm(p=float("inf")),
    "norm of channels": lambda x: x / (1 + x.norm(p=1, dim=1, keepdim=True)),
    "norm of rows": lambda x: x / (1 + torch.linalg.vector_norm(x, 1, (2, 3), True)),
    "largest pixel's place": lambda x: x + x.flatten(2).argmax(2)[..., None, None],
    "ones": lambda x: x * numbers(torch.ones(x.shape[1])) + numbers(torch.full((x.shape[1],), 0.5)),
    "zeros": lambda x: x + torch.zeros_like(x),
    "other layout": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "flattened and back": lambda x: x.flatten(2).transpose(1, 2).transpose(1, 2).unflatten(2, x.shape[2:]),
    "twice": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "stacked": lambda x: torch.stack([x, torch.relu(x)]).sum(0),
}
POSITIONAL: dict[str, Callable[[Tensor], Tensor]] = {
    "reversed": lambda x: x.flip(1),
    "reversed with rows": lambda x: x.flip((-3, 3)),
    "shifted": lambda x: x.roll(2, 1),
    "shifted with rows": lambda x: x.roll((1, -1), (3, 1)),
    "shifted as a whole": lambda x: x.roll(30),
    "padded and cut": lambda x: F.pad(x, (0, 0, 0, 0, 1, -1)),
    "sums of those before": lambda x: x.cumsum(1),
    "products of those before": lambda x: x.cumprod(1),
    "largest before": lambda x: x.cummax(1).values,
    "logarithms of sums before": lambda x: x.logcumsumexp(1),
    "sorted": lambda x: x.sort(1).values,
    "differences": lambda x: x - F.pad(x.diff(dim=1), (0, 0, 0, 0, 1, 0)),
    "turned": lambda x: x[..., :1].rot90(2, (1, 2)) + x,
    "frequencies": lambda x: torch.fft.fft(x, dim=1).real,
    "lower triangle": lambda x: along_channels(x, torch.tril),
    "place of the largest": lambda x: x + x.argmax(1, keepdim=True),
    "place beside the largest": lambda x: x + x.max(1, keepdim=True).indices,
    "average of neighbours": lambda x: along_channels(x, lambda rows: F.avg_pool1d(rows, 3, 1, 1)),
    "largest of neighbours": lambda x: along_channels(x, lambda rows: F.max_pool1d(rows, 3, 1, 1)),
    "convolution along channels": lambda x: along_channels(
        x.mean((2, 3), keepdim=True), lambda rows: F.conv1d(rows, torch.tensor([[[1.0, 2, 3]]]).to(x), padding=1)
    ),
    "local response": lambda x: F.local_response_norm(x, 3, alpha=1.0),
    "numbered": lambda x: x * numbers(torch.arange(x.shape[1])),
    "spread": lambda x: x * numbers(torch.linspace(0, 1, x.shape[1])),
    "numbered by sums": ones_added,
    "one marked": changed_at_the_start,
    "a matrix of code": lambda x: torch.einsum("nchw,cd->ndhw", x, torch.ones(x.shape[1], x.shape[1]).tril().to(x)),
    "a part of the identity": lambda x: x * numbers(torch.eye(x.shape[1])[0]),
    "index": lambda x: x[:, torch.arange(x.shape[1] - 1, -1, -1)],
}


def example(operator: Callable[[Tensor], Tensor]) -> tuple[nn.Module, Axis, Narrowing]:
    """Return a network, the axis of its inner channels, and what narrows it."""
    torch.manual_seed(0)
    network = Between(WIDTH, operator).eval()
    trace = traced(network, SHAPE)
    atom = next(atom for atom, owners in owners_of(trace).items() if str(owners[0]) == "first.weight[0]")
    return network, atom, Narrowing(network, trace, [atom])


def taken(network: nn.Module, small: nn.Module, places: list[int]) -> nn.Module:
    """Give a network some of the inner channels of another one, in an order."""
    first, last = network.first, network.last
    small.load_state_dict(
        {
            "first.weight": first.weight[places],
            "first.bias": first.bias[places],
            "last.weight": last.weight[:, places],
            "last.bias": last.bias,
        }
    )
    return small.eval()


def outputs(one: nn.Module, other: nn.Module) -> tuple[Tensor, Tensor]:
    x = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return copy.deepcopy(one).double()(x), copy.deepcopy(other).double()(x)


def order_matters(network: nn.Module, operator: Callable[[Tensor], Tensor]) -> bool:
    one, other = outputs(network, taken(network, Between(WIDTH, operator), [3, 5, 0, 4, 1, 2]))
    return not torch.allclose(one, other, rtol=0, atol=1e-12)  # sums of some hundred numbers of order 1


@pytest.mark.parametrize("operator", EQUAL.values(), ids=EQUAL)
def test_channels_that_are_treated_alike_vary(operator: Callable[[Tensor], Tensor]) -> None:
    network, atom, narrowing = example(operator)
    assert not order_matters(network, operator), "the case itself"
    assert atom.fixed is None
    plan = Plan()
    plan.keep(atom, np.array(KEPT))
    one, other = outputs(narrowing.extract(network, plan), taken(network, Between(len(KEPT), operator), KEPT))
    assert torch.equal(one, other)


@pytest.mark.parametrize("operator", POSITIONAL.values(), ids=POSITIONAL)
def test_channels_whose_positions_matter_are_fixed_with_a_reason(operator: Callable[[Tensor], Tensor]) -> None:
    network, atom, _ = example(operator)
    assert order_matters(network, operator), "the case itself"
    assert atom.fixed is not None
    # What reshapes made of several fixed dimensions has no reason of its own.
    assert atom.fixed or operator in [
        POSITIONAL[name] for name in ("differences", "local response", "a matrix of code")
    ]


def test_channels_that_share_a_softmax_are_fixed() -> None:
    # Their order does not matter, but their number does: one whose inputs are all 0 has a share, too.
    assert example(lambda x: x.softmax(1))[1].fixed


def test_a_rule_that_fails_fixes_what_the_operator_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    from automl_nas.channels import rules

    def broken(*_: object) -> object:
        raise IndexError("of the rule")

    for rule in (broken, lambda *_: []):
        monkeypatch.setitem(rules._RULES, "relu", rule)
        assert example(torch.relu)[1].fixed == "the operator relu has no rule"
