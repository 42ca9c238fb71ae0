"""The cost of a soft selection, differentiable in its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from automl_nas.errors import SpaceError
from automl_nas.space.decisions import Decision
from automl_nas.space.selection import Weighted

if TYPE_CHECKING:
    from torch import Tensor

    from automl_nas.space.selection import Selection


def expected(
    base: float, contributions: Mapping[str, tuple[float, ...]], decisions: Mapping[str, Decision], selection: Selection
) -> Tensor:
    """Return ``base`` plus the weighted contributions of the selected options.

    A value adds the contributions of its options. A tensor adds the sum of weight times contribution over all options;
    a `Weighted` does so over its own options. The result is the expected cost if the weights of each Choice sum to 1
    and the weights of a Subset are the probabilities of its elements; it is linear in the weights in all cases.

    Args:
        base: the cost without any contribution.
        contributions: decision name -> contribution of each option.
        decisions: decision name -> decision.
        selection: a value, a tensor of shape ``(options,)`` or `Weighted` for each decision.

    Returns:
        A scalar in the precision of the tensors, at least float32; float64 if the selection holds only values.

    Raises:
        SpaceError: a decision is missing, or a tensor has the wrong number of weights.
    """
    import torch

    constant = base
    weighted: list[Tensor] = []
    numbers: list[float] = []
    for name, decision in decisions.items():
        if name not in selection:
            raise SpaceError(f"the selection lacks the decision '{name}'")
        selected = selection[name]
        costs: Sequence[float] = contributions[name]
        if isinstance(selected, Weighted):
            costs, weights = [costs[decision.position(option)] for option in selected.options], selected.tensor
        elif isinstance(selected, torch.Tensor):
            weights = selected
        else:
            value = decision.validate(selected)
            options = value if isinstance(value, tuple) else (value,)
            constant += sum(costs[decision.position(option)] for option in options)
            continue
        if weights.numel() != len(costs):
            raise SpaceError(f"decision '{name}' needs {len(costs)} weights, not {weights.numel()}")
        weighted.append(weights.reshape(-1))
        numbers.extend(costs)
    if not weighted:
        return torch.tensor(float(constant), dtype=torch.float64)
    # One product for all decisions: a search computes it in each step.
    joined = torch.cat(weighted)
    joined = joined.to(torch.promote_types(joined.dtype, torch.float32))
    return (joined * joined.new_tensor(numbers)).sum() + float(constant)
