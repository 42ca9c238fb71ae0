"""Depthwise convolutions on small feature maps: outputs and gradients are torch's."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from automl_nas import depthwise_gradient
from automl_nas.depthwise_gradient import convolve, use_torch_gradients
from automl_nas.evaluation.runtime import Runtime
from automl_nas.space.modules.elastic_layers.convolution import ElasticConv2d

CASES = [
    # height, width, kernel, stride, padding, dilation
    ((2, 2), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((2, 2), (7, 7), (2, 2), (3, 3), (1, 1)),
    ((4, 4), (5, 5), (1, 1), (2, 2), (1, 1)),
    ((4, 3), (5, 3), (2, 1), (2, 0), (1, 1)),
    ((1, 9), (3, 5), (1, 2), (1, 2), (1, 1)),
    ((5, 4), (3, 3), (1, 1), (2, 2), (2, 2)),
    ((8, 8), (3, 5), (2, 2), (1, 4), (1, 2)),
    ((7, 7), (3, 3), (3, 1), (3, 3), (3, 1)),
]


@pytest.fixture
def uses(monkeypatch: pytest.MonkeyPatch) -> list[torch.Size]:
    """The shapes of the weights whose gradients were computed by products."""
    shapes: list[torch.Size] = []
    compute = depthwise_gradient._weight_gradient

    def noted(x: Tensor, gradient: Tensor, shape: torch.Size, *settings: tuple[int, int]) -> Tensor:
        shapes.append(shape)
        return compute(x, gradient, shape, *settings)

    monkeypatch.setattr(depthwise_gradient, "_weight_gradient", noted)
    return shapes


def made(size: tuple[int, int], kernel: tuple[int, int], channels: int = 6) -> list[Tensor]:
    """Return an input, a weight and a bias that want gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, channels, *size), (channels, 1, *kernel), (channels,)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("with_bias", [True, False])
def test_outputs_and_gradients_are_those_of_torch(
    case: tuple[tuple[int, int], ...], memory_format: torch.memory_format, with_bias: bool, uses: list[torch.Size]
) -> None:
    size, kernel, stride, padding, dilation = case
    inputs = made(size, kernel)[: 3 if with_bias else 2]
    x, weight, bias = (*inputs, None)[:3]
    x = x.to(memory_format=memory_format)
    ours = convolve(x, weight, bias, stride, padding, dilation, 6)
    theirs = F.conv2d(x, weight, bias, stride, padding, dilation, 6)
    assert torch.equal(ours, theirs)
    direction = torch.randn(ours.shape, dtype=torch.float64)
    # In float64: sums of at most 3 * 81 products of numbers about 1, rounded to 1e-16 each.
    for own, other in zip(
        torch.autograd.grad(ours, inputs, direction), torch.autograd.grad(theirs, inputs, direction), strict=True
    ):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)
    assert uses == [weight.shape]


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # torch's own rules of forward mode
def test_second_derivatives_and_forward_mode() -> None:
    inputs = made((2, 3), (3, 3), channels=2)

    def run(*tensors: Tensor) -> Tensor:
        return convolve(*tensors, (1, 1), (1, 1), (1, 1), 2)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(run, inputs, check_forward_ad=True)
    for place, tensor in enumerate(inputs):  # the others have no tangents
        others = [each.detach() for each in inputs]
        others[place] = tensor
        assert torch.autograd.gradcheck(run, others, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_gradients_of_single_samples() -> None:
    """By vmap, which batches the gradients of torch.func."""
    x, weight, _ = made((2, 2), (3, 3))

    def loss(kernel: Tensor, sample: Tensor) -> Tensor:
        return convolve(sample[None], kernel, None, (1, 1), (1, 1), (1, 1), 6).square().sum()

    together = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weight.detach().requires_grad_(), x.detach())
    for sample, own in zip(x.detach(), together, strict=True):
        alone = weight.detach().requires_grad_()
        F.conv2d(sample[None], alone, None, 1, 1, 1, 6).square().sum().backward()
        torch.testing.assert_close(own, alone.grad, rtol=1e-12, atol=1e-12)


