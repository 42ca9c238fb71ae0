"""Whether the decisions of a space take weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from automl_nas.errors import ConfigurationError
from automl_nas.space import ModuleSpace, Subset, Supernet, SupernetSpace, Value
from automl_nas_gradient.parameters import Form


def check_weighable(space: SupernetSpace, forms: Mapping[str, Form], owner: str) -> None:
    """Check that every decision of a space takes weights.

    The supernet of a space that is not a `ModuleSpace` is run once on meta tensors, without weights.

    Args:
        space: the space.
        forms: its decisions.
        owner: the strategy, for the message.

    Raises:
        ConfigurationError: decisions take values only; the message names them.
    """
    if isinstance(space, ModuleSpace):
        refused = [name for name in forms if name not in space.weighable]
    else:
        refused = _refused(space)
    if refused:
        more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
        raise ConfigurationError(
            f"{owner} weights the outputs of options, but '{refused[0]}'{more} takes values only, as widths do; search "
            "such a space with single_path and evolution",
            path="space",
        )


def _refused(space: SupernetSpace) -> list[str]:
    """Return the decisions that take no weights."""
    with torch.device("meta"):
        supernet = space.build_supernet()
        x = torch.empty(2, *space.input_shape)
        plain: dict[str, Value | torch.Tensor] = {}
        weights: dict[str, torch.Tensor] = {}
        for name, decision in space.decisions.items():
            first = decision.options[: decision.min] if isinstance(decision, Subset) else decision.options[0]
            plain[name] = decision.validate(first)
            weights[name] = torch.empty(len(decision.options))
        if _runs(supernet, x, weights):
            return []
        return [name for name in weights if not _runs(supernet, x, {**plain, name: weights[name]})] or [*weights]


def _runs(supernet: Supernet, x: torch.Tensor, selection: Mapping[str, Value | torch.Tensor]) -> bool:
    try:
        with torch.no_grad():
            supernet(x, selection)
    except (RuntimeError, ValueError):  # a SpaceError is a ValueError
        return False
    return True
