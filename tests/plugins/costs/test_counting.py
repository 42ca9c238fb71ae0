"""Counts against closed forms, derived by hand for layers and calls of every kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.testing.costs import CostModelContract
from automl_nas.testing.toys import ToySpace
from automl_nas_costs.models import Flops, MemoryAccess, Params

Wrap = Callable[..., SearchSpace]
ONLY = Architecture({"network": 0})


class TestFlopsContract(CostModelContract):
    def make_space(self) -> SearchSpace:
        return ToySpace()

    def make(self, space: SearchSpace) -> CostModel:
        return Flops(space)


class TestParamsContract(TestFlopsContract):
    def make(self, space: SearchSpace) -> CostModel:
        return Params(space)


class TestMemoryAccessContract(TestFlopsContract):
    def make(self, space: SearchSpace) -> CostModel:
        return MemoryAccess(space)


class Applied(nn.Module):
    """``call(self, x)``, with children and parameters given by name."""

    def __init__(self, call: Callable[[Any, Tensor], Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.call = call
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def conv(*args: Any, **settings: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Conv2d(*args, **settings)


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape))


# name -> (input shape, network, multiply-adds)
CLOSED_FORMS: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module], int]] = {
    "conv with bias": ((3, 8, 8), conv(3, 5, 3, padding=1), 64 * 5 * 3 * 9),
    "valid conv": ((3, 8, 8), conv(3, 5, 3), 36 * 5 * 3 * 9),
    "strided": ((3, 9, 9), conv(3, 5, 3, stride=2, padding=1), 25 * 5 * 3 * 9),
    "grouped": ((6, 8, 8), conv(6, 12, 3, padding=1, groups=3), 64 * 12 * 2 * 9),
    "depthwise": ((6, 8, 8), conv(6, 6, 5, padding=2, groups=6), 64 * 6 * 25),
    "dilated": ((4, 8, 8), conv(4, 4, 3, dilation=2), 16 * 4 * 4 * 9),
    "not square": ((4, 8, 6), conv(4, 2, (1, 3)), 8 * 4 * 2 * 4 * 3),
    "1-d": ((4, 10), lambda: nn.Conv1d(4, 6, 3), 8 * 6 * 4 * 3),
    "3-d": ((2, 4, 4, 4), lambda: nn.Conv3d(2, 3, 2), 27 * 3 * 2 * 8),
    # A transposed convolution multiplies each input element with one filter.
    "transposed": ((4, 5, 5), lambda: nn.ConvTranspose2d(4, 6, 3, stride=2), 25 * 4 * 6 * 9),
    "transposed, grouped": ((4, 5, 5), lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), 25 * 4 * 3 * 9),
    "transposed 1-d": ((4, 5), lambda: nn.ConvTranspose1d(4, 6, 2, stride=2), 5 * 4 * 6 * 2),
    "transposed 3-d": ((2, 3, 3, 3), lambda: nn.ConvTranspose3d(2, 3, 2), 27 * 2 * 3 * 8),
    "linear": ((7,), lambda: nn.Linear(7, 3), 21),
    "linear on 3-d input": ((5, 7), lambda: nn.Linear(7, 3), 5 * 21),
    "linear without bias on 4-d input": ((2, 5, 7), lambda: nn.Linear(7, 3, bias=False), 10 * 21),
    "x @ Parameter": ((5, 7), lambda: Applied(lambda m, x: x @ m.w, w=weight(7, 3)), 5 * 21),
    "Parameter @ x": ((5, 7), lambda: Applied(lambda m, x: m.w @ x, w=weight(4, 5)), 4 * 5 * 7),
    "x @ vector": ((5, 7), lambda: Applied(lambda m, x: x @ m.w, w=weight(7)), 35),
    "einsum": ((5, 7), lambda: Applied(lambda m, x: torch.einsum("bij,jk->bki", x, m.w), w=weight(7, 3)), 5 * 21),
    "x @ x.T": ((5, 7), lambda: Applied(lambda m, x: x @ x.transpose(1, 2)), 5 * 5 * 7),
    "baddbmm": (
        (5, 7),
        lambda: Applied(lambda m, x: torch.baddbmm(m.b, x, m.w), b=weight(1, 5, 3), w=weight(1, 7, 3)),
        105,
    ),
    "F.conv2d on a Parameter": (
        (3, 8, 8),
        lambda: Applied(lambda m, x: F.conv2d(x, m.w, padding=1), w=weight(5, 3, 3, 3)),
        64 * 5 * 3 * 9,
    ),
    "F.linear": ((7,), lambda: Applied(lambda m, x: F.linear(x, m.w), w=weight(3, 7)), 21),
    "one layer called twice": ((4, 8, 8), lambda: Applied(lambda m, x: m.f(m.f(x)), f=nn.Conv2d(4, 4, 1)), 2 * 64 * 16),
    "attention": (
        (2, 6, 8),
        lambda: Applied(lambda m, x: F.scaled_dot_product_attention(x, x, x)),
        2 * (6 * 6 * 8 + 6 * 6 * 8),
    ),
    "causal attention, whole score matrix": (
        (2, 6, 8),
        lambda: Applied(lambda m, x: F.scaled_dot_product_attention(x, x, x, is_causal=True)),
        2 * (6 * 6 * 8 + 6 * 6 * 8),
    ),
    "einsum of three": (
        (5, 7),
        lambda: Applied(lambda m, x: torch.einsum("bij,jk,kl->bil", x, m.w, m.v), w=weight(7, 3), v=weight(3, 2)),
        5 * 7 * 3 + 5 * 3 * 2,
    ),
    "matmul over batch dimensions": (
        (2, 5, 7),
        lambda: Applied(lambda m, x: torch.matmul(x, m.w), w=weight(2, 7, 3)),
        2 * 5 * 7 * 3,
    ),
    "dilated, transposed": ((4, 5, 5), lambda: nn.ConvTranspose2d(4, 6, 3, dilation=2), 25 * 4 * 6 * 9),
    "dilated, depthwise, strided 3-d": ((2, 8, 8, 8), lambda: nn.Conv3d(2, 2, 3, 2, 2, 2, groups=2), 64 * 2 * 27),
    # For each of the 5 outputs: 3 times a matrix of 3 x 4, then 4 times 4.
    "bilinear": ((7,), lambda: Applied(lambda m, x: m.f(x[:, :3], x[:, 3:]), f=nn.Bilinear(3, 4, 5)), 5 * (12 + 4)),
    "bilinear without bias on 3-d input": (
        (6, 7),
        lambda: Applied(lambda m, x: m.f(x[..., :3], x[..., 3:]), f=nn.Bilinear(3, 4, 5, bias=False)),
        6 * 5 * (12 + 4),
    ),
    "nothing that multiplies": (
        (4, 8, 8),
        lambda: nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.ChannelShuffle(2)),
        0,
    ),
    "inference mode inside": (
        (5, 7),
        lambda: Applied(lambda m, x: torch.inference_mode()(m.f)(x), f=nn.Linear(7, 3)),
        5 * 21,
    ),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_flops_in_closed_form(wrap: Wrap, name: str) -> None:
    shape, make, expected = CLOSED_FORMS[name]
    assert Flops(wrap(shape, make)).estimate(ONLY) == expected


def multihead() -> nn.Module:
    return Applied(lambda m, x: m.a(x, x, x, need_weights=False)[0], a=nn.MultiheadAttention(8, 2, batch_first=True))


def lstm() -> nn.Module:
    return Applied(lambda m, x: m.f(x)[0], f=nn.LSTM(8, 5, batch_first=True))


def recurrent(kind: Any, layers: int, both: bool) -> Callable[[], nn.Module]:
    return lambda: Applied(
        lambda m, x: m.f(x)[0], f=kind(8, 5, num_layers=layers, bidirectional=both, batch_first=True)
    )


def decoder() -> nn.Module:
    return Applied(lambda m, x: m.f(x, x), f=nn.TransformerDecoderLayer(8, 2, 12, batch_first=True))


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)


# 6 tokens of 8 features: projections of query, key, value and output, then the two products of 2 heads of 4.
ATTENTION = 4 * 6 * 8 * 8 + 2 * 2 * 6 * 6 * 4
LAYERS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "MultiheadAttention": (multihead, ATTENTION),
    "LSTM": (lstm, 6 * 4 * (8 * 5 + 5 * 5)),
    # Two directions; the second layer reads both.
    "LSTM, 2 layers, bidirectional": (recurrent(nn.LSTM, 2, True), 6 * 2 * 4 * (8 * 5 + 5 * 5 + 10 * 5 + 5 * 5)),
    "GRU": (recurrent(nn.GRU, 1, False), 6 * 3 * (8 * 5 + 5 * 5)),
    "RNN": (recurrent(nn.RNN, 1, False), 6 * (8 * 5 + 5 * 5)),
    "LSTMCell": (lambda: Applied(lambda m, x: m.f(x[:, 0])[0], f=nn.LSTMCell(8, 5)), 4 * (8 * 5 + 5 * 5)),
    "TransformerDecoderLayer": (decoder, 2 * ATTENTION + 2 * 6 * 8 * 12),
    "TransformerEncoderLayer": (encoder, ATTENTION + 2 * 6 * 8 * 12),
    "Linear": (lambda: nn.Linear(8, 3), 6 * 24),
}


RECURRENT = ("LSTM", "LSTM, 2 layers, bidirectional", "GRU", "RNN")


def looks_at_values(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """The same network with a forward that raises an error for meta tensors."""
    return lambda: Applied(lambda m, x: m.f(x) if float(x.sum()) == 0 else x, f=make())


def looks_at_weights(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """The same network with a constructor that does not run on the meta device."""

    def build() -> nn.Module:
        torch.rand(3).tolist()
        return make()

    return build


@pytest.mark.parametrize("name", LAYERS)
def test_layers_with_fused_kernels(wrap: Wrap, name: str) -> None:
    """In evaluation mode torch runs these in one opaque operator, which most counters miss."""
    make, expected = LAYERS[name]
    assert Flops(wrap((6, 8), make)).estimate(ONLY) == expected


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("change", [looks_at_values, looks_at_weights])
def test_networks_that_do_not_run_on_meta(
    wrap: Wrap, name: str, change: Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]
) -> None:
    make, expected = LAYERS[name]
    space, plain = wrap((6, 8), change(make)), wrap((6, 8), make)
    assert Flops(space).estimate(ONLY) == expected
    # The two devices unroll a recurrent layer in different ways: the same products in smaller or larger pieces.
    assert name in RECURRENT or MemoryAccess(space).estimate(ONLY) == MemoryAccess(plain).estimate(ONLY)
    assert Params(space).estimate(ONLY) == Params(plain).estimate(ONLY)


def test_a_bilinear_layer_counts_as_its_two_products(wrap: Wrap) -> None:
    """Also on the CPU, and as many multiply-adds as torch's own counter finds in the products that torch makes."""

    def layer() -> nn.Module:
        return Applied(lambda m, x: m.f(x[..., :3], x[..., 3:]), f=nn.Bilinear(3, 4, 5))

    space, on_cpu = wrap((6, 7), layer), wrap((6, 7), looks_at_values(layer))
    for each in (space, on_cpu):
        assert Flops(each).estimate(ONLY) == 6 * (5 * 3 * 4 + 5 * 4)
        # 6 samples: x and the weight are read, 5 * 4 numbers written; they and y are read, 5 numbers written.
        assert MemoryAccess(each).estimate(ONLY) == (6 * 3 + 60 + 6 * 20) + (6 * 20 + 6 * 4 + 6 * 5)

    with torch.profiler.profile(record_shapes=True, with_flops=True) as profile:
        layer()(torch.ones(6, 7))
    assert sum(event.flops for event in profile.events() if event.name == "aten::bmm") == 2 * 6 * (60 + 20)


