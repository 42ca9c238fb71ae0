"""A setting of the final space that is fitted to a limit after the search: the paper's global width multiplier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automl_nas.errors import ConfigurationError, RunFailedError, SpaceError, did_you_mean
from automl_nas.evaluation.costs.measured import MeasuredCost
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.plugin.validation_errors import join
from automl_nas.run.configuration.context import RunContext
from automl_nas.run.configuration.problem import SEARCHED
from automl_nas.run.configuration.space import make_space
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace
from automl_nas.strategy.problem import Constraint, Problem, parse_constraint
from automl_nas.streams import stream_seed

LARGEST = 1 << 20
"""No setting is made larger than this: a cost that still meets its limit does not depend on the setting."""

FIRST = 8
"""Where a setting that is null, so decided by the space, is begun from."""

APART = 1024
"""So far from a value that the space refuses another one is looked for."""


@dataclass(frozen=True)
class FittedSpace:
    """A space whose setting fits an architecture to a limit.

    Attributes:
        value: of the setting.
        spec: the resolved configuration of the space.
        space: with that setting.
        costs: of the architecture in it.
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
        raise ConfigurationError(f"one setting can be fitted, not {' and '.join(names)}", path=join(path, names[1]))
    name, limits = names[0], spec[names[0]]["fit"]
    if not isinstance(limits, Mapping) or not limits:
        raise ConfigurationError(
            f"write cost: limit, e.g. {{fit: {{params: '<= 3M'}}}}, not {limits!r}", path=join(path, f"{name}.fit")
        )
    others = {key: value for key, value in spec.items() if key != name}
    return others, FittedSetting(name, dict(limits), join(path, name))


class WidthFitter:
    """Finds the largest value of a setting with which the exact cost of an architecture meets limits.

    The cost has to grow with the setting. Values that the space refuses (widths that its groups do not divide, say) are
    passed over.

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
        self._first = FIRST if value is None else value
        if type(self._first) is not int or self._first < 1:
            raise ConfigurationError(
                f"what is fitted is a whole number of at least 1, and this is {value!r}", path=setting.path
            )
        self._constraints = [self._constraint(name, limit) for name, limit in setting.limits.items()]
        if isinstance(self._models(context.space)[next(iter(setting.limits))], MeasuredCost):
            raise ConfigurationError(
                "a setting is fitted to an exact cost; latency is measured, so give it as a constraint",
                path=setting.path,
            )
        self._spaces: dict[int, SearchSpace | None] = {}

    def _constraint(self, name: str, limit: str) -> Constraint:
        path, components = f"{self._path}.fit.{name}", self._context.components
        names = {*self._costs, *components.registry.names("cost_models")}
        if name not in names:
            raise ConfigurationError(f"there is no cost '{name}'{did_you_mean(name, names)}", path=path)
        if name not in self._costs:
            self._costs[name] = components.resolve("cost_models", name, path)
        try:
            constraint = parse_constraint(name, limit)
        except ConfigurationError as error:
            raise ConfigurationError(error.message, path=path) from None
        if constraint.low != float("-inf"):
            raise ConfigurationError("an upper limit is needed, such as '<= 3M'", path=path)
        return constraint

    @property
    def config(self) -> dict[str, Any]:
        """The resolved section, as it is recorded."""
        return {**self._spec, self._setting: {"fit": dict(self._limits)}}

    def check(self, problem: Problem, stage: str) -> None:
        """Check that no constraint of the stage speaks of networks whose setting is not known before its end.

        Raises:
            ConfigurationError: one does.
        """
        for constraint in problem.constraints:
            if constraint.metric in problem.cost_models and not constraint.metric.endswith(SEARCHED):
                raise ConfigurationError(
                    f"the stage '{stage}' limits {constraint.metric} of the delivered network, whose {self._setting} "
                    f"is only known after the search; limit it as it is searched ({{limit: '{constraint.text}', of: "
                    f"search}}), or put the limit into {self._path}.fit",
                    path=f"problem.constraints.{constraint.metric}",
                )

    def fit(self, architecture: Architecture) -> FittedSpace:
        """Return the largest fit for an architecture.

        Raises:
            RunFailedError: no value is small enough, or none is too large.
        """
        low, high = 0, LARGEST
        value = self._first
        while (accepted := self._accepted(value, low, high)) is not None:
            if self._meets(accepted, architecture):
                low = accepted
            else:
                high = accepted
            if high - low < 2:
                break
            value = 2 * low if high == LARGEST else (low + high) // 2
            if value >= LARGEST:
                raise RunFailedError(
                    f"with {self._setting}: {low} the network still meets {self._said()}: that cost does not grow with "
                    f"{self._setting}, so there is no largest one"
                )
        if not low:
            costs = self._cost(high, architecture)
            nearest = ", ".join(f"{c.metric} {costs[c.metric]:,.6g}" for c in self._constraints)
            raise RunFailedError(
                f"no {self._setting} meets {self._said()}: with {high}, the smallest that the space takes, the network "
                f"has {nearest}; raise the limit in {self._path}.fit"
            )
        space = self._space(low)
        assert space is not None
        return FittedSpace(low, {**self._spec, self._setting: low}, space, self._cost(low, architecture))

    def _said(self) -> str:
        return " and ".join(f"{c.metric} {c.text}" for c in self._constraints)

    def _accepted(self, value: int, low: int, high: int) -> int | None:
        """Return the value nearest to one, between two others (exclusive), that the space takes."""
        for distance in range(min(high - low, APART)):
            for near in (value - distance, value + distance):
                if low < near < high and self._space(near) is not None:
                    return near
            if value - distance <= low and value + distance >= high:
                break
        return None

    def _meets(self, value: int, architecture: Architecture) -> bool:
        costs = self._cost(value, architecture)
        return all(constraint.violation(costs[constraint.metric]) <= 0 for constraint in self._constraints)

    def _cost(self, value: int, architecture: Architecture) -> dict[str, float]:
        space = self._space(value)
        assert space is not None
        return {name: model.estimate(architecture) for name, model in self._models(space).items()}

    def _models(self, space: SearchSpace) -> dict[str, CostModel]:
        return {
            name: self._context.components.construct(
                "cost_models", spec, [space], stream_seed(self._context.seed, f"cost/{name}"), f"problem.costs.{name}"
            )
            for name, spec in self._costs.items()
        }

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
