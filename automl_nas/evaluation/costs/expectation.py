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
    """Return ``base`` plus the weighted contributions of what is selected.

    A value contributes what its options cost; a tensor (probabilities) the sum of weight times contribution over all
    options; `Weighted` the same over the options it names. That is the expected cost if the weights of each Choice sum
    to 1 and those of a Subset are the probabilities of its elements, and linear in the weights whatever they are.

    Args:
        base: the cost without any contribution.
        contributions: decision name -> what each option adds.
        decisions: decision name -> decision.
        selection: a value, a tensor of shape ``(options,)`` or `Weighted` for each decision.

    Returns:
        A scalar in the tensors' precision, at least float32; float64 if there is no tensor.

    Raises:
        SpaceError: a decision is missing, or a tensor has the wrong number of weights.
    """
    import torch

    fixed = base
    soft: list[Tensor] = []
    for name, decision in decisions.items():
        if name not in selection:
            raise SpaceError(f"the selection lacks the decision '{name}'")
        chosen = selection[name]
        costs: Sequence[float] = contributions[name]
        if isinstance(chosen, Weighted):
            costs, weights = [costs[decision.position(option)] for option in chosen.options], chosen.tensor
        elif isinstance(chosen, torch.Tensor):
            weights = chosen
        else:
            value = decision.validate(chosen)
            options = value if isinstance(value, tuple) else (value,)
            fixed += sum(costs[decision.position(option)] for option in options)
            continue
        if weights.numel() != len(costs):
            raise SpaceError(f"decision '{name}' takes {len(costs)} weights, not {weights.numel()}")
        precise = weights.reshape(-1).to(torch.promote_types(weights.dtype, torch.float32))
        soft.append((precise * torch.tensor(costs, dtype=precise.dtype, device=precise.device)).sum())
    if not soft:
        return torch.tensor(float(fixed), dtype=torch.float64)
    return torch.stack(soft).sum() + float(fixed)