def test_attention_on_the_cpu_counts_as_on_meta(wrap: Wrap) -> None:
    """Also with fewer heads of keys and values than of queries."""

    def attend() -> nn.Module:
        def call(module: Any, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True)

        return Applied(call)

    plain, on_cpu = wrap((4, 6, 8), attend), wrap((4, 6, 8), looks_at_values(attend))
    assert Flops(plain).estimate(ONLY) == 2 * 4 * 6 * 6 * 8
    assert Flops(on_cpu).estimate(ONLY) == 2 * 4 * 6 * 6 * 8
    assert MemoryAccess(on_cpu).estimate(ONLY) == MemoryAccess(plain).estimate(ONLY)


# --- The module of a cost -----------------------------------------------------------------------------------------


def nested() -> nn.Module:
    shared = nn.Conv2d(4, 4, 1, bias=False)
    body = Applied(
        lambda m, x: m.first(x) + m.again(x) + F.conv2d(x, m.w), first=shared, again=shared, w=weight(4, 4, 1, 1)
    )
    return nn.Sequential(nn.Conv2d(3, 4, 1), body, nn.Flatten(), nn.Linear(16, 2))


def test_costs_stand_under_the_path_of_their_module(wrap: Wrap) -> None:
    space = wrap((3, 2, 2), nested)
    assert Flops(space).breakdown(ONLY) == {"0": 48, "1.first": 2 * 64, "1": 64, "3": 32}
    assert Params(space).breakdown(ONLY) == {"0": 16, "1.first": 16, "1": 16, "3": 34}
    assert MemoryAccess(space).breakdown(ONLY) == {"0": 12 + 12 + 16, "1.first": 2 * 48, "1": 48, "3": 16 + 32 + 2}
    paths = {path for path, _ in space.build(ONLY).named_modules()}
    assert set(Flops(space).breakdown(ONLY)) <= paths


