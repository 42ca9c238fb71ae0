"""Independent copies of modules."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from automl_nas.space.modules.copying import clone


class Tagged(nn.Module):
    """Has a state that its own method restores."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.restored = True


def independent(module: nn.Module) -> nn.Module:
    memo: dict[int, Any] = {}

    def child(each: nn.Module) -> nn.Module:
        return clone(each, memo, child)

    return child(module)


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
    twin = independent(module)
    assert str(twin) == str(expected)
    for name, tensor in twin.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name])
        assert tensor.data_ptr() != module.state_dict()[name].data_ptr()


def test_a_module_that_restores_its_state_itself_is_copied_by_deepcopy() -> None:
    assert independent(nn.Sequential(Tagged()))[0].restored is True  # type: ignore[index, union-attr]
