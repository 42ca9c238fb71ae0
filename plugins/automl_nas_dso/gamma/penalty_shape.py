"""Rules for the scales lambda of a node's edges as a whole: `HoyerRatio` and `NodeNorm`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, final

import torch
from torch import Tensor

PenaltyShape: TypeAlias = Literal["l1", "hoyer"]
PENALTY_SHAPES: tuple[PenaltyShape, ...] = ("l1", "hoyer")

_SMALLEST_NORM = 1e-6  # of the lambda of a node; below it the ratio is not differentiable in practice


class _Nodes:
    """Norms of the scales of each node.

    Args:
        nodes: for each edge, the number of its node, ``0 .. count - 1``.
        device: of lambda.
    """

    def __init__(self, nodes: Sequence[int], device: torch.device | str = "cpu") -> None:
        # A dense matrix instead of scattered additions, whose order of addition is not defined on a GPU.
        members = torch.zeros(max(nodes) + 1, len(nodes), dtype=torch.float64)
        members[list(nodes), range(len(nodes))] = 1.0
        self._members = members.to(device)
        self._roots = self._members.sum(1).sqrt()

    def _norms(self, lambdas: Tensor) -> tuple[Tensor, Tensor]:
        """Return the Euclidean norm of each node, and whether all of its scales are 0."""
        norms = (self._members @ lambdas.square()).sqrt()
        return norms.clamp_min(_SMALLEST_NORM), norms < _SMALLEST_NORM

    def _factors(self, norms: Tensor, is_dead: Tensor) -> Tensor:
        """Return for each edge the square root of the number of its node's edges over the norm; 1 without a norm."""
        return torch.where(is_dead, 1.0, self._roots / norms) @ self._members


@final
class NodeNorm(_Nodes):
    """Keeps the Euclidean norm of the scales of each node at the square root of n, the number of its edges.

    Batch normalisation after a node makes the loss blind to the common scale of its edges. When their norm is set back
    after each proximal step, the step is one on the sphere: edges only shrink in relation to others of their node.

    Args:
        nodes: for each edge, the number of its node, ``0 .. count - 1``.
        device: of lambda.
    """

    def factors(self, values: Tensor) -> Tensor:
        """Return the numbers that scales must be multiplied by, 1 for edges of a node whose scales are all 0.

        Args:
            values: lambda, shape ``(number of edges,)``.

        Returns:
            A tensor of the same shape, in the precision and on the device of ``values``.
        """
        return self._factors(*self._norms(values.detach().double())).to(values)


@final
class HoyerRatio(_Nodes):
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

    def terms(self, values: Tensor, penalties: Tensor) -> tuple[Tensor, Tensor]:
        """Return the penalty of each edge in the soft threshold, and the gradient of the denominator.

        Args:
            values: lambda, shape ``(number of edges,)``.
            penalties: gamma of each edge, of the same shape.

        Returns:
            Two tensors of the same shape, in the precision and on the device of ``values``. Edges of a node without any
            scale other than 0 keep their gamma and have no gradient.
        """
        lambdas, gammas = values.detach().double(), penalties.double()
        norms, is_dead = self._norms(lambdas)
        weighted = self._members @ (gammas * lambdas.abs())
        thresholds = self._factors(norms, is_dead) * gammas
        pull = torch.where(is_dead, 0.0, -self._roots * weighted / norms**3) @ self._members * lambdas
        return thresholds.to(values), pull.to(values)
