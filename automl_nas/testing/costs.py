"""Contract tests of cost models: `CostModelContract`."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod

import numpy as np
import pytest
import torch

from automl_nas.errors import SpaceError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream


class CostModelContract(ABC):
    """The tests of a `CostModel`. Derive a class, implement `make_space` and `make`, and run pytest::

        class TestMyCost(CostModelContract):
            def make_space(self): return ToySpace()
            def make(self, space): return MyCost(space)

    Attributes:
        adds_up: whether the cost of a network is the sum over its modules; False for a measured latency.
        repeatable: whether two estimates of an architecture are exactly equal; False for a measured latency.
        samples: the number of architectures drawn for each test.
    """

    adds_up: bool = True
    repeatable: bool = True
    samples: int = 4

    @abstractmethod
    def make_space(self) -> SearchSpace:
        """Return a small search space, the same each time."""

    @abstractmethod
    def make(self, space: SearchSpace) -> CostModel:
        """Return the cost model under test."""

    def architectures(self, space: SearchSpace) -> list[Architecture]:
        """Return the architectures of the tests (default: `samples` random ones)."""
        return [space.sample(stream(0, "contract", number)) for number in range(self.samples)]

    def test_it_has_a_metric_and_a_unit(self) -> None:
        """The name of the metric can be used in a constraint."""
        model = self.make(self.make_space())
        assert model.metric.isidentifier()
        assert model.unit.strip() == model.unit != ""
        assert isinstance(model.integral, bool)

    def test_values_are_finite_and_not_negative(self) -> None:
        """Costs of networks and of modules; they are whole numbers if the model is ``integral``."""
        space = self.make_space()
        model = self.make(space)
        for architecture in self.architectures(space):
            values = [model.estimate(architecture), *model.breakdown(architecture).values()]
            assert all(math.isfinite(value) and value >= 0 for value in values)
            assert not model.integral or all(value == int(value) for value in values)

    def test_the_modules_add_up(self) -> None:
        """`estimate` is the sum of `breakdown`, exactly for whole numbers, otherwise up to rounding."""
        space = self.make_space()
        model = self.make(space)
        for architecture in self.architectures(space) if self.adds_up else ():
            total, parts = model.estimate(architecture), model.breakdown(architecture)
            # fsum rounds once; the relative error of a plain sum of n doubles is at most n * 2^-53, far below 1e-9.
            tolerance = 0.0 if model.integral else 1e-9
            assert math.isclose(total, math.fsum(parts.values()), rel_tol=tolerance)

    def test_it_depends_on_the_architecture_alone(self) -> None:
        """Another instance returns the same values in another order and with another random state."""
        space = self.make_space()
        first, second = self.make(space), self.make(self.make_space())
        architectures = self.architectures(space) if self.repeatable else []
        values = [first.estimate(architecture) for architecture in architectures]
        random.random(), torch.rand(3)
        assert [second.estimate(architecture) for architecture in reversed(architectures)] == values[::-1]
        assert [dict(first.breakdown(a)) for a in architectures] == [dict(second.breakdown(a)) for a in architectures]

    def test_it_leaves_the_random_state_alone(self) -> None:
        """An estimate does not change the global generators of torch, NumPy and Python."""
        space = self.make_space()
        model = self.make(space)
        before = random.getstate(), torch.get_rng_state()
        numbers = np.random.get_state(legacy=False)
        for architecture in self.architectures(space):
            model.estimate(architecture)
            model.breakdown(architecture)
        after = np.random.get_state(legacy=False)
        assert random.getstate() == before[0]
        assert torch.equal(torch.get_rng_state(), before[1])
        assert isinstance(numbers, dict) and isinstance(after, dict)
        assert after["state"]["pos"] == numbers["state"]["pos"]
        assert np.array_equal(after["state"]["key"], numbers["state"]["key"])

    def test_an_architecture_of_another_space_is_refused(self) -> None:
        """`estimate` raises an error."""
        model = self.make(self.make_space())
        with pytest.raises((SpaceError, KeyError)):
            model.estimate(Architecture({"no-such-decision": 0}))
