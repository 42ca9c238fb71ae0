"""Numbers that modules store and that follow the size of an axis, such as ``out_channels`` and ``num_heads``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from automl_nas.channels.axis import Axis, signature
from automl_nas.channels.trace import Trace

ATTRIBUTE_WORDS = ("dim", "channel", "width", "feature", "hidden", "head", "embed", "group", "plane", "filter", "units")


def followed_attributes(network: nn.Module, trace: Trace) -> Mapping[str, Mapping[str, Axis | list[Axis]]]:
    """Return path -> attribute -> axis (axes) whose size it has.

    Layers of torch are known. In other modules it is every whole number whose name contains a word for channels and
    that equals the size of exactly one axis of the tensors that the module computes.
    """
    findings: dict[str, dict[str, Axis | list[Axis]]] = {path: dict(own) for path, own in trace.attributes.items()}
    for path, module in network.named_modules():
        if type(module).__module__.startswith("torch.nn."):
            continue
        for name, value in vars(module).items():
            if type(value) is not int or value < 2 or not any(word in name.lower() for word in ATTRIBUTE_WORDS):
                continue
            axis = _axis_of_size(trace.seen.get(path, []), value, "head" in name.lower())
            if axis is not None:
                findings.setdefault(path, {})[name] = axis
    return findings


def _axis_of_size(axes: Sequence[Axis], size: int, heads: bool) -> Axis | None:
    candidates = {signature(axis) if not axis.constant else (): axis for axis in axes if axis.size == size}
    if len(candidates) > 1 and heads:
        outer = {signature(axis.root().parts[0]) for axis in axes if axis.root().form == "product"}
        candidates = {key: axis for key, axis in candidates.items() if key in outer} or candidates
    if len(candidates) != 1:
        return None
    (axis,) = candidates.values()
    return None if axis.constant else axis


def normal(value: object) -> object:
    """Return a torch.Size as a tuple; other values as they are."""
    return tuple(value) if isinstance(value, torch.Size) else value
