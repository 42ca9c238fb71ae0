"""The supernet of the DARTS cell space: all operations on all edges of every cell."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast, final

import torch
from torch import Tensor, nn

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.space import Choice, Decision, Scalar, Selection, Subset, Supernet, Weighted
from automl_nas_gradient.space.network import (
    Cell,
    CellSizes,
    DartsNetwork,
    Layout,
    Stem,
    TrainedWithHead,
    cell_sizes,
    make_edge,
    preprocessing,
)
from automl_nas_gradient.space.operations import OPERATIONS

NODES = (2, 3, 4, 5)
"""The states that are nodes; each can read all states before it."""
KINDS = ("normal", "reduce")


def inputs_name(kind: str, node: int) -> str:
    """Return the name of the decision about the two states that a node reads."""
    return f"{kind}.{node}"


def operation_name(kind: str, source: int, node: int) -> str:
    """Return the name of the decision about the operation on an edge."""
    return f"{kind}.{source}>{node}"


def darts_decisions() -> dict[str, Decision]:
    """Return for each kind of cell and each node: the operations of its edges, and the two of them that it takes."""
    decisions: dict[str, Decision] = {}
    for kind in KINDS:
        for node in NODES:
            for source in range(node):
                decisions[operation_name(kind, source, node)] = Choice(OPERATIONS)
            decisions[inputs_name(kind, node)] = Subset(tuple(range(node)), min=2, max=2)
    return decisions


@dataclass(frozen=True)
class Chosen:
    """What is selected of a decision: options, and one weight for each (None: unweighted)."""

    options: tuple[Scalar, ...]
    weights: Tensor | None


def resolve(decisions: Mapping[str, Decision], selection: Selection) -> dict[str, Chosen]:
    """Return what a selection chooses of each decision.

    Raises:
        SpaceError: a decision is missing or unknown, or has something it cannot take.
    """
    for name in selection:
        if name not in decisions:
            raise SpaceError(f"the supernet has no decision '{name}'{did_you_mean(name, decisions)}")
    chosen: dict[str, Chosen] = {}
    for name, decision in decisions.items():
        if name not in selection:
            raise SpaceError(f"the selection lacks the decision '{name}'")
        selected = selection[name]
        options: Sequence[Scalar] = decision.options
        weights: Tensor | None = None
        try:
            if isinstance(selected, Tensor):
                weights = selected
            elif isinstance(selected, Weighted):
                options = [decision.options[decision.position(option)] for option in selected.options]
                weights = selected.tensor.reshape(-1) if selected.tensor.dim() == 0 else selected.tensor
            else:
                value = decision.validate(selected)
                options = value if isinstance(value, tuple) else (value,)
        except SpaceError as error:
            raise SpaceError(f"decision '{name}': {error}") from None
        if weights is not None and weights.shape != (len(options),):
            raise SpaceError(
                f"decision '{name}': a tensor of shape {tuple(weights.shape)} cannot weight {len(options)} options"
            )
        chosen[name] = Chosen(tuple(options), weights)
    return chosen


@final
class MixedEdge(nn.Module):
    """Several weighted operations on an edge, in a network that was extracted with weights.

    Args:
        operations: read the same tensor.
        weights: one for each operation; None: a single one, unweighted.
        scale: of the edge; None: 1.
    """

    def __init__(self, operations: Sequence[nn.Module], weights: Tensor | None, scale: Tensor | None) -> None:
        super().__init__()
        self.operations = nn.ModuleList(operations)
        self.register_buffer("weights", None if weights is None else weights.detach().clone())
        self.register_buffer("scale", None if scale is None else scale.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighted sum."""
        return mixed(list(self.operations), self.weights, self.scale, x)  # type: ignore[arg-type]


def mixed(operations: Sequence[nn.Module], weights: Tensor | None, scale: Tensor | None, x: Tensor) -> Tensor:
    """Return ``scale * sum_i weights[i] * operations[i](x)``, without reading a weight."""
    total: Tensor = operations[0](x) if weights is None else weights[0] * operations[0](x)
    for place in range(1, len(operations)):
        assert weights is not None
        total = total + weights[place] * operations[place](x)
    return total if scale is None else scale * total


