"""`removable`, judged by brute force: a network made anew without a channel, beside the whole one with zeros there."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.channels import TracedTensor, owners_of, removable, traced

WIDTH, GONE = 6, 2


class Between(nn.Module):
    """A layer, something, and a layer that reads it."""

    def __init__(self, width: int, between: Callable[[int], nn.Module], bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, padding=1, bias=bias)
        self.between = between(width)
        self.last = nn.Conv2d(width, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.between(self.first(x)))  # type: ignore[no-any-return]


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(width, 5, 1), nn.Conv2d(5, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class Beside(nn.Module):
    """Adds, concatenates or multiplies another layer's channels."""

    def __init__(self, width: int, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.other, self.join = nn.Conv2d(width, width, 1), join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(x, self.other(x))


def function(apply: Callable[[Tensor], Tensor]) -> Callable[[int], nn.Module]:
    return lambda width: Function(apply)


def beside(join: Callable[[Tensor, Tensor], Tensor]) -> Callable[[int], nn.Module]:
    return lambda width: Beside(width, join)


def in_place_on_a_view(x: Tensor) -> Tensor:
    x.view(x.shape[0], -1).add_(1)
    return x


KEEPS = {
    "nothing": nn.Identity,
    "relu": nn.ReLU,
    "relu in place": lambda: nn.ReLU(inplace=True),
    "relu6": nn.ReLU6,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "leaky relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "power": lambda: Function(lambda x: x.abs() ** 1.5),
    "clamp around zero": lambda: Function(lambda x: x.clamp(-0.1, 0.2)),
    "by a number": lambda: Function(lambda x: -x / 3 * 0.5),
    "by its own gate": lambda: Function(lambda x: x * torch.sigmoid(x)),
    "share of the sum": lambda: Function(lambda x: x / x.abs().sum((1, 2, 3), keepdim=True)),
    "max pooling": lambda: nn.MaxPool2d(3, stride=1),
    "average pooling": lambda: nn.AvgPool2d(2),
    "adaptive pooling": lambda: nn.AdaptiveAvgPool2d(2),
    "upsampling": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "reflection": lambda: nn.ReflectionPad2d(1),
    "zero padding": lambda: nn.ZeroPad2d(1),
    "other layout": lambda: Function(lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)),
    "flattened and back": lambda: Function(lambda x: x.flatten(2).transpose(1, 2).transpose(1, 2).reshape(2, -1, 5, 5)),
    "sum with itself": lambda: Function(lambda x: x + F.relu(x) - torch.tanh(x)),
    "spatial mean": lambda: Function(lambda x: x - x.mean((2, 3), keepdim=True)),
    "spatial maximum": lambda: Function(lambda x: x.amax((2, 3), keepdim=True)),
    "larger of two": lambda: Function(lambda x: torch.maximum(x, 0.5 * x)),
    "two halves again": lambda: Function(lambda x: torch.cat([x, x], 1)[:, : x.shape[1]]),
    "dropout": lambda: nn.Dropout2d(0.5),
}
SHIFTS = {
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "hardsigmoid": nn.Hardsigmoid,
    "cosine": lambda: Function(torch.cos),
    "exponential": lambda: Function(torch.exp),
    "plus a number": lambda: Function(lambda x: x + 0.3),
    "minus from a number": lambda: Function(lambda x: 1 - x),
    "clamp above zero": lambda: Function(lambda x: x.clamp(0.1, 0.2)),
    "hardtanh above zero": lambda: nn.Hardtanh(0.2, 0.5),
    "power zero": lambda: Function(lambda x: x.abs() ** 0.0),
    "padding with ones": lambda: nn.ConstantPad2d(1, 1.0),
    "mean of channels": lambda: Function(lambda x: x * x.mean(1, keepdim=True)),
    "maximum of channels": lambda: Function(lambda x: x * x.amax(1, keepdim=True)),
    "softmax of channels": lambda: nn.Softmax(1),
    "softmax of pixels": lambda: nn.Softmax(2),
    "norm of channels": lambda: Function(lambda x: F.normalize(x, dim=1) * x.std(1, keepdim=True)),
    "neighbours among channels": lambda: Function(
        lambda x: F.avg_pool1d(x.flatten(2).transpose(1, 2), 3, 1, 1).transpose(1, 2).reshape(2, -1, 5, 5)
    ),
    "shift in place through a view": lambda: Function(in_place_on_a_view),
    "share of its own maximum": lambda: Function(lambda x: x / x.amax((2, 3), keepdim=True)),  # 0 / 0
    "sums of the channels before": lambda: Function(lambda x: x.cumsum(1)),
}
LAYERS: dict[str, tuple[Callable[[int], nn.Module], bool]] = {
    "batch normalisation": (nn.BatchNorm2d, False),
    "group normalisation": (lambda width: nn.GroupNorm(1, width), False),
    "depthwise": (lambda width: nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False), True),
    "depthwise with a bias": (lambda width: nn.Conv2d(width, width, 3, padding=1, groups=width), False),
    "gate": (Gate, True),
    "product with a layer": (beside(lambda x, y: x * torch.exp(y)), True),
    "sum with a layer": (beside(lambda x, y: x + y), False),
}
CASES = [
    *((name, lambda width, make=make: make(), True) for name, make in KEEPS.items()),
    *((name, lambda width, make=make: make(), False) for name, make in SHIFTS.items()),
    *((name, make, goes) for name, (make, goes) in LAYERS.items()),
]


