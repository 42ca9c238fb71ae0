"""A directed acyclic graph of modules whose edges are searched: `Dag`, and the view of it that a selection gives.

`graph` decides which nodes and edges are live; `forward_pass` computes the maps and their sums.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from automl_nas.errors import SpaceError, did_you_mean
from automl_nas.onednn_guard import contiguous_if_narrow, is_strided_pointwise
from automl_nas.space.architecture import Scalar, Value
from automl_nas.space.decisions import Decision, Subset
from automl_nas.space.modules.choice import ChoiceModule, ModuleResolver, ResolvedChoice
from automl_nas.space.modules.dag.forward_pass import (
    ForwardPass,
    Inflow,
    Program,
    live_inflow,
    matrix_products_pay_off,
)
from automl_nas.space.modules.dag.graph import INPUT, OUTPUT, DagGraph
from automl_nas.space.modules.weighted_sum import call_module, emit_sum, finish


@final
class Dag(ChoiceModule):
    """Modules that read (weighted) sums of the input and of each other's outputs, with searched edges.

    Every target (each node, and ``output``) has a decision `Subset` of its sources, called ``<name or path>.<target>``.
    A value adds up the sources it names; a tensor or `Weighted` multiplies each source by its weight (lambda in
    DSO-NAS, Zhang et al. 2018), in dense graphs by one matrix product Lambda @ [h_1, ..., h_n] for a whole level. A
    node without a live source, or without a path of selected edges to the output, is dead: it does not run, costs
    nothing, and a NaN in it does not spread. The values of weights are never read.

    The result is ``after(combine(live sources of output)) + shortcut(x)``. If no source of the output is live, it is
    ``shortcut(x)`` alone; without a shortcut, zeros in the shape of the input (with the projection's channels).

    Args:
        nodes: name -> module; one tensor in, one out, all nodes reading and writing the same shape. A node must not
            change its input in place, as a leading ``nn.ReLU(inplace=True)`` would: other nodes may read it too. The
            names ``input`` and ``output`` are reserved.
        edges: target -> its possible sources, nodes or ``input``; every node and ``output`` need at least one.
        output: how the sources of ``output`` are combined: None adds them up; a 1x1 ``nn.Conv2d`` is applied to their
            concatenation, in the order of ``edges["output"]``, each with the same number of channels. It is stored as
            one Parameter per source, so that a dead source's Parameter gets no gradient; weights are multiplied into
            the convolution, not into the maps.
        after: applied to the combination (batch normalisation and activation, say), only if a source of the output is
            live.
        shortcut: added to the result; ``nn.Identity()`` adds the input.
        fixed: targets that always take all their sources, unweighted, without a decision.
        required: targets that take at least one source.
        name: of the decisions; None: the module's path. Dags of the same name are tied.

    Raises:
        SpaceError: edges that form a cycle or name an unknown node, or a convolution that cannot be split among the
            sources.
    """

    def __init__(
        self,
        nodes: Mapping[str, nn.Module],
        edges: Mapping[str, Sequence[str]],
        output: nn.Conv2d | None = None,
        *,
        after: nn.Module | None = None,
        shortcut: nn.Module | None = None,
        fixed: Collection[str] = (),
        required: Collection[str] = (),
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        _check_names(nodes)
        self._graph = DagGraph(nodes, edges)
        for setting, targets in (("fixed", fixed), ("required", required)):
            for target in targets:
                if target not in self._graph.sources:
                    hint = did_you_mean(target, self._graph.sources)
                    raise SpaceError(f"'{target}' in '{setting}' is not a target of this Dag{hint}")
        self._sources = dict(self._graph.sources)
        self._fixed, self._required = frozenset(fixed), frozenset(required)
        self.nodes = nn.ModuleDict(nodes)
        self.after = after
        self.shortcut = shortcut
        self.projection: nn.ParameterDict | None = None
        if output is not None:
            self._split_projection(output)

    def _split_projection(self, conv: nn.Conv2d) -> None:
        sources = self._sources[OUTPUT]
        if conv.kernel_size != (1, 1) or conv.groups != 1 or conv.padding != (0, 0):
            raise SpaceError(
                "the output convolution of a Dag must be 1x1, without groups and padding, not "
                f"kernel_size={conv.kernel_size}, groups={conv.groups}, padding={conv.padding}"
            )
        if conv.in_channels % len(sources):
            raise SpaceError(
                f"the output convolution reads {conv.in_channels} channels, which cannot be split equally among the "
                f"{len(sources)} sources of 'output'; set in_channels = {len(sources)} * (channels of a node)"
            )
        width = conv.in_channels // len(sources)
        weights = torch.split(conv.weight.detach(), width, dim=1)
        self.projection = nn.ParameterDict(
            {source: nn.Parameter(weight.clone()) for source, weight in zip(sources, weights, strict=True)}
        )
        self.projection_bias = nn.Parameter(conv.bias.detach().clone()) if conv.bias is not None else None
        self._stride: Any = conv.stride
        self._all_sources = len(sources)
        self._channels = conv.out_channels

    def decisions(self) -> Mapping[str, Decision]:
        """Return a `Subset` for every target that is not fixed: the nodes in order, then ``output``."""
        return {
            target: Subset(sources, min=int(target in self._required))
            for target, sources in self._sources.items()
            if sources and target not in self._fixed
        }

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run a Dag whose targets are all fixed: it needs no selection.

        Raises:
            SpaceError: a target is not fixed, so a selection must resolve the Dag first.
        """
        if self.decisions():
            self.raise_unresolved()
        outputs: Tensor = DagView(self, dict(self.nodes.items()), self.after, self.shortcut, *self._compile({}))(
            *inputs
        )
        return outputs

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return the live sources of the live targets, and the modules that run."""
        live = self._graph.live({target: self._value(values, target) for target in self._sources})
        modules = [self.nodes[target] for target in live if target != OUTPUT]
        if OUTPUT in live and self.after is not None:
            modules.append(self.after)
        if self.shortcut is not None:
            modules.append(self.shortcut)
        return {target: live[target] for target in live if target not in self._fixed}, modules

    def _value(self, values: Mapping[str, Value], target: str) -> tuple[str, ...]:
        if target in self._fixed:
            return self._sources[target]
        value = values[target]
        assert isinstance(value, tuple)
        return tuple(str(source) for source in value)

    def prune_to(self, live: Mapping[str, tuple[Scalar, ...]]) -> None:
        """Remove edges, then the nodes (with their slices of the projection) that the remaining edges do not reach."""
        self._sources = {
            target: tuple(source for source in sources if target in self._fixed or source in live[target])
            for target, sources in self._sources.items()
        }
        alive = self._graph.live(self._sources)
        for node in [node for node in self.nodes if node not in alive]:
            del self.nodes[node]
        if self.projection is not None:
            for source in [source for source in self.projection if source not in alive.get(OUTPUT, ())]:
                del self.projection[source]
        if OUTPUT not in alive:
            self.after = None
            if self.projection is not None:
                self.projection_bias = None

    def _compile(self, choices: Mapping[str, ResolvedChoice]) -> tuple[Program, Inflow | None]:
        """Return the live nodes with their inputs, level after level, and the input of ``output`` (None: none live)."""
        selected = {
            target: ResolvedChoice(sources) if target in self._fixed or not sources else choices[target]
            for target, sources in self._sources.items()
        }
        live = self._graph.live({target: tuple(map(str, choice.options)) for target, choice in selected.items()})
        inflows = {target: live_inflow(target, sources, selected[target]) for target, sources in live.items()}
        levels = (tuple(inflows[node] for node in level if node in inflows) for level in self._graph.levels)
        return tuple(level for level in levels if level), inflows.get(OUTPUT)

    def view(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return a module that runs the live part and shares its weights."""
        program, output_inflow = self._compile(choices)
        nodes = {inflow.target: resolver(self.nodes[inflow.target]) for level in program for inflow in level}
        after = resolver(self.after) if self.after is not None and output_inflow is not None else None
        shortcut = resolver(self.shortcut) if self.shortcut is not None else None
        return DagView(self, nodes, after, shortcut, program, output_inflow)

    def combine(self, maps: ForwardPass, inflow: Inflow) -> Tensor:
        """Return the combined sources of ``output``: their weighted sum, or the convolution of their concatenation."""
        if self.projection is None:
            return maps.sums([inflow])[0]
        if inflow.weights is None or not maps.channels_last or self._stride != (1, 1):
            x = maps.concatenated(inflow)
            if is_strided_pointwise((1, 1), self._stride):
                x = contiguous_if_narrow(x)
            return F.conv2d(x, self._folded(inflow), self.projection_bias, stride=self._stride)
        slices = torch.stack([self.projection[source] for source in inflow.sources]).flatten(2)
        result = maps.projected(inflow, inflow.weights.view(-1, 1, 1) * slices)
        return result if self.projection_bias is None else result + self.projection_bias.view(-1, 1, 1)

    def projection_of(self, inflow: Inflow) -> Mapping[str, nn.Parameter]:
        """Return the Parameters that `combine` uses, by the name of their source; the bias has the empty name."""
        if self.projection is None:
            return {}
        used = {source: self.projection[source] for source in inflow.sources}
        return used if self.projection_bias is None else {**used, "": self.projection_bias}

    def _folded(self, inflow: Inflow) -> Tensor:
        """Return the projection's weight for the live sources, with their weights multiplied in.

        A 1x1 convolution is linear in each source: scaling its slice of the weight equals scaling the source's map,
        with a fraction of the memory traffic. Shape ``(out_channels, live channels, 1, 1)``.
        """
        assert self.projection is not None
        slices = [self.projection[source] for source in inflow.sources]
        if inflow.weights is not None:
            slices = [weight * piece for weight, piece in zip(inflow.weights.unbind(0), slices, strict=True)]
        return slices[0] if len(slices) == 1 else torch.cat(slices, dim=1)

    def zeros(self, x: Tensor) -> Tensor:
        """Return the output of a Dag without shortcut when no source of ``output`` is live."""
        if self.projection is None:
            return torch.zeros_like(x)
        return torch.zeros_like(x[:, :1]).expand(-1, self._channels, -1, -1)

    def extract(self, choices: Mapping[str, ResolvedChoice], resolver: ModuleResolver) -> nn.Module:
        """Return the live part as a graph module; output weights folded into the projection, others as buffers."""
        program, output_inflow = self._compile(choices)
        root, graph = nn.Module(), fx.Graph()
        x = graph.placeholder("x")
        values = {INPUT: x}
        sums: dict[tuple[str, ...], fx.Node] = {}
        root.nodes = nn.ModuleDict()
        for level in program:
            for inflow in level:
                weights = _buffer(root, inflow)
                total = None if weights is not None else sums.get(inflow.sources)
                if total is None:
                    total = emit_sum(graph, [values[source] for source in inflow.sources], weights)
                if weights is None:
                    # As in `ForwardPass`: nodes that read the same sources share the sum.
                    sums[inflow.sources] = total
                root.nodes[inflow.target] = resolver(self.nodes[inflow.target])
                values[inflow.target] = call_module(graph, f"nodes.{inflow.target}", total)
        result: fx.Node | None = None
        if output_inflow is not None:
            result = self._emit_output(
                root, graph, [values[source] for source in output_inflow.sources], output_inflow, resolver
            )
        if self.shortcut is not None:
            root.shortcut = resolver(self.shortcut)
            short = call_module(graph, "shortcut", x)
            result = short if result is None else graph.call_function(operator.add, (result, short))
        graph.output(self._emit_zeros(graph, x) if result is None else result)
        return finish(root, graph, self.training)

    def _emit_output(
        self, root: nn.Module, graph: fx.Graph, terms: Sequence[fx.Node], inflow: Inflow, resolver: ModuleResolver
    ) -> fx.Node:
        if self.projection is None:
            result = emit_sum(graph, terms, _buffer(root, inflow))
        else:
            stacked = terms[0] if len(terms) == 1 else graph.call_function(torch.cat, (list(terms),), {"dim": 1})
            root.projection = self._convolution(inflow, resolver.fresh)
            result = call_module(graph, "projection", stacked)
        if self.after is not None:
            root.after = resolver(self.after)
            result = call_module(graph, "after", result)
        return result

    def _convolution(self, inflow: Inflow, fresh: bool) -> nn.Conv2d:
        weight = self._folded(inflow).detach()
        bias = self.projection_bias
        with torch.device(weight.device if fresh else "meta"):
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, stride=self._stride, bias=bias is not None)
        # A fresh convolution over fewer sources keeps the weights its constructor drew: they suit its own fan-in.
        if not fresh or len(inflow.sources) == self._all_sources:
            conv.weight = nn.Parameter(weight.clone())
            conv.bias = nn.Parameter(bias.detach().clone()) if bias is not None else None
        return conv.train(self.training)

    def _emit_zeros(self, graph: fx.Graph, x: fx.Node) -> fx.Node:
        if self.projection is None:
            return graph.call_function(torch.zeros_like, (x,))
        one = graph.call_function(torch.narrow, (x, 1, 0, 1))
        return graph.call_method("expand", (graph.call_function(torch.zeros_like, (one,)), -1, self._channels, -1, -1))