class Net(nn.Module):
    """Maps of 4 x 4 and 2 x 2 points, and convolutions of other kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.slow = nn.Conv2d(8, 8, 5, padding=2, groups=8, stride=2)
        self.slower = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.named = nn.Conv2d(8, 8, 3, padding="same", groups=8)
        self.mirrored = nn.Conv2d(8, 8, 3, padding=1, groups=8, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.slower(self.slow(self.first(x)))) + x.mean()
        return self.mirrored(self.named(x)).flatten(1)


def gradients(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Return the gradients of a loss."""
    network.zero_grad()
    network(x).square().mean().backward()
    return {name: parameter.grad.clone() for name, parameter in network.named_parameters()}  # type: ignore[union-attr]


def test_a_placed_network_trains_as_before_and_is_plain_when_it_is_delivered(uses: list[torch.Size]) -> None:
    torch.manual_seed(0)
    plain = Net()
    runtime = Runtime(device="cpu", threads=1)
    placed = runtime.place(runtime.place(copy.deepcopy(plain)))
    x = torch.randn(16, 3, 4, 4)
    expected = gradients(plain, x)
    assert not uses
    for network in (placed, copy.deepcopy(placed), pickle.loads(pickle.dumps(placed))):  # noqa: S301 - made here
        uses.clear()
        torch.testing.assert_close(gradients(network, runtime.tensor(x)), expected)
        assert sorted(uses) == [(8, 1, 3, 3), (8, 1, 5, 5)]
    with torch.no_grad():
        torch.testing.assert_close(placed(x), plain(x))
    use_torch_gradients(placed)
    uses.clear()
    gradients(placed, x)
    assert not uses
    assert [vars(layer).keys() for layer in placed.modules()] == [vars(layer).keys() for layer in plain.modules()]


def test_gradients_in_a_mode_of_torch_leave_nothing_behind(uses: list[torch.Size]) -> None:
    """Tensors of `FakeTensorMode` have no data; none may be remembered for real ones."""
    sizes, kernel = (3, 5), (5, 3)
    with FakeTensorMode():
        x, weight, bias = made(sizes, kernel)
        convolve(x, weight, bias, (1, 1), (2, 1), (1, 1), 6).sum().backward()
    x, weight, bias = made(sizes, kernel)
    (ours,) = torch.autograd.grad(convolve(x, weight, bias, (1, 1), (2, 1), (1, 1), 6).sum(), weight)
    (theirs,) = torch.autograd.grad(F.conv2d(x, weight, bias, 1, (2, 1), 1, 6).sum(), weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert len(uses) == 2


def test_frozen_weights_and_autocast_are_left_to_torch(uses: list[torch.Size]) -> None:
    network = Runtime(device="cpu").place(Net())
    x = torch.randn(4, 3, 4, 4)
    for layer in (network.slow, network.slower):
        layer.weight.requires_grad_(False)
    network(x).sum().backward()
    for layer in (network.slow, network.slower):
        layer.weight.requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(x).sum().backward()
    copy.deepcopy(network).bfloat16()(x.bfloat16()).sum().backward()
    assert not uses
    network(x).sum().backward()
    assert len(uses) == 2


def test_an_elastic_convolution_computes_so_too(uses: list[torch.Size]) -> None:
    torch.manual_seed(0)
    layer = ElasticConv2d(8, 8, 3, padding=1, groups=8)
    x = torch.randn(4, 6, 2, 2)
    layer(x).square().sum().backward()
    assert uses == [(6, 1, 3, 3)]
    weight = layer.weight.detach()[:6].requires_grad_()
    F.conv2d(x, weight, layer.bias[:6], padding=1, groups=6).square().sum().backward()  # type: ignore[index]
    torch.testing.assert_close(layer.weight.grad[:6], weight.grad)  # type: ignore[index]


def test_errors_are_those_of_torch() -> None:
    layer = Runtime(device="cpu").place(nn.Conv2d(8, 8, 5, groups=8))
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        layer(torch.randn(2, 8, 2, 2))
    with pytest.raises(RuntimeError, match="to have 8 channels"):
        layer(torch.randn(2, 6, 2, 2))