def narrower(whole: nn.Module, small: nn.Module) -> nn.Module:
    """Give a network of one channel less the weights of the others: where a size differs, one index is left out."""
    state = {}
    for name, tensor in small.state_dict().items():
        own = whole.state_dict()[name]
        for dim, (size, smaller) in enumerate(zip(own.shape, tensor.shape, strict=True)):
            if size != smaller:
                own = own.index_select(dim, torch.tensor([place for place in range(size) if place != GONE]))
        state[name] = own
    small.load_state_dict(state)
    return small.eval()


def zeroed(network: Between, x: Tensor) -> Tensor:
    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        mask = torch.ones(output.shape[1], dtype=output.dtype)
        mask[GONE] = 0
        return output * mask.view(-1, 1, 1)

    twin = copy.deepcopy(network)
    twin.first.register_forward_hook(hook)
    return twin(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("make", "goes"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_operators_do_to_a_channel_of_zeros(make: Callable[[int], nn.Module], goes: bool) -> None:
    torch.manual_seed(0)
    whole = Between(WIDTH, make).double().eval()
    for name, tensor in whole.state_dict().items():
        if "num_batches" not in name and name.startswith("between"):
            tensor.uniform_(0.5, 1.5)
    small = narrower(whole, Between(WIDTH - 1, make).double())
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        same = torch.allclose(zeroed(whole, x), small(x), rtol=0, atol=1e-12)  # sums of some ten numbers of order 1
    assert same is goes, "the case itself"
    trace = traced(whole, (3, 5, 5))
    first = {call.path: call.result for call in trace.calls}["first"]
    assert isinstance(first, TracedTensor)
    atom = next(atom for atom, owners in owners_of(trace).items() if str(owners[0]) == "first.weight[0]")
    # An axis of fixed size is never removed.
    assert removable(trace, {first: -3}) == ({atom.root(): (first,)} if goes else {})


class Streams(nn.Module):
    """A residual sum of two layers, which a third layer reads, and a fourth one beside the third's channels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 6), nn.Linear(6, 6)
        self.three, self.four = nn.Linear(6, 5), nn.Linear(11, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        x = x + torch.tanh(self.two(x))
        return self.four(torch.cat([self.three(x).relu(), x], 1))  # type: ignore[no-any-return]


def test_all_layers_of_a_sum_must_be_zero() -> None:
    trace = traced(Streams(), (3,))
    results = {call.path: call.result for call in trace.calls}
    one, two, three = (results[name] for name in ("one", "two", "three"))
    assert one is not None
    assert two is not None
    assert three is not None
    assert sorted(map(len, removable(trace, {one: -1, two: -1, three: -1}).values())) == [1, 2]
    assert set(removable(trace, {one: -1, two: -1, three: -1}).values()) == {(one, two), (three,)}
    # With one layer of the sum alone, its channels stay.
    assert set(removable(trace, {one: -1, three: -1}).values()) == {(three,)}
    assert removable(trace, {}) == {}


class Rows(nn.Module):
    """A linear layer that works on the width of images: it does not produce the channels of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rows, self.last = nn.Conv2d(1, 4, 1), nn.Linear(4, 4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.rows(F.relu(self.first(x))))  # type: ignore[no-any-return]


def test_a_layer_is_zero_only_where_its_own_channels_are() -> None:
    trace = traced(Rows(), (1, 4, 4))
    results = {call.path: call.result for call in trace.calls}
    first, rows = results["first"], results["rows"]
    assert first is not None
    assert rows is not None
    assert removable(trace, {first: -3, rows: -1}) == {}
