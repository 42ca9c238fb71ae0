"""Rules for the scales lambda of a node's edges as a whole: `HoyerRatio` and `NodeNorm`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

PenaltyShape: TypeAlias = Literal["l1", "hoyer"]
PENALTY_SHAPES: tuple[PenaltyShape, ...] = ("l1", "hoyer")

_SMALLEST_NORM = 1e-6  # of the lambda of a node; below it the ratio is not differentiable in practice


def _members(nodes: Sequence[int], device: torch.device | str) -> Tensor:
    """Return 1 where an edge leads to a node, else 0, shape ``(nodes, edges)``, from the number of each edge's node."""
    # A dense matrix instead of scattered additions, whose order of addition is not defined on a GPU.
    members = torch.zeros(max(nodes) + 1, len(nodes), dtype=torch.float64)
    members[list(nodes), range(len(nodes))] = 1.0
    return members.to(device)


@final
class NodeNorm:
    """Keeps the Euclidean norm of the scales of each node at the square root of n, the number of its edges.

    Batch normalisation after a node makes the loss blind to the common scale of its edges. When their norm is set back
    after each proximal step, the step is one on the sphere: edges only shrink in relation to others of their node.

    Args:
        nodes: for each edge, the number of its node, ``0 .. count - 1``.
        device: of lambda.
    """

    def __init__(self, nodes: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._members = _members(nodes, device)
        self._roots = self._members.sum(1).sqrt()

    def factors(self, values: Tensor) -> Tensor:
        """Return the numbers that scales must be multiplied by, 1 for edges of a node whose scales are all 0.

        Args:
            values: lambda, shape ``(number of edges,)``.

        Returns:
            A tensor of the same shape, in the precision and on the device of ``values``.
        """
        norms = (self._members @ values.detach().double().square()).sqrt()
        of_nodes = torch.where(norms < _SMALLEST_NORM, 1.0, self._roots / norms.clamp_min(_SMALLEST_NORM))
        return (of_nodes @ self._members).to(values)


@final
class HoyerRatio:
    """The penalty ``sum over e of gamma_e sqrt(n) |lambda_e| / ||lambda||_2``, in the two parts of a proximal step.

    e is an edge, n the number of edges into its node, and lambda the vector of their scales. With one gamma for a node
    it is gamma times ``sqrt(n) ||lambda||_1 / ||lambda||_2``, the Hoyer ratio (Hoyer 2004; DeepHoyer, Yang, Wen, Li
    2020, arXiv 1908.09979, equation 1), which does not change when all scales of a node are multiplied by a number.
    Batch normalisation after a node makes the loss blind to that number, so under the L1 norm all scales shrink
    together at no cost; under the ratio only relative sizes count. The only edge of a node is not penalised: it dies
    with its operation.

    A step treats the numerator by the proximal operator, so zeros are exact: a soft threshold of
    ``rate gamma_e sqrt(n) / ||lambda||_2``; and the denominator by its gradient,
    ``-(sum_e gamma_e sqrt(n) |lambda_e|) lambda / ||lambda||_2^3``. At lambda = 1 the threshold is that of the L1 norm
    with the same gamma.

    Args:
        nodes: for each edge, the number of its node, ``0 .. count - 1``.
        device: of lambda.
    """

    def __init__(self, nodes: Sequence[int], device: torch.device | str = "cpu") -> None:
        self._members = _members(nodes, device)
        self._roots = self._members.sum(1).sqrt()

    def terms(self, values: Tensor, penalties: Tensor) -> tuple[Tensor, Tensor]:
        """Return the penalty of each edge in the soft threshold, and the gradient of the denominator.

        Args:
            values: lambda, shape ``(number of edges,)``.
            penalties: gamma of each edge, of the same shape.

        Returns:
            Two tensors of the same shape, in the precision and on the device of ``values``. Edges of a node without any
            scale other than 0 keep their gamma and have no gradient.
        """
        members, roots = self._members, self._roots
        lambdas, gammas = values.detach().double(), penalties.double()
        norms = (members @ lambdas.square()).sqrt()
        is_dead = norms < _SMALLEST_NORM
        norms = norms.clamp_min(_SMALLEST_NORM)
        weighted = members @ (gammas * lambdas.abs())
        thresholds = torch.where(is_dead, 1.0, roots / norms) @ members * gammas
        pull = torch.where(is_dead, 0.0, -roots * weighted / norms**3) @ members * lambdas
        return thresholds.to(values), pull.to(values)
