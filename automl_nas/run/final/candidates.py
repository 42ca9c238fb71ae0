"""The networks of the last stage: what is trained, with which weights it begins, how it compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from automl_nas.errors import ConfigurationError
from automl_nas.evaluation.statistics import difference_interval
from automl_nas.space.architecture import Architecture
from automl_nas.space.space import SearchSpace


@dataclass(frozen=True)
class FinalCandidate:
    """A network to retrain.

    Attributes:
        role: ``found``, ``largest``, ``random`` or ``equal``.
        architecture: what to build.
        space: that builds it.
        costs: of the network.
        trial: the number of the trial it comes from, if any.
        spec: the resolved configuration of the space, where it is the network's own.
    """

    role: str
    architecture: Architecture
    space: SearchSpace
    costs: Mapping[str, float]
    trial: int | None = None
    spec: Mapping[str, Any] | None = None


def compare(metric: str, networks: list[dict[str, Any]], chosen: int, other: int) -> dict[str, Any]:
    """Return by how much the delivered network is better than another one in the test, and whether that is noise.

    Args:
        metric: by which they are compared.
        networks: records of what was trained and tested.
        chosen: the delivered one.
        other: the other one.
    """
    mine, theirs = networks[chosen], networks[other]
    difference = mine["test"][metric] - theirs["test"][metric]
    comparison: dict[str, Any] = {"with": theirs["role"], "network": other, "difference": difference}
    if metric in mine["test_interval"] and metric in theirs["test_interval"]:
        low, high = difference_interval(
            mine["test"][metric],
            tuple(mine["test_interval"][metric]),
            theirs["test"][metric],
            tuple(theirs["test_interval"][metric]),
        )
        comparison |= {"interval": [low, high], "exceeds_noise": low > 0 or high < 0}
    return comparison


def take_weights(network: nn.Module, donor: nn.Module) -> None:
    """Copy a donor's weights into a network of the same layout, which may have more of them (an affine BN, say).

    Raises:
        ConfigurationError: a tensor of the donor has no place in the network, or another shape.
    """
    own, given = network.state_dict(), donor.state_dict()
    wrong = [name for name, tensor in given.items() if name not in own or own[name].shape != tensor.shape]
    if wrong:
        raise ConfigurationError(
            "the supernet's weights do not fit the final network "
            f"({', '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}); "
            "use a final.space of the same widths, or weights: scratch",
            path="final.weights",
        )
    network.load_state_dict(given, strict=False)
