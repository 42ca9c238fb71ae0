"""What a run is besides its configuration: the structure of its spaces and the content of its data.

Spaces and tasks may be Python objects, or read files; the configuration then holds a name or a path only. So a run
records this identity, and whatever continues or opens the run compares it.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from automl_nas.space.architecture import Architecture
from automl_nas.space.covering import allowed, cover_options
from automl_nas.space.space import SearchSpace

if TYPE_CHECKING:
    from torch import Tensor, nn

MAX_NETWORKS = 8
"""The number of networks that `describe_space` builds at most."""


def describe_space(space: SearchSpace, *, networks: bool = True) -> dict[str, Any]:
    """Return what a space is, as plain data: its decisions, and the structure of networks that cover its options.

    Networks are built on the meta device, or on the CPU if that fails. The first has the first option of each decision,
    the last one the last option; those between have the other options, up to `MAX_NETWORKS` networks in all. They draw
    from the global generators.

    Args:
        space: the space.
        networks: whether to build networks; False: only the decisions are described.

    Returns:
        ``decisions``: name -> description. ``excluded``: the excluded combinations, if there are any. ``modules``:
        module path -> the different modules that networks have there, each with its class, settings and tensors; None
        if no networks are built. ``weights``: name -> digest of the tensors with which networks begin
        (`SearchSpace.own_weights`).
    """
    return {
        "decisions": {name: repr(decision) for name, decision in space.decisions.items()},
        **({"excluded": space.exclusions.describe()} if space.exclusions else {}),
        "modules": _describe_modules(space) if networks and space.input_shape else None,
        "weights": _digests(space) if networks else {},
    }


def _digests(space: SearchSpace) -> dict[str, str]:
    """Return name -> digest of the tensors with which networks begin; those that differ between two calls are drawn."""
    import numpy as np
    import torch

    def own_weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        return dict(space.own_weights)

    first = own_weights(0)
    second = own_weights(1) if first else {}  # most spaces have none, and a call may build the largest network
    digests = {}
    for name, tensor in first.items():
        other = second.get(name)
        if other is not None and (other is tensor or torch.equal(other, tensor)):
            content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            digests[name] = hashlib.sha256(content.tobytes()).hexdigest()[:16]
    return digests


def digest(description: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()


def space_difference(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """Return the first difference of two descriptions of a space in words; empty if they are the same.

    The weights with which networks begin are not compared, since trained weights replace them; see
    `weights_difference`.
    """
    old, new = recorded["decisions"], present["decisions"]
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            return f"the decision '{name}' is missing"
        if name not in old:
            return f"the decision '{name}' is new"
        if old[name] != new[name]:
            return f"the decision '{name}' was {old[name]} and is {new[name]}"
    if list(old) != list(new):
        return f"the order of the decisions was {', '.join(old)} and is {', '.join(new)}"
    before, now = recorded.get("excluded", []), present.get("excluded", [])
    if before != now:
        return f"the excluded combinations of options were {before or 'none'} and are {now or 'none'}"
    if recorded["modules"] is None or present["modules"] is None:
        return ""
    old, new = recorded["modules"], present["modules"]
    for path in dict.fromkeys([*old, *new]):
        before, now = old.get(path, []), new.get(path, [])
        if before != now:
            gone = [item for item in before if item not in now] or ["missing"]
            come = [item for item in now if item not in before] or ["missing"]
            return f"the module '{path}' of the networks was {gone[0]} and is {come[0]}"
    return ""


def weights_difference(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> str:
    """Return in which of the weights with which networks begin two descriptions differ; empty if they are the same.

    Of a run that an older version began they are not known.
    """
    old, new = recorded.get("weights", {}), present["weights"]
    for name in dict.fromkeys([*old, *new]) if "weights" in recorded else ():
        if old.get(name) != new.get(name):
            return f"the networks begin with other weights, '{name}' differs"
    return ""


def _describe_modules(space: SearchSpace) -> dict[str, list[str]] | None:
    modules: dict[str, list[str]] = {}
    try:
        for architecture in allowed(cover_options(space.decisions, MAX_NETWORKS), space.exclusions):
            for path, description in _describe_network(_build(space, architecture)):
                variants = modules.setdefault(path, [])
                if description not in variants:
                    variants.append(description)
    except Exception:  # the user's code; what concerns the run is reported where the network is needed
        return None
    return modules


def _build(space: SearchSpace, architecture: Architecture) -> nn.Module:
    import torch

    with suppress(Exception), torch.device("meta"):  # the user's code may read values, which meta tensors do not have
        return space.build(architecture)
    return space.build(architecture)


def _describe_network(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield module path, and class, settings and own tensors of the module."""
    for path, module in network.named_modules():
        settings = [
            f"{name}={value!r}"
            for name, value in sorted(vars(module).items())
            if not name.startswith("_") and name != "training" and _is_plain(value)
        ]
        tensors = [
            f"{name}: {str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
            for own in (module._parameters, module._buffers)
            for name, tensor in own.items()
            if tensor is not None
        ]
        yield path, " with ".join(filter(None, [f"{type(module).__name__}({', '.join(settings)})", "; ".join(tensors)]))


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)