def test_what_the_network_does_itself_stands_under_the_empty_path(wrap: Wrap) -> None:
    space = wrap((5, 7), lambda: Applied(lambda m, x: x @ m.w, w=weight(7, 3)))
    assert Flops(space).breakdown(ONLY) == {"": 105}
    assert Params(space).breakdown(ONLY) == {"": 21}


def test_tied_parameters_count_once(wrap: Wrap) -> None:
    def tied() -> nn.Module:
        first, second = nn.Linear(4, 4, bias=False), nn.Linear(4, 4)
        second.weight = first.weight
        return nn.Sequential(first, second)

    assert Params(wrap((4,), tied)).breakdown(ONLY) == {"0": 16, "1": 4}
    assert Flops(wrap((4,), tied)).estimate(ONLY) == 32


def test_frozen_parameters_count_and_buffers_do_not(wrap: Wrap) -> None:
    space = wrap((4, 8, 8), lambda: nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1).requires_grad_(False)))
    assert Params(space).estimate(ONLY) == 8 + 5


def test_lazy_layers(wrap: Wrap) -> None:
    space = wrap((4, 8, 8), lambda: nn.Sequential(nn.LazyConv2d(6, 1), nn.Flatten(), nn.LazyLinear(2)))
    assert Params(space).breakdown(ONLY) == {"0": 30, "2": 64 * 6 * 2 + 2}
    assert Flops(space).breakdown(ONLY) == {"0": 64 * 24, "2": 64 * 6 * 2}