@final
class SupernetCell(nn.Module):
    """All operations on all edges of a cell.

    Args:
        sizes: channels.
        layout: the layout.
    """

    def __init__(self, sizes: CellSizes, layout: Layout) -> None:
        super().__init__()
        self.kind, self.reduces = KINDS[sizes.reduces], sizes.reduces
        self.preprocess0, self.preprocess1 = preprocessing(sizes, affine=layout.affine)
        make = make_edge(layout)
        self.edges = nn.ModuleDict()
        for node in NODES:
            for source in range(node):
                stride = 2 if sizes.reduces and source < 2 else 1
                self.edges[f"{source}_{node}"] = nn.ModuleDict(
                    {name: make(name, source, sizes.channels, stride) for name in OPERATIONS}
                )

    def selected(
        self, chosen: Mapping[str, Chosen], node: int
    ) -> Iterator[tuple[int, list[nn.Module], Chosen, Tensor | None]]:
        """Yield source, operations, what is chosen of them, and the weight of the edge, for each input of a node."""
        sources = chosen[inputs_name(self.kind, node)]
        for place, source in enumerate(sources.options):
            number = int(str(source))
            operations = chosen[operation_name(self.kind, number, node)]
            edge = cast(nn.ModuleDict, self.edges[f"{number}_{node}"])
            modules = [edge[str(name)] for name in operations.options]
            yield number, modules, operations, None if sources.weights is None else sources.weights[place]

    def run(self, before: Tensor, last: Tensor, chosen: Mapping[str, Chosen]) -> Tensor:
        """Return the output of the cell."""
        states = [self.preprocess0(before), self.preprocess1(last)]
        for node in NODES:
            total: Tensor | None = None
            for source, modules, operations, scale in self.selected(chosen, node):
                part = mixed(modules, operations.weights, scale, states[source])
                total = part if total is None else total + part
            assert total is not None
            states.append(total)
        return torch.cat(states[2:], dim=1)

    def extract(self, chosen: Mapping[str, Chosen]) -> Cell:
        """Return the selected part as a cell of its own, which shares its modules with this one."""
        inputs = []
        for node in NODES:
            of_node: list[tuple[int, nn.Module]] = []
            for source, modules, operations, scale in self.selected(chosen, node):
                plain = operations.weights is None and scale is None
                of_node.append((source, modules[0] if plain else MixedEdge(modules, operations.weights, scale)))
            inputs.append(of_node)
        return Cell((self.preprocess0, self.preprocess1), inputs, NODES)

    def remove(self, live: Mapping[str, Decision]) -> None:
        """Remove the edges and operations that are not live."""
        for node in NODES:
            sources = {int(str(option)) for option in live[inputs_name(self.kind, node)].options}
            for source in range(node):
                key = f"{source}_{node}"
                if key in self.edges and source not in sources:
                    del self.edges[key]
                elif key in self.edges:
                    edge = cast(nn.ModuleDict, self.edges[key])
                    names = {str(option) for option in live[operation_name(self.kind, source, node)].options}
                    for name in [name for name in edge if name not in names]:
                        del edge[name]


@final
class DartsSupernet(Supernet):
    """The supernet of the DARTS cell space.

    Args:
        layout: the layout.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        sizes = cell_sizes(layout, (len(NODES), len(NODES)))
        self._layout, self._outputs = layout, [len(NODES) * size.channels for size in sizes]
        self.stem = Stem(layout)
        self.cells = nn.ModuleList(SupernetCell(size, layout) for size in sizes)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(self._outputs[-1], layout.num_classes)
        )
        self._decisions = darts_decisions()

    @property
    def decisions(self) -> Mapping[str, Decision]:
        """Decision name -> decision with the live options."""
        return self._decisions

    def forward(self, x: Tensor, selection: Selection) -> Tensor:
        """Run the selected part of the network; see `Supernet.forward`."""
        chosen = resolve(self._decisions, selection)
        before, last = self.stem(x)
        for cell in self.cells:
            before, last = last, cast(SupernetCell, cell).run(before, last, chosen)
        logits: Tensor = self.head(last)
        return logits

    def extract(self, selection: Selection) -> nn.Module:
        """Return a stand-alone copy of the selected network; see `Supernet.extract`."""
        chosen = resolve(self._decisions, selection)
        kind = TrainedWithHead if self._layout.auxiliary else DartsNetwork
        with torch.device("meta"):
            network = kind(self._layout, [], self._outputs)
        network.stem, network.head = self.stem, self.head
        network.cells = nn.ModuleList(cast(SupernetCell, cell).extract(chosen) for cell in self.cells)
        copied = copy.deepcopy(network)
        copied.training = self.training
        for module in copied.modules():
            if isinstance(module, DartsNetwork | Cell | MixedEdge | nn.ModuleList):
                module.training = self.training
        return copied

    def restrict(self, live: Mapping[str, Collection[Scalar]]) -> None:
        """Remove, in place and permanently, every option that is not live; see `Supernet.restrict`."""
        remaining = dict(self._decisions)
        for name, options in live.items():
            if name not in remaining:
                raise SpaceError(f"the supernet has no decision '{name}'{did_you_mean(name, remaining)}")
            remaining[name] = _restricted(name, remaining[name], options)
        self._decisions = remaining
        for cell in self.cells:
            cast(SupernetCell, cell).remove(remaining)


def _restricted(name: str, decision: Decision, live: Collection[Scalar]) -> Decision:
    try:
        positions = sorted({decision.position(option) for option in live})
    except SpaceError as error:
        raise SpaceError(f"decision '{name}': {error}") from None
    options = tuple(decision.options[position] for position in positions)
    if isinstance(decision, Subset):
        if len(options) < decision.min:
            raise SpaceError(f"decision '{name}': at least {decision.min} options must stay live")
        return Subset(options, min=decision.min, max=decision.max)
    if not options:
        raise SpaceError(f"decision '{name}': at least one option must stay live")
    return Choice(options)
