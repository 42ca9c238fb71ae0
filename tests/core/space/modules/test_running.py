"""Which module of a network is running, against the modules that say so themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from automl_nas.space import running_modules


class Asks(nn.Module):
    """Notes the innermost module while it runs; raises if it is told to."""

    def __init__(self, noted: list[str], inner: nn.Module | None = None, raises: bool = False) -> None:
        super().__init__()
        self.noted, self.inner, self.raises = noted, inner, raises
        self.running: list[tuple[str, nn.Module]] = []

    def forward(self, x: Tensor) -> Tensor:
        assert self.running[-1][1] is self
        self.noted.append(self.running[-1][0])
        if self.raises:
            raise ValueError("no")
        if self.inner is not None:
            try:
                x = self.inner(x)
            except ValueError:
                if self.running[-1][1] is not self:  # it stays the module that raised
                    raise
            assert self.running[-1][1] is self
        return x


def network(noted: list[str], raises: bool = False) -> nn.Sequential:
    shared = Asks(noted)
    return nn.Sequential(shared, Asks(noted, Asks(noted, raises=raises)), shared)


def told(modules: nn.Module, running: list[tuple[str, nn.Module]]) -> None:
    for module in modules.modules():
        if isinstance(module, Asks):
            module.running = running


def test_the_innermost_module_is_the_last() -> None:
    noted: list[str] = []
    one = network(noted)
    calls: list[str] = []
    with running_modules(
        one, entered=lambda path, _: calls.append(f"+{path}"), left=lambda path, *_: calls.append(f"-{path}")
    ) as running:
        assert running == [("", one)]
        told(one, running)
        one(torch.zeros(1))
        assert running == [("", one)]
    assert noted == ["0", "1", "1.inner", "0"]  # a module in two places has its first path
    assert calls == ["+0", "-0", "+1", "+1.inner", "-1.inner", "-1", "+0", "-0"]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in one.modules())


def test_the_module_that_raises_stays_until_the_network_runs_again() -> None:
    noted: list[str] = []
    one = network(noted, raises=True)
    with running_modules(one) as running:
        told(one, running)
        for _ in range(2):
            with pytest.raises(ValueError, match="no"):
                one(torch.zeros(1))
            assert [path for path, _ in running] == ["", "1", "1.inner"]


def test_code_that_catches_errors_goes_on_with_the_right_module() -> None:
    noted: list[str] = []
    one = network(noted, raises=True)
    with running_modules(one, stay_at_error=False) as running:
        told(one, running)
        one(torch.zeros(1))
    assert noted == ["0", "1", "1.inner", "0"]
