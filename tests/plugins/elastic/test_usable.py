"""Models that a space cannot be made of are refused with the reason and the way out; wrappers are taken off."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from plugins.elastic.networks import SmallResNet
from torch import Tensor, nn

from automl_nas.errors import UserError
from automl_nas_elastic import ElasticSpace, compress

SHAPE = (3, 8, 8)
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")


class Pair(nn.Module):
    """Takes two tensors, or returns two."""

    def __init__(self, *, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body, self.outputs = SmallResNet(), outputs
        if inputs == 2:
            self.forward = self.two  # type: ignore[method-assign]

    def forward(self, x: Tensor) -> Any:
        return (self.body(x), x)[: self.outputs]

    def two(self, x: Tensor, y: Tensor) -> Tensor:
        return self.body(x + y)


class Whole(nn.Module):
    """Its own forward reads a value."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 32), nn.Linear(32, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x)
        return self.two(x if x.sum() > 0 else -x)


def changed(change: Callable[[SmallResNet], object]) -> nn.Module:
    network = SmallResNet()
    change(network)
    return network


def pruned(network: SmallResNet) -> None:
    from torch.nn.utils import prune

    prune.l1_unstructured(network.stem, "weight", 0.5)


def computed(wrap: Callable[[nn.Module], object], *, called: bool) -> nn.Module:
    """Return a network of which a hook computes a weight, as it is made or after a call without gradients."""
    network = SmallResNet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        wrap(network.stem)
    if called:
        with torch.no_grad():
            network(torch.zeros(2, *SHAPE))
    return network


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.14: TorchScript is deprecated, and is not ours
        result: nn.Module = torch.jit.script(nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3)))
    return result


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: Pair(inputs=2, outputs=1), SHAPE, "missing 1 required .* 'y'; .* wrap it in a module"),
        (lambda: Pair(inputs=1, outputs=2), SHAPE, "returns a tuple in evaluation mode; .* wrap it"),
        (lambda: SmallResNet().half(), SHAPE, r"'stem.weight' is float16; .* \.float\(\)"),
        (lambda: SmallResNet().double(), SHAPE, r"'stem.weight' is float64; .* \.float\(\)"),
        (lambda: SmallResNet().to("meta"), SHAPE, "'stem.weight' is on the meta device"),
        (lambda: nn.Sequential(nn.LazyLinear(32), nn.Linear(32, 3)), (4,), r"'0' \(LazyLinear\) is lazy"),
        (
            lambda: changed(lambda n: nn.utils.parametrizations.weight_norm(n.stem)),
            SHAPE,
            "'stem' .* computes weight from",
        ),
        (lambda: changed(pruned), SHAPE, "'stem' .* computes weight in a hook; .*prune.remove"),
        (lambda: changed(lambda n: n.register_module("head", torch.compile(n.head))), SHAPE, "'head' .* is compiled"),
        (scripted, SHAPE, r"the network \(RecursiveScriptModule\) is TorchScript"),
        (lambda: nn.Sequential(nn.ReLU(), nn.Flatten()), SHAPE, "Sequential has no parameters"),
        (lambda: SmallResNet, SHAPE, "network: must be a torch.nn.Module, not the class SmallResNet"),
        (lambda: torch.relu, SHAPE, "network: must be a torch.nn.Module, not a builtin_function_or_method"),
        (SmallResNet, (1, 8, 8), "does not run on an input of shape .* to have 3 channels, but got 1"),
        (SmallResNet, ("a",), "input_shape: must be the sizes of one input"),
        (SmallResNet, (3, -8, 8), "input_shape: must be the sizes of one input"),
        (SmallResNet, 8, "input_shape: must be the sizes of one input"),
        (
            Whole,
            (4,),
            r"of the network \(Whole\) reads values of a tensor \(test_usable.py, line \d+\).* module of its own",
        ),
    ],
)
def test_what_cannot_be_sliced_is_refused(make: Callable[[], Any], shape: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ElasticSpace(make(), input_shape=shape)


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize("wrap", [nn.utils.spectral_norm, nn.utils.weight_norm])
def test_weights_that_hooks_compute_are_refused(wrap: Callable[[nn.Module], nn.Module], called: bool) -> None:
    with pytest.raises(UserError, match=r"'stem' .* computes weight in a hook; .* remove_spectral_norm"):
        ElasticSpace(computed(wrap, called=called), input_shape=SHAPE)
    remove = nn.utils.remove_spectral_norm if wrap is nn.utils.spectral_norm else nn.utils.remove_weight_norm
    network = computed(wrap, called=called)
    remove(network.stem)  # type: ignore[arg-type]
    assert "stem.width" in ElasticSpace(network, input_shape=SHAPE).decisions


def test_compress_refuses_before_it_trains() -> None:
    with pytest.raises(UserError, match="is float16"):
        compress(SmallResNet(inputs=1, classes=10).half(), "digits", limits={"flops": "<= 1M"}, progress="none")
    with pytest.raises(UserError, match="not the class SmallResNet"):
        compress(SmallResNet, "digits", limits={"flops": "<= 1M"}, progress="none")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel])
def test_wrappers_are_taken_off(wrap: Callable[[nn.Module], nn.Module]) -> None:
    network = SmallResNet().eval()
    space = ElasticSpace(wrap(network), input_shape=SHAPE)
    assert "blocks.0.conv1.width" in space.decisions
    x = torch.randn(2, *SHAPE)
    built = space.build(space.largest).eval()
    assert type(built) is SmallResNet
    assert torch.equal(built(x), network(x))
