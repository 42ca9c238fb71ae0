"""Peak memory of activations against values computed by hand, and the remarks of the counted costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.evaluation.costs.tabulated import TabulatedCost
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.testing.costs import CostModelContract
from automl_nas.testing.toys import ToySpace
from automl_nas_costs.models import Flops, MemoryAccess, Params, PeakMemory

Wrap = Callable[..., SearchSpace]
ONLY = Architecture({"network": 0})


class TestPeakMemoryContract(CostModelContract):
    other_dtype = False  # a number of float64 has twice the bytes
    varies = False  # every block has the same activations

    def make_space(self) -> SearchSpace:
        return ToySpace()

    def make(self, space: SearchSpace) -> CostModel:
        return PeakMemory(space)


class Applied(nn.Module):
    """A module whose forward is a function."""

    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


def bottleneck() -> nn.Module:
    body = nn.Sequential(nn.Conv2d(4, 12, 1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 4, 1))

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x + self.body(x))

    return nn.Sequential(nn.Conv2d(4, 4, 1), Residual())


# name -> (input shape, network, elements of float32)
BY_HAND: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module], int]] = {
    "a layer: input and output": ((3, 8, 8), lambda: nn.Conv2d(3, 5, 3, padding=1), 64 * (3 + 5)),
    "the larger of two layers": ((3, 8, 8), lambda: nn.Sequential(nn.Conv2d(3, 5, 1), nn.Conv2d(5, 9, 1)), 64 * 14),
    "normalised and activated in place": (
        (3, 8, 8),
        lambda: nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.Hardswish(), nn.SiLU()),
        64 * (3 + 5),
    ),
    # The shortcut lives on: 4 + 12 channels, and then 4 (shortcut) + 12 + 4.
    "a shortcut": ((4, 8, 8), bottleneck, 64 * (4 + 12 + 4)),
    "the input is not written over": ((3, 8, 8), lambda: nn.ReLU(), 64 * 6),
    "unless it is in place": ((3, 8, 8), lambda: nn.ReLU(inplace=True), 64 * 3),
    "views are free": ((4, 8), lambda: nn.Sequential(nn.Flatten(), nn.Unflatten(1, (8, 4)), nn.Flatten()), 32),
    "the places of maxima are not kept": ((4, 8, 8), lambda: nn.MaxPool2d(2), 4 * 64 + 4 * 16),
    "a concatenation": ((2, 4), lambda: Applied(lambda x: torch.cat([x.sin(), x.cos()], 1)), 8 + 8 + 16),
    "outputs live to the end": ((8,), lambda: Applied(lambda x: (x.sin(), x.cos(), x.exp())), 4 * 8),
    "and others do not": ((8,), lambda: Applied(lambda x: x.sin() + x.cos().sum()), 8 + 8 + 8),
    "what is made inside counts": (
        (2,),
        lambda: Applied(lambda x: x.sum() + torch.zeros(50).sum()),
        2 + 1 + 50 + 1 - 2,
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_peaks_by_hand(wrap: Wrap, name: str) -> None:
    shape, make, elements = BY_HAND[name]
    assert PeakMemory(wrap(shape, make)).estimate(ONLY) == 4 * elements


@pytest.mark.parametrize("name", BY_HAND)
def test_networks_that_do_not_run_on_meta_have_the_same_peak(wrap: Wrap, name: str) -> None:
    shape, make, elements = BY_HAND[name]

    def looking() -> nn.Module:
        torch.rand(3).tolist()  # the constructor does not run on the meta device
        return make()

    assert PeakMemory(wrap(shape, looking)).estimate(ONLY) == 4 * elements


def test_half_precision_takes_half(wrap: Wrap) -> None:
    def make() -> nn.Module:
        return nn.Conv2d(3, 5, 1).to(torch.bfloat16)

    assert PeakMemory(wrap((3, 8, 8), make)).estimate(ONLY) == 2 * 64 * 8


def test_what_lives_at_the_peak_stands_under_the_module_that_wrote_it(wrap: Wrap) -> None:
    space = wrap((4, 8, 8), bottleneck)
    assert PeakMemory(space).breakdown(ONLY) == {"0": 4 * 64 * 4, "1.body.2": 4 * 64 * 12, "1.body.3": 4 * 64 * 4}


def test_a_peak_is_no_sum_over_decisions() -> None:
    space = ToySpace(blocks=2)
    assert "not additive" not in TabulatedCost(Flops(space), space).reason
    architecture = Architecture({"d0": 1, "d1": 2})
    # Every block of the toy space has the same width: only the number of tensors at a time matters.
    assert TabulatedCost(PeakMemory(space), space).estimate(architecture) == PeakMemory(space).estimate(architecture)


# --- Conventions and what is left out -------------------------------------------------------------------------------


def test_operations_are_twice_the_multiply_adds(wrap: Wrap) -> None:
    space = wrap((4, 8, 8), bottleneck)
    once, twice = Flops(space), Flops(space, convention="flops")
    assert twice.breakdown(ONLY) == {path: 2 * value for path, value in once.breakdown(ONLY).items()}
    assert (once.unit, twice.unit) == ("multiply-adds", "operations")
    assert "are one multiply-add" in once.remarks(ONLY)[0]
    assert "are two operations" in twice.remarks(ONLY)[0]


def test_what_is_not_counted_is_listed(wrap: Wrap) -> None:
    def call(x: Tensor) -> Tensor:
        return torch.fft.rfft(x.transpose(0, 1).reshape(-1).relu()).real.softmax(0)

    for model in (Flops, MemoryAccess):
        remark = model(wrap((4, 8), lambda: nn.Sequential(nn.Linear(8, 8), nn.GELU(), Applied(call)))).remarks(ONLY)[-1]
        assert remark.startswith("called and not counted: ")
        assert all(name in remark for name in ("gelu (1)", "relu (1)", "_fft_r2c (1)", "_softmax (1)"))
        # Views compute nothing.
        assert all(name not in remark for name in ("transpose", "view", "addmm", "reshape"))
    assert Flops(wrap((8,), lambda: nn.Linear(8, 8))).remarks(ONLY)[-1] == "everything that was called is counted"


def test_what_is_ignored_is_listed_too(wrap: Wrap) -> None:
    space = wrap((5, 7), lambda: Applied(lambda x: torch.cdist(x, torch.empty(4, 7, device=x.device))))
    with pytest.raises(SpaceError, match="_cdist_forward"):
        PeakMemory(space).estimate(ONLY)
    assert "_cdist_forward (1)" in Flops(space, ignore=("aten::_cdist_forward",)).remarks(ONLY)[-1]


def test_a_table_passes_remarks_on() -> None:
    space = ToySpace()
    architecture = next(iter([Architecture({f"d{block}": 0 for block in range(4)})]))
    assert TabulatedCost(Flops(space), space).remarks(architecture) == Flops(space).remarks(architecture)
    assert TabulatedCost(Params(space), space).remarks(architecture) == ()
