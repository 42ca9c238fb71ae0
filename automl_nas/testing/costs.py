"""Contract tests of cost models: `CostModelContract`."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from automl_nas.errors import SpaceError
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.streams import stream
from automl_nas.testing.contract import Contract, require
from automl_nas.testing.handed import fingerprint
from automl_nas.testing.values import valid_covering


class CostModelContract(Contract):
    """The tests of a `CostModel`. Derive a class, implement `make_space` and `make`, and run pytest::

        class TestMyCost(CostModelContract):
            def make_space(self): return ToySpace()
            def make(self, space): return MyCost(space)

    Attributes:
        adds_up: whether the cost of a network is the sum over its modules; False for a measured latency.
        repeatable: whether two estimates of an architecture are exactly equal; False for a measured latency.
        varies: whether networks of the space have different costs.
        metric: the name of the metric; empty: any name.
        samples: the number of architectures drawn for each test.
    """

    adds_up: bool = True
    repeatable: bool = True
    varies: bool = True
    metric: ClassVar[str] = ""
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

    def use(self, store: Path) -> Mapping[str, Any]:
        """Estimate networks."""
        space = self.make_space()
        model = self.make(space)
        costs = [[model.estimate(a), dict(model.breakdown(a))] for a in self.architectures(space)]
        model.note()
        return {"metric": model.metric, "unit": model.unit, "costs": costs if self.repeatable else []}

    def test_it_has_a_metric_and_a_unit(self) -> None:
        """The name of the metric can be used in a constraint, and is the same in the class and its instances.

        Way out: set the class attributes ``metric`` (a Python name), ``unit`` (text), ``integral``, ``noisy`` (bools).
        """
        model = self.make(self.make_space())
        require(type(model.metric) is str and model.metric.isidentifier(), f"the metric is {model.metric!r}")
        require(type(model.unit) is str and model.unit.strip() == model.unit != "", f"the unit is {model.unit!r}")
        for name in ("integral", "noisy"):
            require(type(getattr(model, name)) is bool, f"{name} is {getattr(model, name)!r}")
        require(self.metric in ("", model.metric), f"the metric is {model.metric!r} instead of {self.metric!r}")

    def test_values_are_plain_numbers(self) -> None:
        """Costs of networks and of modules are of type int or float, finite and not negative, with text as names.

        They are whole numbers if the model is ``integral``.

        Way out: convert with float() or int(); a difference that may be negative cannot be a cost.
        """
        space = self.make_space()
        model = self.make(space)
        for architecture in self.architectures(space):
            breakdown = model.breakdown(architecture)
            require(isinstance(breakdown, Mapping), f"breakdown returns a {type(breakdown).__name__}")
            for name, value in {"estimate": model.estimate(architecture), **breakdown}.items():
                require(type(name) is str, f"a module has the name {name!r}")
                require(type(value) in (int, float), f"{name} is {value!r}, a {type(value).__name__}")
                require(math.isfinite(value) and value >= 0, f"{name} is {value}")
                require(not model.integral or value == int(value), f"{name} is {value}, and the model is integral")

    def test_the_modules_add_up(self) -> None:
        """`estimate` is the sum of `breakdown`, exactly for whole numbers, otherwise up to rounding.

        Way out: leave the default `estimate`; if the metric does not add up, set ``adds_up = False`` in the contract
        class.
        """
        space = self.make_space()
        model = self.make(space)
        for architecture in self.architectures(space) if self.adds_up else ():
            total, parts = model.estimate(architecture), model.breakdown(architecture)
            # fsum rounds once; the relative error of a plain sum of n doubles is at most n * 2^-53, far below 1e-9.
            tolerance = 0.0 if model.integral else 1e-9
            summed = math.fsum(parts.values())
            require(math.isclose(total, summed, rel_tol=tolerance), f"the estimate is {total}, the sum is {summed}")

    def test_it_depends_on_the_architecture_alone(self) -> None:
        """Another instance returns the same values, in another order of estimates and decisions, and a second time.

        Way out: keep nothing from one estimate to the next but a cache by the architecture itself, and read decisions
        by their names: equal architectures may have them in another order.
        """
        space = self.make_space()
        first, second = self.make(space), self.make(self.make_space())
        architectures = self.architectures(space) if self.repeatable else []
        values = [first.estimate(architecture) for architecture in architectures]
        again = [first.estimate(architecture) for architecture in architectures]
        require(again == values, f"the estimates are {values}, and the second time {again}")
        reverse = [second.estimate(architecture) for architecture in reversed(architectures)]
        require(reverse == values[::-1], "another instance and order gives other estimates")
        equal = [dict(first.breakdown(a)) for a in architectures] == [dict(second.breakdown(a)) for a in architectures]
        require(equal, "another instance gives another breakdown")
        for architecture, value in zip(architectures, values, strict=True):
            turned = Architecture(dict(reversed(list(architecture.items()))))
            other = self.make(space).estimate(turned)
            require(other == value, f"the cost is {value}, and {other} with the decisions in another order")
            remarks = tuple(first.remarks(architecture)), tuple(first.remarks(architecture))
            require(remarks[0] == remarks[1], f"the remarks are {remarks[0]} and then {remarks[1]}")

    def test_networks_have_different_costs(self) -> None:
        """Architectures that together have every option do not all have the same cost.

        Way out: compute the cost of the given architecture. If all networks of the contract's space really have the
        same cost, use another space or set ``varies = False``.
        """
        space = self.make_space()
        model = self.make(space)
        covering = valid_covering(space, 3) if self.repeatable else []
        architectures = [*self.architectures(space), *covering]
        costs = {model.estimate(architecture) for architecture in architectures}
        require(not self.varies or len(costs) > 1, f"{len(architectures)} networks have the cost {costs}")

    def test_what_it_receives_is_not_changed(self) -> None:
        """The space and the architectures are the same after an estimate.

        Way out: build another network for the estimate; copy before changing.
        """
        space = self.make_space()
        architectures = self.architectures(space)
        before = fingerprint((space, architectures))
        model = self.make(space)
        for architecture in architectures:
            model.estimate(architecture)
        require(fingerprint((space, architectures)) == before, "the space or an architecture was changed")

    def test_a_breakdown_is_not_shared(self) -> None:
        """Changing a breakdown does not change later estimates.

        Way out: return a new dict each time, not one that the model keeps.
        """
        space = self.make_space()
        model, architecture = self.make(space), self.architectures(space)[0]
        before = dict(model.breakdown(architecture))
        changed = model.breakdown(architecture)
        if isinstance(changed, dict):
            changed.clear()
        same = dict(model.breakdown(architecture)) == before
        require(same or not self.repeatable, "a changed breakdown changed the model")

    def test_notes_are_text(self) -> None:
        """`note` returns text, and `remarks` a sequence of text.

        Way out: return "" and () if there is nothing to say.
        """
        space = self.make_space()
        model = self.make(space)
        require(type(model.note()) is str, f"note() returns {model.note()!r}")
        remarks = model.remarks(self.architectures(space)[0])
        plain = not isinstance(remarks, str) and all(type(remark) is str for remark in remarks)
        require(plain, f"remarks() returns {remarks!r}")

    def test_a_listing_has_the_costs_of_the_estimates(self) -> None:
        """`listing` is None, or architectures and the cost of all others: of those it does not list.

        Way out: return None unless most architectures have one cost.
        """
        space = self.make_space()
        model = self.make(space)
        listing = model.listing()
        if listing is None:
            return
        listed, rest = {item.key for item in listing[0]}, listing[1]
        for item in listing[0]:
            require(space.validate(item) == item, f"{item.key} is not of the space")
        for architecture in self.architectures(space):
            other = architecture.key not in listed
            require(not other or model.estimate(architecture) == rest, f"{architecture.key} does not cost {rest}")

    def test_an_architecture_of_another_space_is_refused(self) -> None:
        """`estimate` raises SpaceError or KeyError.

        Way out: read the decisions by name, or call `SearchSpace.validate`.
        """
        model = self.make(self.make_space())
        try:
            value = model.estimate(Architecture({"no-such-decision": 0}))
        except (SpaceError, KeyError):
            return
        raise AssertionError(f"an architecture of another space costs {value}")
