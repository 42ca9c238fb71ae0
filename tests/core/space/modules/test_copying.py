"""Independent copies of modules."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl_nas.space.modules.copying import deep_copy, on_meta


class Tied(nn.Module):
    """Two modules share a Parameter, and an attribute refers to a part."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.register_buffer("scale", torch.full((4,), 2.0))
        self.first, self.sizes = [self.one], {"in": [4]}

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.two(self.first[0](x)) * self.scale
        return out


class Tagged(nn.Module):
    """Has a state that its own method restores."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.restored = True


def test_modules_of_torch_are_copied_one_attribute_at_a_time_after_torch_has_replaced_their_method(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`torch.compile` replaces ``nn.Module.__setstate__``, once in a process."""
    module, restore = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU()), nn.Module.__setstate__
    expected = copy.deepcopy(module)

    def replaced(self: nn.Module, state: dict[str, Any]) -> None:
        restore(self, state)

    def refused(*_: object) -> None:
        raise AssertionError("copy.deepcopy takes several times as long")

    monkeypatch.setattr(nn.Module, "__setstate__", replaced)
    monkeypatch.setattr("automl_nas.space.modules.copying.copy.deepcopy", refused)
    twin = deep_copy(module, {})
    assert str(twin) == str(expected)
    for name, tensor in twin.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name])
        assert tensor.data_ptr() != module.state_dict()[name].data_ptr()


def test_a_module_that_restores_its_state_itself_is_copied_by_deepcopy() -> None:
    assert deep_copy(nn.Sequential(Tagged()), {})[0].restored is True  # type: ignore[index, union-attr]


MODULES: dict[str, Callable[[], nn.Module]] = {
    "tied": Tied,
    "frozen": lambda: nn.Sequential(nn.Linear(4, 4).requires_grad_(False), nn.BatchNorm1d(4)),
    "recurrent": lambda: nn.Sequential(nn.LSTM(4, 4)),
    "attention": lambda: nn.TransformerEncoderLayer(4, 2, dropout=0.0, batch_first=True),
    "parametrized": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), nn.ReLU()),
    "traced": lambda: nn.Sequential(torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))),
}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_a_deep_copy_is_that_of_python(make: Callable[[], nn.Module]) -> None:
    module = make().eval()
    expected, twin = copy.deepcopy(module), deep_copy(module, {})
    assert str(twin) == str(expected)
    assert [*twin.state_dict()] == [*expected.state_dict()]
    assert [(n, p.requires_grad) for n, p in twin.named_parameters()] == [
        (n, p.requires_grad) for n, p in expected.named_parameters()
    ]
    x = torch.linspace(-1, 1, 12).reshape(1, 3, 4)
    x = x[0] if isinstance(module, nn.Sequential) and isinstance(module[-1], nn.BatchNorm1d) else x
    with torch.no_grad():
        before = output(module, x)
        for tensor in (*twin.parameters(), *twin.buffers()):
            tensor.add_(1)
        changed = output(twin, x)
        assert torch.equal(output(module, x), before), "they share memory"
        for tensor in (*expected.parameters(), *expected.buffers()):
            tensor.add_(1)
        assert torch.equal(changed, output(expected, x)), "a part of the copy is not in the copy"


def output(module: nn.Module, x: Tensor) -> Tensor:
    out = module(x)
    result: Tensor = out[0] if isinstance(out, tuple) else out
    return result


def test_a_copy_on_meta_has_no_data_and_shares_what_the_module_shares() -> None:
    twin = on_meta(Tied())
    assert {tensor.device.type for tensor in (*twin.parameters(), *twin.buffers())} == {"meta"}
    assert len([*twin.parameters()]) == 3
    assert twin(torch.empty(2, 4, device="meta")).shape == (2, 4)
