"""Fits a setting of the final space to a limit after the search, such as the global width multiplier of a paper."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automl_nas.errors import ConfigurationError, RunFailedError, SpaceError, did_you_mean
from automl_nas.evaluation.costs.measured import MeasuredCost
from automl_nas.evaluation.costs.model import CostModel, checked_cost
from automl_nas.plugin.validation_errors import join
from automl_nas.run.configuration.context import RunContext
from automl_nas.run.configuration.problem import SEARCHED
from automl_nas.run.configuration.space import make_space
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Constraint, Problem, parse_constraint
from automl_nas.streams import stream_seed

MAX_VALUE = 1 << 20
"""Upper bound of the setting. A cost that meets its limit with this value does not depend on the setting."""

DEFAULT_START = 8
"""The first value that is tried for a setting that is null, so whose value the space decides."""

MAX_DISTANCE = 1024
"""Maximum distance between a value that the space refuses and the value that is tried instead."""

_WIDTH_POWER = 2.0
"""The power of a width with which FLOPs and parameters grow, as long as only one value was tried."""

_MAX_FACTOR = 8.0
"""How many times larger or smaller the next value is at most."""


@dataclass(frozen=True)
class FittedSpace:
    """A final space whose setting is fitted for one architecture.

    Attributes:
        value: of the setting.
        spec: the resolved configuration of the space.
        space: constructed with that value.
        costs: cost -> value for the architecture in this space.
    """

    value: int
    spec: Mapping[str, Any]
    space: SearchSpace
    costs: Mapping[str, float]


@dataclass(frozen=True)
class FittedSetting:
    """A setting of the final space that is fitted after the search.

    Attributes:
        name: of the setting.
        limits: cost -> upper limit, e.g. ``<= 3M``.
        path: of the setting in the configuration.
    """

    name: str
    limits: Mapping[str, str]
    path: str


def separate_fit(spec: Any, path: str) -> tuple[Any, FittedSetting | None]:
    """Separate the setting that is to be fitted from the section of a space.

    Args:
        spec: as written: ``{width: {fit: {params: "<= 3M"}}, ...}``.
        path: of the section.

    Returns:
        The section without that setting, and the setting; None: no setting is to be fitted.

    Raises:
        ConfigurationError: more than one setting is to be fitted, or the limits are not a mapping of costs.
    """
    if not isinstance(spec, Mapping):
        return spec, None
    names = [name for name, value in spec.items() if isinstance(value, Mapping) and set(value) == {"fit"}]
    if not names:
        return spec, None
    if len(names) > 1:
        raise ConfigurationError(
            f"only one setting can be fitted, not {' and '.join(names)}", path=join(path, names[1])
        )
    name, limits = names[0], spec[names[0]]["fit"]
    if not isinstance(limits, Mapping) or not limits:
        raise ConfigurationError(
            f"must be a mapping cost: limit, e.g. {{fit: {{params: '<= 3M'}}}}, not {limits!r}",
            path=join(path, f"{name}.fit"),
        )
    others = {key: value for key, value in spec.items() if key != name}
    return others, FittedSetting(name, dict(limits), join(path, name))


def _next_value(low: int, high: int, shares: Mapping[int, float]) -> int:
    """Return the value to try next, strictly between two: the larger the network, the longer it takes to construct.

    Costs grow about as a power of the value. With values on both sides of the limit, the next one is where a straight
    line through the logarithms of the nearest two reaches it; every third value from the sixth on halves the interval
    instead, whatever the costs are. With values on one side only, it is just beyond where the power reaches the limit.

    Args:
        low: the largest value that meets the limits; 0: none does so far.
        high: the smallest value that misses them; `MAX_VALUE`: none does so far.
        shares: value -> its cost as a share of the limit, for each value that was tried.
    """
    if high == MAX_VALUE:
        factor = _factor(sorted(shares)[-2:], shares)
        return min(max(int(low * factor) + 1, low + 1), MAX_VALUE)
    if not low:
        factor = _factor(sorted(shares)[:2][::-1], shares)
        return min(max(int(high / factor), 1), high - 1)
    if 0 < shares[low] < shares[high] < math.inf and (len(shares) % 3 or len(shares) == 3):
        share = math.log(1 / shares[low]) / math.log(shares[high] / shares[low])
        return min(max(int(low * (high / low) ** share), low + 1), high - 1)
    return (low + high) // 2


def _factor(values: Sequence[int], shares: Mapping[int, float]) -> float:
    """Return how many times larger or smaller the value at the limit is, from 1 to 8, than the last of those tried.

    Args:
        values: the last one or two that were tried, the nearest to the limit last.
        shares: see `_next_value`.
    """
    power = _WIDTH_POWER
    if len(values) > 1 and all(0 < shares[value] < math.inf for value in values):
        power = math.log(shares[values[1]] / shares[values[0]]) / math.log(values[1] / values[0])
    share = shares[values[-1]]
    if power <= 0 or not 0 < share < math.inf:
        return 2.0
    return math.exp(min(abs(math.log(share)) / power, math.log(_MAX_FACTOR)))


class WidthFitter:
    """Finds the largest value of a setting with which the exact costs of an architecture meet limits.

    The costs must grow with the setting. Values that the space refuses (for example, widths that its groups do not
    divide) are skipped.

    Args:
        context: the search space, whose decisions the fitted spaces must have, and what constructs spaces and costs.
        spec: the resolved configuration of the final space; it holds the value that fitting begins from.
        setting: what is fitted.
        costs: name -> resolved cost model; those of the problem. Costs that only the limits name are added.

    Raises:
        ConfigurationError: the setting is not a whole number, a limit cannot be read, or its cost is measured.
    """

    def __init__(
        self,
        context: RunContext,
        spec: Mapping[str, Any],
        setting: FittedSetting,
        costs: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self._context, self._spec, self._setting, self._path = context, spec, setting.name, setting.path
        self._costs, self._limits = dict(costs), setting.limits
        if setting.name not in spec:
            raise ConfigurationError(
                f"'{spec['name']}' has no setting '{setting.name}'{did_you_mean(setting.name, spec)}", path=setting.path
            )
        value = spec.get(setting.name)
        self._first = DEFAULT_START if value is None else value
        if type(self._first) is not int or self._first < 1:
            raise ConfigurationError(
                f"a fitted setting must be a whole number of at least 1, and this is {value!r}", path=setting.path
            )
        self._constraints = [self._constraint(name, limit) for name, limit in setting.limits.items()]
        first_cost = next(iter(setting.limits))
        if isinstance(self._model(first_cost, context.space), MeasuredCost):
            raise ConfigurationError(
                f"a setting is fitted to exact costs, and {first_cost} is measured; limit it in problem.constraints",
                path=setting.path,
            )
        self._spaces: dict[int, SearchSpace | None] = {}

    def _constraint(self, name: str, limit: str) -> Constraint:
        path, components = f"{self._path}.fit.{name}", self._context.components
        names = {*self._costs, *components.registry.names("cost_models")}
        if name not in names:
            raise ConfigurationError(f"unknown cost '{name}'{did_you_mean(name, names)}", path=path)
        if name not in self._costs:
            self._costs[name] = components.resolve("cost_models", name, path)
        try:
            constraint = parse_constraint(name, limit)
        except ConfigurationError as error:
            raise ConfigurationError(error.message, path=path) from None
        if constraint.low != float("-inf"):
            raise ConfigurationError("the limit must be an upper limit, such as '<= 3M'", path=path)
        return constraint

    @property
    def config(self) -> dict[str, Any]:
        """The resolved section ``final.space``, with the limits in place of the value."""
        return {**self._spec, self._setting: {"fit": dict(self._limits)}}

    def check(self, problem: Problem, stage: str) -> None:
        """Check that no constraint of a stage limits a cost of the delivered network, which the search does not know.

        Args:
            problem: of the stage whose result is retrained.
            stage: its name.

        Raises:
            ConfigurationError: a constraint does.
        """
        for constraint in problem.constraints:
            if constraint.metric in problem.cost_models and not constraint.metric.endswith(SEARCHED):
                raise ConfigurationError(
                    f"the stage '{stage}' limits {constraint.metric} of the delivered network, whose {self._setting} "
                    f"is only known after the search; limit the network of the search space ({{limit: "
                    f"'{constraint.text}', of: search}}), or write the limit in {self._path}.fit",
                    path=f"problem.constraints.{constraint.metric}",
                )

    def fit(self, architecture: Architecture) -> FittedSpace:
        """Return the space with the largest value of the setting that meets the limits for an architecture.

        Raises:
            RunFailedError: no value meets the limits, or every value does.
        """
        low, high = 0, MAX_VALUE
        value = self._first
        costs, shares = dict[int, dict[str, float]](), dict[int, float]()
        limited = [constraint.metric for constraint in self._constraints]
        while (accepted := self._accepted(value, low, high)) is not None:
            costs[accepted] = self._cost(accepted, architecture, limited)
            violation = max(each.violation(costs[accepted][each.metric]) for each in self._constraints)
            shares[accepted] = 1 + violation
            if violation <= 0:
                low = accepted
            else:
                high = accepted
            if high - low < 2:
                break
            value = _next_value(low, high, shares)
            if value >= MAX_VALUE:
                raise RunFailedError(
                    f"with {self._setting}: {low} the network still meets {self._limits_text()}; that cost does not "
                    f"grow with {self._setting}, so no value is the largest"
                )
        if not low:
            nearest = ", ".join(f"{c.metric} {costs[high][c.metric]:,.6g}" for c in self._constraints)
            raise RunFailedError(
                f"no {self._setting} meets {self._limits_text()}: with {high}, the smallest value that the space "
                f"accepts, the network has {nearest}; raise the limit in {self._path}.fit"
            )
        space = self._space(low)
        assert space is not None
        others = [name for name in self._costs if name not in limited]
        every = costs[low] | self._cost(low, architecture, others)
        return FittedSpace(low, {**self._spec, self._setting: low}, space, {name: every[name] for name in self._costs})

    def _limits_text(self) -> str:
        return " and ".join(f"{c.metric} {c.text}" for c in self._constraints)

    def _accepted(self, value: int, low: int, high: int) -> int | None:
        """Return the accepted value nearest to ``value``, strictly between low and high; None: no value is accepted."""
        for distance in range(min(high - low, MAX_DISTANCE)):
            for candidate in (value - distance, value + distance):
                if low < candidate < high and self._space(candidate) is not None:
                    return candidate
            if value - distance <= low and value + distance >= high:
                break
        return None

    def _cost(self, value: int, architecture: Architecture, names: Collection[str]) -> dict[str, float]:
        space = self._space(value)
        assert space is not None
        models = {name: self._model(name, space) for name in names}
        return {
            name: checked_cost(model.estimate(architecture), name, model, architecture)
            for name, model in models.items()
        }

    def _model(self, name: str, space: SearchSpace) -> CostModel:
        seed = stream_seed(self._context.seed, f"cost/{name}")
        spec, path = self._costs[name], f"problem.costs.{name}"
        model: CostModel = self._context.components.construct("cost_models", spec, [space], seed, path)
        return model

    def _space(self, value: int) -> SearchSpace | None:
        if value not in self._spaces:
            self._spaces[value] = None
            config = {**self._spec, self._setting: value}
            try:
                space = make_space(self._context.components, config, self._context.seed, "final.space")
            except (ConfigurationError, SpaceError):
                if value == self._first:
                    raise
            else:
                if dict(space.decisions) != dict(self._context.space.decisions):
                    raise ConfigurationError(
                        f"{self._setting} changes the decisions of the space, so it cannot be fitted after the search",
                        path=self._path,
                    )
                self._spaces[value] = space
        return self._spaces[value]
