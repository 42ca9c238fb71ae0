"""Costs that are sums over modules, each of which depends on few decisions: `ModuleCosts`."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Mapping
from typing import TypeAlias

from automl_nas.evaluation.costs.additivity import corner, verification_points
from automl_nas.evaluation.costs.model import CostModel, checked_breakdown
from automl_nas.space.architecture import Architecture, Value
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.space import SearchSpace

Names: TypeAlias = tuple[str, ...]
"""Names of the decisions on which modules depend, in the order of the space."""

_COMPARED = 32
"""Of this many networks one is counted though all its modules are remembered."""


class NotLocalError(Exception):
    """The cost of a module depends on more decisions than single changes of the largest architecture show."""


class ModuleCosts:
    """The costs of a model of whole numbers, from the costs of modules that were counted before.

    A convolution from c_in to c_out channels depends on the decisions about these two widths, and on the one about the
    depth if that may leave it out; its cost is that of any network with the same three options. On which decisions
    each module depends is read from all single changes of the architecture of all last options. Modules that depend on
    the same decisions are added up and remembered by the options of these decisions. A network with a combination that
    is new is counted by the model, and everything that is remembered is compared with it. So is one of 32 others.

    Args:
        model: `CostModel.estimate` must be the sum of the breakdown, in whole numbers. A model whose modules depend on
            the whole network, as at the peak of memory, has an `estimate` of its own and is not added up.
        space: of the model, without excluded combinations.
        seed: of the architectures that are compared.
        checks: the number of these architectures, which cover all pairs of options.

    Raises:
        NotLocalError: a comparison failed, a cost is not a whole number, or one module depends on nearly everything.
    """

    def __init__(self, model: CostModel, space: SearchSpace, *, seed: int, checks: int) -> None:
        self._model = model
        decisions = space.decisions
        self._of_modules = self._dependencies(decisions)
        combinations = (math.prod(decisions[name].size for name in names) for names in self._of_modules.values())
        if 2 * max(combinations, default=1) > math.prod(decision.size for decision in decisions.values()):
            raise NotLocalError("a module has as many combinations of options as there are networks")
        self._remembered: dict[Names, dict[tuple[Value, ...], int]] = {names: {} for names in self._of_modules.values()}
        ends = (corner(decisions, first=True), corner(decisions, first=False))
        for architecture in verification_points(decisions, ends, seed, checks):
            self._counted(architecture)

    def _dependencies(self, decisions: Mapping[str, Decision]) -> dict[str, Names]:
        largest = corner(decisions, first=False)
        reference = self._breakdown(largest)
        depends: dict[str, dict[str, None]] = {module: {} for module in reference}
        for name, decision in decisions.items():
            values = decision.neighbours(largest[name]) if isinstance(decision, Subset) else decision.options[:-1]
            for value in values:
                changed = self._breakdown(largest.replace({name: value}))
                for module in reference.keys() | changed.keys():
                    if reference.get(module) != changed.get(module):
                        depends.setdefault(module, {})[name] = None
        return {module: tuple(names) for module, names in depends.items()}

    def estimate(self, architecture: Architecture) -> int:
        """Return the cost of an architecture.

        Raises:
            NotLocalError: the model counts something else than what is remembered.
        """
        if zlib.crc32(architecture.key.encode()) % _COMPARED == 0:
            return self._counted(architecture)
        total = 0
        for names, costs in self._remembered.items():
            cost = costs.get(tuple(architecture[name] for name in names))
            if cost is None:
                return self._counted(architecture)
            total += cost
        return total

    def _counted(self, architecture: Architecture) -> int:
        breakdown = self._breakdown(architecture)
        sums: dict[Names, int] = defaultdict(int)
        for module, cost in breakdown.items():
            if module not in self._of_modules:
                raise NotLocalError(f"the module {module} of {architecture.key} is in none of the compared networks")
            sums[self._of_modules[module]] += cost
        for names, costs in self._remembered.items():
            options = tuple(architecture[name] for name in names)
            if costs.setdefault(options, sums[names]) != sums[names]:
                raise NotLocalError(
                    f"the modules that depend on {' and '.join(names) or 'no decision'} cost {sums[names]} in "
                    f"{architecture.key} and {costs[options]} in another network with the same options"
                )
        return sum(sums.values())

    def _breakdown(self, architecture: Architecture) -> dict[str, int]:
        breakdown = checked_breakdown(self._model, architecture)
        whole = {module: int(value) for module, value in breakdown.items() if value >= 0 and value == value // 1}
        if len(whole) != len(breakdown):
            raise NotLocalError(f"a cost of {architecture.key} is not a whole number of at least 0")
        return whole
