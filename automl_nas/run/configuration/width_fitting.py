"""A setting of the final space that is fitted to a limit after the search: the paper's global width multiplier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automl_nas.errors import ConfigurationError, RunFailedError, SpaceError, did_you_mean
from automl_nas.evaluation.costs.measured import MeasuredCost
from automl_nas.evaluation.costs.model import CostModel
from automl_nas.plugin.validation_errors import join
from automl_nas.run.configuration.components import Components
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


def separate_fit(spec: Any, path: str) -> tuple[Any, str | None, Mapping[str, str]]:
    """Take the setting that is to be fitted out of the section of a space.

    Args:
        spec: as written: ``{width: {fit: {params: "<= 3M"}}, ...}``.
        path: where it stands.

    Returns:
        The section without that setting, its name (None: nothing is fitted), and cost -> limit.

    Raises:
        ConfigurationError: more than one setting is to be fitted, or the limits are no mapping of costs.
    """
    if not isinstance(spec, Mapping):
        return spec, None, {}
    found = [name for name, value in spec.items() if isinstance(value, Mapping) and set(value) == {"fit"}]
    if not found:
        return spec, None, {}
    if len(found) > 1:
        raise ConfigurationError(f"one setting can be fitted, not {' and '.join(found)}", path=join(path, found[1]))
    limits = spec[found[0]]["fit"]
    if not isinstance(limits, Mapping) or not limits:
        raise ConfigurationError(
            f"write cost: limit, e.g. {{fit: {{params: '<= 3M'}}}}, not {limits!r}", path=join(path, f"{found[0]}.fit")
        )
    return {name: value for name, value in spec.items() if name != found[0]}, found[0], dict(limits)


class WidthFitter:
    """Finds the largest value of a setting with which the exact cost of an architecture meets limits.

    The cost has to grow with the setting. Values that the space refuses (widths that its groups do not divide, say) are
    passed over.

    Args:
        components: make spaces and cost models.
        spec: the resolved configuration of the final space; it holds a value of the setting to begin from.
        setting: its name: a whole number.
        limits: cost -> upper limit, e.g. ``<= 3M``.
        costs: name -> resolved cost model; those of the problem. Costs that only ``limits`` names are added.
        like: the searched space: the decisions must be the same.
        seed: of the run.
        path: of the final space's section.

    Raises:
        ConfigurationError: the setting is no whole number, a limit cannot be read, or its cost is not known exactly.
    """

    def __init__(
        self,
        components: Components,
        spec: Mapping[str, Any],
        setting: str,
        limits: Mapping[str, str],
        costs: Mapping[str, Mapping[str, Any]],
        like: SearchSpace,
        seed: int,
        path: str,
    ) -> None:
        self._components, self._spec, self._setting, self._seed, self._path = components, spec, setting, seed, path
        self._like, self._costs, self._limits = like, dict(costs), dict(limits)
        where = join(path, setting)
        if setting not in spec:
            raise ConfigurationError(
                f"'{spec['name']}' has no setting '{setting}'{did_you_mean(setting, spec)}", path=where
            )
        value = spec.get(setting)
        self._first = FIRST if value is None else value
        if type(self._first) is not int or self._first < 1:
            raise ConfigurationError(
                f"what is fitted is a whole number of at least 1, and this is {value!r}", path=where
            )
        known = {*costs, *components.registry.names("cost_models")}
        self._constraints: list[Constraint] = []
        for name, limit in limits.items():
            at = f"{where}.fit.{name}"
            if name not in known:
                raise ConfigurationError(f"there is no cost '{name}'{did_you_mean(name, known)}", path=at)
            if name not in self._costs:
                self._costs[name] = components.resolve("cost_models", name, at)
            try:
                constraint = parse_constraint(name, limit)
            except ConfigurationError as error:
                raise ConfigurationError(error.message, path=at) from None
            if constraint.low != float("-inf"):
                raise ConfigurationError("an upper limit is needed, such as '<= 3M'", path=at)
            self._constraints.append(constraint)
        if isinstance(self._models(like)[next(iter(limits))], MeasuredCost):
            raise ConfigurationError(
                "a setting is fitted to an exact cost; latency is measured, so give it as a constraint", path=where
            )
        self._made: dict[int, SearchSpace | None] = {}

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
                    f"search}}), or put the limit into {join(self._path, self._setting)}.fit",
                    path=f"problem.constraints.{constraint.metric}",
                )

    def fit(self, architecture: Architecture) -> FittedSpace:
        """Return the largest fit for an architecture.

        Raises:
            RunFailedError: no value is small enough, or none is too large.
        """
        low, high = 0, LARGEST
        value = self._first
        while (found := self._accepted(value, low, high)) is not None:
            if self._meets(found, architecture):
                low = found
            else:
                high = found
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
                f"has {nearest}; raise the limit in {join(self._path, self._setting)}.fit"
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
            name: self._components.construct(
                "cost_models", spec, [space], stream_seed(self._seed, f"cost/{name}"), f"problem.costs.{name}"
            )
            for name, spec in self._costs.items()
        }

    def _space(self, value: int) -> SearchSpace | None:
        if value not in self._made:
            self._made[value] = None
            try:
                made = make_space(self._components, {**self._spec, self._setting: value}, self._seed, self._path)
            except (ConfigurationError, SpaceError):
                if value == self._first:
                    raise
            else:
                if dict(made.decisions) != dict(self._like.decisions):
                    raise ConfigurationError(
                        f"{self._setting} changes the decisions of the space, so it cannot be fitted after the search",
                        path=join(self._path, self._setting),
                    )
                self._made[value] = made
        return self._made[value]
