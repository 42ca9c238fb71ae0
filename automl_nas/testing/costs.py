"""What every cost model must pass: `CostModelContract`."""

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
    """The tests of a `CostModel`. Inherit, give `make_space` and `make`, and pytest runs the rest::

        class TestMyCost(CostModelContract):
            def make_space(self): return ToySpace()
            def make(self, space): return MyCost(space)

    Attributes:
        adds_up: whether the cost of a network is the sum over its modules (not so for a measured latency).
        repeatable: whether the same architecture costs exactly the same each time (not so for a measured latency).
        samples: how many architectures are drawn for each test.
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
        """Return the architectures the tests use: a few that are drawn."""
        return [space.sample(stream(0, "contract", number)) for number in range(self.samples)]

    def test_it_says_what_it_measures(self) -> None:
        """It has a metric's name that a constraint can be written with, and a unit."""
        model = self.make(self.make_space())
        assert model.metric.isidentifier()
        assert model.unit.strip() == model.unit != ""
        assert isinstance(model.integral, bool)

    def test_values_are_finite_and_not_negative(self) -> None:
        """Of the whole network and of each module; whole numbers where the model says so."""
        space = self.make_space()
        model = self.make(space)
        for architecture in self.architectures(space):
            values = [model.estimate(architecture), *model.breakdown(architecture).values()]
            assert all(math.isfinite(value) and value >= 0 for value in values)
            assert not model.integral or all(value == int(value) for value in values)

    def test_the_modules_add_up(self) -> None:
        """`estimate` is the sum of `breakdown`: exactly for whole numbers, else to rounding."""
        space = self.make_space()
        model = self.make(space)
        for architecture in self.architectures(space) if self.adds_up else ():
            total, parts = model.estimate(architecture), model.breakdown(architecture)
            # fsum rounds once; a plain sum of n doubles is off by at most n * 2^-53 of it, far below 1e-9.
            tolerance = 0.0 if model.integral else 1e-9
            assert math.isclose(total, math.fsum(parts.values()), rel_tol=tolerance)

    def test_it_depends_on_the_architecture_alone(self) -> None:
        """The same values from another instance, asked in another order, whatever the random state."""
        space = self.make_space()
        first, second = self.make(space), self.make(self.make_space())
        architectures = self.architectures(space) if self.repeatable else []
        values = [first.estimate(architecture) for architecture in architectures]
        random.random(), torch.rand(3)
        assert [second.estimate(architecture) for architecture in reversed(architectures)] == values[::-1]
        assert [dict(first.breakdown(a)) for a in architectures] == [dict(second.breakdown(a)) for a in architectures]

    def test_it_leaves_the_random_state_alone(self) -> None:
        """To ask for a cost changes nothing that is drawn afterwards: torch, NumPy and Python."""
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
        """With a located error, not a number."""
        model = self.make(self.make_space())
        with pytest.raises((SpaceError, KeyError)):
            model.estimate(Architecture({"no-such-decision": 0}))
