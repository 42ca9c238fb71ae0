"""The DARTS cell space: a normal cell and a reduction of four nodes, of which each takes two inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING, Literal, final

from automl_nas.errors import SpaceError
from automl_nas.space import Architecture, Decision, Supernet, Value
from automl_nas_gradient.deriving.items import GroupedSpace
from automl_nas_gradient.space.genotype import CellPlan, Genotype
from automl_nas_gradient.space.network import Layout, darts_network
from automl_nas_gradient.space.operations import OPERATIONS
from automl_nas_gradient.space.supernet import (
    KINDS,
    NODES,
    DartsSupernet,
    darts_decisions,
    inputs_name,
    operation_name,
)

if TYPE_CHECKING:
    from torch import nn


@final
class DartsSpace(GroupedSpace):
    """The cell space of DARTS (Liu et al. 2019, arXiv 1806.09055).

    A network is a stack of cells with tied decisions: ``normal`` cells, and two of kind ``reduce``, which halve the
    maps. A cell has the outputs of the two cells before it as states 0 and 1, and four nodes, 2 to 5. The decision
    ``normal.4`` names the two states that node 4 reads, ``normal.1>4`` the operation on the edge from state 1. The
    operation of an edge that no node reads makes no difference. A derived network never has ``none``.

    Args:
        num_classes: number of outputs.
        input_shape: channels, height and width of an image; height and width must be multiples of 4 (``imagenet``: 32).
        variant: ``search``: batch normalisation in the cells has no weights and follows poolings; ``final``: it has
            weights, and poolings have none.
        channels: C, channels of a node in the first cells (paper: 16 in the search, 36 in the final network, 48 for
            ImageNet).
        layers: number of cells (8, 20, 14); those at a third and two thirds are reductions.
        stem: ``cifar``: one 3x3 convolution; ``imagenet``: three of stride 2.
        partial: k; an operation processes 1/k of the channels, the others bypass it (PC-DARTS: 4 in the search).
        drop_path: final probability of dropping the output of an operation in the training of a built network (0.2).
        drop_path_iterations: training batches until this probability; the paper's is reached in the last epoch.
        auxiliary: whether built networks are trained with an auxiliary head.

    Raises:
        SpaceError: a number is outside its range, or an image cannot be halved as often as the network does.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        input_shape: tuple[int, int, int] = (3, 32, 32),
        variant: Literal["search", "final"] = "search",
        channels: int = 16,
        layers: int = 8,
        stem: Literal["cifar", "imagenet"] = "cifar",
        partial: int = 1,
        drop_path: float = 0.0,
        drop_path_iterations: int = 1,
        auxiliary: bool = False,
    ) -> None:
        least = {"num_classes": 1, "channels": 2, "layers": 3, "partial": 1, "drop_path_iterations": 1}
        sizes = {
            "num_classes": num_classes,
            "channels": channels,
            "layers": layers,
            "partial": partial,
            "drop_path_iterations": drop_path_iterations,
        }
        for name, value in sizes.items():
            if value < least[name]:
                raise SpaceError(f"{name} must be at least {least[name]}, not {value}")
        if channels % (2 * partial):
            raise SpaceError(f"channels must be a multiple of {2 * partial} (2 * partial), not {channels}")
        if not 0 <= drop_path < 1:
            raise SpaceError(f"drop_path must be at least 0 and below 1, not {drop_path}")
        divisor = 32 if stem == "imagenet" else 4
        if any(length < divisor or length % divisor for length in input_shape[1:]):
            raise SpaceError(
                f"height and width must be multiples of {divisor}, since reductions halve them, not "
                f"{input_shape[1]}x{input_shape[2]}; resize the images"
            )
        search = variant == "search"
        self._layout = Layout(
            num_classes,
            tuple(input_shape),  # type: ignore[arg-type]
            channels,
            layers,
            stem,
            affine=not search,
            pool_norm=search,
            partial=partial,
            drop_path=drop_path,
            drop_path_iterations=drop_path_iterations,
            auxiliary=auxiliary,
        )
        self._decisions = darts_decisions()

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> decision."""
        return self._decisions

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input without the batch."""
        return self._layout.input_shape

    @property
    def layout(self) -> Layout:
        """The sizes of the networks."""
        return self._layout

    def build(self, architecture: Architecture) -> nn.Module:
        """Return a stand-alone network with fresh weights; see `SearchSpace.build`."""
        return darts_network(self.genotype(architecture), self._layout)

    def build_supernet(self) -> Supernet:
        """Return the supernet with fresh weights."""
        return DartsSupernet(self._layout)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Set the operations of edges that no node reads to the first option."""
        active = self.active(architecture)
        values = {
            name: active[name] if name in active else decision.options[0] for name, decision in self._decisions.items()
        }
        return self.validate(values)

    def active(self, architecture: Architecture) -> Mapping[str, Value]:
        """Return the inputs of all nodes, and the operations on them."""
        values: dict[str, Value] = {}
        for kind, node in product(KINDS, NODES):
            name = inputs_name(kind, node)
            values[name] = architecture[name]
            for source in _sources(architecture, name):
                edge = operation_name(kind, source, node)
                values[edge] = architecture[edge]
        return values

    def groups(self) -> Mapping[str, Sequence[Mapping[str, Value]]]:
        """Return for each node: two of its inputs, each with an operation other than ``none``."""
        return {inputs_name(kind, node): list(_joint_values(kind, node)) for kind, node in product(KINDS, NODES)}

    def parts(self, joint: Mapping[str, Value]) -> Sequence[str]:
        """Return the edges of a joint value, with their operations."""
        return [f"{name} {value}" for name, value in joint.items() if not isinstance(value, tuple)]

    def genotype(self, architecture: Architecture) -> Genotype:
        """Return the cells of an architecture.

        Raises:
            SpaceError: the architecture is not of this space.
        """
        values = self.validate(architecture)
        cells = []
        for kind in KINDS:
            nodes = []
            for node in NODES:
                sources = _sources(values, inputs_name(kind, node))
                nodes.append(tuple((str(values[operation_name(kind, s, node)]), s) for s in sources))
            cells.append(CellPlan(tuple(nodes)))
        return Genotype(*cells)

    def architecture(self, genotype: Genotype) -> Architecture:
        """Return the architecture of derived cells.

        Raises:
            SpaceError: a cell is not of this space, such as those of NASNet.
        """
        values: dict[str, Value] = {name: decision.options[0] for name, decision in self._decisions.items()}
        for kind, plan in zip(KINDS, (genotype.normal, genotype.reduce), strict=True):
            if len(plan.nodes) != len(NODES) or plan.output != NODES:
                raise SpaceError(f"the cell '{kind}' does not have the nodes 2 to 5 with all of them as its output")
            for node, inputs in zip(NODES, plan.nodes, strict=True):
                values[inputs_name(kind, node)] = tuple(source for _, source in inputs)
                for name, source in inputs:
                    values[operation_name(kind, source, node)] = name
        return self.validate(values)


def _sources(architecture: Mapping[str, Value], name: str) -> list[int]:
    value = architecture[name]
    assert isinstance(value, tuple)
    return [int(str(source)) for source in value]


def _joint_values(kind: str, node: int) -> list[Mapping[str, Value]]:
    names = [name for name in OPERATIONS if name != "none"]
    return [
        {
            inputs_name(kind, node): pair,
            operation_name(kind, pair[0], node): first,
            operation_name(kind, pair[1], node): second,
        }
        for pair in combinations(range(node), 2)
        for first, second in product(names, names)
    ]