@final
class DagView(nn.Module):
    """The live part of a `Dag` under one selection, sharing its weights; made by `Dag.view`."""

    def __init__(
        self,
        dag: Dag,
        nodes: Mapping[str, nn.Module],
        after: nn.Module | None,
        shortcut: nn.Module | None,
        program: Program,
        output_inflow: Inflow | None,
    ) -> None:
        super().__init__()
        # In a tuple, so that the whole Dag with its dead nodes is not registered as a submodule of the view.
        self._dag = (dag,)
        self.nodes = nn.ModuleDict(nodes)
        self.after, self.shortcut = after, shortcut
        self._program, self._output_inflow = program, output_inflow
        self._fused = matrix_products_pay_off(program)
        if output_inflow is not None:
            for name, parameter in dag.projection_of(output_inflow).items():
                self.register_parameter(f"projection_{name}", parameter)
        self.training = dag.training

    def forward(self, x: Tensor) -> Tensor:
        """Run the live nodes level after level, combine the sources of ``output``, add the shortcut."""
        (dag,) = self._dag
        maps = ForwardPass(x, fused=self._fused)
        for level in self._program:
            names = [inflow.target for inflow in level]
            maps.add(names, [self.nodes[name](total) for name, total in zip(names, maps.sums(level), strict=True)])
        result = None
        if self._output_inflow is not None:
            result = dag.combine(maps, self._output_inflow)
            if self.after is not None:
                result = self.after(result)
        if self.shortcut is not None:
            short = self.shortcut(x)
            result = short if result is None else result + short
        return dag.zeros(x) if result is None else result


def _buffer(root: nn.Module, inflow: Inflow) -> str | None:
    if inflow.weights is None:
        return None
    name = f"weights_{inflow.target}"
    root.register_buffer(name, inflow.weights.detach().clone())
    return name


def _check_names(nodes: Mapping[str, nn.Module]) -> None:
    for name in nodes:
        if not name or "." in name or hasattr(nn.ModuleDict, name) or hasattr(nn.ParameterDict, name):
            raise SpaceError(
                f"a node cannot be called '{name}': the name must be a non-empty string without dots and not an "
                "attribute of nn.ModuleDict; rename it"
            )