# --- Memory access --------------------------------------------------------------------------------------------------


def access(wrap: Wrap, shape: tuple[int, ...], *layers: nn.Module) -> float:
    return MemoryAccess(wrap(shape, lambda: nn.Sequential(*layers))).estimate(ONLY)


def test_memory_access_of_the_operations_of_dso_nas(wrap: Wrap) -> None:
    """Relative to a separable 5x5 at 16 x 16 with 96 channels: .986, 1, .447, .447, .448 (DSO-NAS).

    An output edge moves every element once and has a weight for each channel, as a depthwise 1x1 convolution does.
    """

    def separable(kernel: int) -> list[nn.Module]:
        depthwise = nn.Conv2d(96, 96, kernel, padding=kernel // 2, groups=96, bias=False)
        return [depthwise, nn.Conv2d(96, 96, 1, bias=False), nn.BatchNorm2d(96), nn.ReLU()]

    operations = [
        separable(3),
        separable(5),
        [nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(96), nn.ReLU()],
        [nn.MaxPool2d(3, 1, 1), nn.BatchNorm2d(96), nn.ReLU()],
        [nn.Conv2d(96, 96, 1, groups=96, bias=False)],
    ]
    accesses = [access(wrap, (96, 16, 16), *layers) for layers in operations]
    h, c = 256, 96
    assert accesses == [4 * h * c + k**2 * c + c**2 for k in (3, 5)] + [2 * h * c] * 2 + [2 * h * c + c]
    assert [round(value / accesses[1], 3) for value in accesses] == [0.986, 1, 0.447, 0.447, 0.448]


def test_memory_access_of_other_layers(wrap: Wrap) -> None:
    """Each element of input, weights and output once, whatever stride, groups and dilation; no biases."""
    assert access(wrap, (6, 9, 9), nn.Conv2d(6, 12, 1, stride=2)) == 6 * 81 + 72 + 12 * 25
    assert access(wrap, (6, 8, 8), nn.Conv2d(6, 12, 3, groups=3)) == 6 * 64 + 12 * 2 * 9 + 12 * 36
    assert access(wrap, (4, 5, 5), nn.ConvTranspose2d(4, 6, 3, stride=2)) == 4 * 25 + 4 * 6 * 9 + 6 * 121
    assert access(wrap, (5, 7), nn.Linear(7, 3)) == 35 + 21 + 15
    assert access(wrap, (4, 8, 8), nn.MaxPool2d(2)) == 4 * 64 + 4 * 16


def test_memory_access_of_global_pooling(wrap: Wrap) -> None:
    """Written as a layer or as a mean over the image; a mean over other dimensions is not a pooling."""
    for make in (
        lambda: nn.AdaptiveAvgPool2d(1),
        lambda: nn.AdaptiveMaxPool2d(1),
        lambda: nn.AvgPool2d(8),
        lambda: Applied(lambda m, x: x.mean((2, 3))),
        lambda: Applied(lambda m, x: x.mean((-1, -2), keepdim=True)),
    ):
        assert MemoryAccess(wrap((4, 8, 8), make)).estimate(ONLY) == 4 * 64 + 4
    assert MemoryAccess(wrap((4, 8, 8), lambda: Applied(lambda m, x: x.mean(1)))).estimate(ONLY) == 0


# --- What cannot be counted -----------------------------------------------------------------------------------------


@pytest.fixture
def custom() -> Any:
    @torch.library.custom_op("costs_test::secret", mutates_args=())
    def secret(x: Tensor) -> Tensor:
        return x @ x.transpose(-1, -2)

    @secret.register_fake
    def _(x: Tensor) -> Tensor:
        return x.new_empty(*x.shape[:-1], x.shape[-2])

    return secret


def test_an_operator_of_another_library_is_an_error_unless_ignored(wrap: Wrap, custom: Any) -> None:
    space = wrap((5, 7), lambda: nn.Sequential(nn.Linear(7, 7), Applied(lambda m, x: custom(x))))
    for model in (Flops, MemoryAccess):
        with pytest.raises(SpaceError, match=r"costs_test::secret, called in module '1', is unknown"):
            model(space).estimate(ONLY)
    assert Flops(space, ignore=("costs_test::secret",)).estimate(ONLY) == 5 * 49


def test_an_operator_of_torch_that_multiplies_unseen_is_an_error(wrap: Wrap) -> None:
    distances = Applied(lambda m, x: torch.cdist(x, m.w), w=weight(4, 7))
    with pytest.raises(SpaceError, match=r"aten::_cdist_forward, called in module '1'"):
        Flops(wrap((5, 7), lambda: nn.Sequential(nn.ReLU(), distances))).estimate(ONLY)


def test_operators_that_only_sound_like_products(wrap: Wrap) -> None:
    """Their names contain mm and linear."""

    def call(module: Any, x: Tensor) -> Tensor:
        return torch.polygamma(1, F.interpolate(x, scale_factor=2.0, mode="bilinear").lgamma())

    assert Flops(wrap((2, 4, 4), lambda: Applied(call))).estimate(ONLY) == 0


def test_an_input_that_does_not_fit_is_named(wrap: Wrap) -> None:
    with pytest.raises(SpaceError, match=r"cannot be run on one input of shape \(4, 8, 8\)"):
        Flops(wrap((4, 8, 8), conv(3, 5, 3))).estimate(ONLY)


def test_a_space_without_networks_says_so(wrap: Wrap) -> None:
    with pytest.raises(SpaceError, match="no input shape"):
        Flops(wrap((), conv(3, 5, 3))).estimate(ONLY)


def test_errors_of_the_space_come_through(wrap: Wrap) -> None:
    with pytest.raises(SpaceError, match="5 is not an option"):
        Flops(wrap((3, 8, 8), conv(3, 5, 3))).estimate(Architecture({"network": 5}))


# --- Nothing changes ------------------------------------------------------------------------------------------------


def test_global_state_is_left_as_found(wrap: Wrap) -> None:
    def build() -> nn.Module:
        np.random.random(), random.random(), torch.rand(3).tolist()
        return encoder()

    def state() -> Mapping[str, Any]:
        return {
            "fast path": torch.backends.mha.get_fastpath_enabled(),
            "mkldnn": torch.backends.mkldnn.enabled,
            "grad": torch.is_grad_enabled(),
            "numpy": np.random.get_state(legacy=False)["state"]["pos"],  # type: ignore[index, call-overload]
            "python": random.getstate(),
            "torch": torch.get_rng_state().tolist(),
            "device": torch.get_default_device(),
        }

    before = state()
    for model in (Flops, Params, MemoryAccess):
        model(wrap((6, 8), build)).estimate(ONLY)
    with pytest.raises(SpaceError):
        Flops(wrap((4, 8, 8), conv(3, 5, 3))).estimate(ONLY)
    assert state() == before


def test_the_mode_of_the_network_does_not_matter(wrap: Wrap) -> None:
    """BN on one value per channel fails in training mode; the network is run in evaluation mode."""
    space = wrap((4, 1, 1), lambda: nn.Sequential(nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2), nn.Dropout()).train())
    assert Flops(space).estimate(ONLY) == 8


def test_double_precision_networks(wrap: Wrap) -> None:
    assert Flops(wrap((7,), lambda: nn.Linear(7, 3).double())).estimate(ONLY) == 21
