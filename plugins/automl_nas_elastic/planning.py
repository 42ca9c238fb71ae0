"""What the networks of a space keep: options with which every network runs, and the plan of an architecture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from automl_nas.channels import Plan, Trace, verified
from automl_nas.space import Value
from automl_nas_elastic.choices import Findings, Fixed, Option, Steps, Width, chosen, find


@final
class Planner:
    """Makes plans of architectures.

    Args:
        options: what varies.
        orders: name of a width -> its indices, the most important first.

    Attributes:
        options: name of the decision -> what varies.
    """

    def __init__(self, options: Iterable[Option], orders: Mapping[str, NDArray[np.int64]]) -> None:
        self.options = {option.name: option for option in options}
        self._orders = dict(orders)

    def plan(self, values: Mapping[str, Value]) -> Plan:
        """Return what an architecture keeps."""
        plan = Plan()
        for name, option in self.options.items():
            value = values[name]
            assert isinstance(value, int)
            if value == option.decision.options[-1]:
                continue
            if isinstance(option, Width):
                plan.keep(option.atom, self._orders[name][:value])
            else:
                option.apply(plan, option.decision.position(value))
        return plan


def runnable_findings(
    network: nn.Module, trace: Trace, steps: Steps, include: Sequence[str], exclude: Sequence[str]
) -> Findings:
    """Return options with which every network runs, and what cannot vary.

    Args:
        network: the network that was run.
        trace: of its run; axes are unified and fixed in it.
        steps: which sizes the decisions have.
        include: patterns of names of decisions.
        exclude: patterns of names of decisions.
    """
    dropped: dict[str, Fixed] = {}
    findings = Findings()

    def options() -> list[Option]:
        nonlocal findings
        findings = find(network, trace, steps)
        findings.options = [each for each in chosen(findings.options, include, exclude) if each.name not in dropped]
        findings.fixed += dropped.values()
        return findings.options

    def drop(option: Option, reason: str) -> None:
        dropped[option.name] = Fixed(option.paths[0], option.count, reason)

    verified(network, trace, options, drop)
    return findings
