from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from torch import nn

from automl_nas.space.architecture import Architecture
from automl_nas.space.decisions import Choice, Decision
from automl_nas.space.space import SearchSpace


class Wrapped(SearchSpace):
    """A space of some networks: the value of the decision ``network`` is the number of one."""

    def __init__(self, shape: tuple[int, ...], *makers: Callable[[], nn.Module]) -> None:
        self._shape, self._makers = shape, makers

    @property
    def decisions(self) -> Mapping[str, Decision]:
        return {"network": Choice(tuple(range(len(self._makers))))}

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self._shape

    def build(self, architecture: Architecture) -> nn.Module:
        return self._makers[int(str(self.validate(architecture)["network"]))]()


Wrap = Callable[..., SearchSpace]


@pytest.fixture
def wrap() -> Wrap:
    """``wrap(shape, make, ...)`` makes a space of networks."""
    return Wrapped
