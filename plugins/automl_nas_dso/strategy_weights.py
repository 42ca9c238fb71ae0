"""The supernet's weights: fresh, with fixed scales, and whole again after edges were removed."""

from __future__ import annotations

from torch import Tensor, nn

from automl_nas.evaluation import Runtime, batch_norms
from automl_nas.space import Dag, Supernet, SupernetSpace


def fresh_supernet(space: SupernetSpace, runtime: Runtime, seed: int) -> Supernet:
    """Return the whole supernet with fresh weights, a function of the seed."""
    with runtime.seeded(seed, "init"):
        return space.build_supernet()


def fix_scales(supernet: nn.Module) -> None:
    """Train no scale of batch normalisation inside the nodes of graphs with searched edges: it would absorb lambda."""
    for dag in [module for module in supernet.modules() if isinstance(module, Dag) and module.decisions()]:
        for norm in batch_norms(dag.nodes):
            if norm.affine:
                norm.weight.requires_grad_(False)


def whole_weights(supernet: Supernet, space: SupernetSpace, runtime: Runtime, seed: int) -> dict[str, Tensor]:
    """Return the weights of a supernet from which edges may have been removed, in the layout of a whole one.

    Whoever inherits weights builds a whole supernet. What was removed has the weights it began with.
    """
    trained: dict[str, Tensor] = supernet.state_dict()
    return {**fresh_supernet(space, runtime, seed).state_dict(), **trained}
