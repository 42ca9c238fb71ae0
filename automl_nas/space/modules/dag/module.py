"""A directed acyclic graph of modules whose edges are searched: `Dag`."""

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
from automl_nas.space.modules.dag.flow import Flow, Inflow, Program, inflow_of
from automl_nas.space.modules.dag.graph import INPUT, OUTPUT, DagGraph
from automl_nas.space.modules.dag.view import DagView
from automl_nas.space.modules.weighted_sum import call_module, emit_sum, finish


@final
class Dag(ChoiceModule):
    """Modules that read (weighted) sums of the input and of each other's outputs, with searched edges.

    Every target (each node, and ``output``) has a decision `Subset` of its sources, called ``<name or path>.<target>``.
    A value adds up the sources it names; a tensor or `Weighted` multiplies each by its weight (lambda in DSO-NAS,
    Zhang et al. 2018), in dense graphs by one matrix product Lambda @ [h_1, ..., h_n] for a whole level. A node without
    a live source, or without a path of taken edges to the output, does not run: what is dead costs nothing, and a NaN
    in it goes nowhere. Weights' values are never looked at.

    The result is ``after(combine(live sources of output)) + shortcut(x)``. When nothing is alive it is the bare
    shortcut, or zeros in the shape of the input (with the projection's channels) without one.

    Args:
        nodes: name -> module; one tensor in, one out, all nodes reading and writing the same shape. They must not
            change what they read, as a leading ``nn.ReLU(inplace=True)`` would: others may read it too. ``input`` and
            ``output`` are reserved.
        edges: target -> its possible sources, nodes or ``input``; every node and ``output`` must have some.
        output: how the sources of ``output`` are combined: None adds them up; a 1x1 ``nn.Conv2d`` is applied to their
            concatenation, in the order of ``edges["output"]``, each with the same number of channels. It is kept as one
            Parameter per source, so that a dead source's has no gradient; weights are multiplied into it, not into
            the maps.
        after: applied to what was combined (batch normalisation and activation, say), only if anything is alive.
        shortcut: added to the result; ``nn.Identity()`` adds the input.
        fixed: targets that always take all their sources, unweighted, without a decision.
        required: targets that take at least one source.
        name: of the decisions; None: the module's path. Dags of the same name are tied.

    Raises:
        SpaceError: edges that form a cycle or lead nowhere, or a convolution that cannot be split among the sources.
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
                    raise SpaceError(f"'{target}' in {setting} is no target{did_you_mean(target, self._graph.sources)}")
        self._sources = dict(self._graph.sources)
        self._fixed, self._required = frozenset(fixed), frozenset(required)
        self.nodes = nn.ModuleDict(nodes)
        self.after = after
        self.shortcut = shortcut
        self.projection: nn.ParameterDict | None = None
        if output is not None:
            self._adopt(output)

    def _adopt(self, conv: nn.Conv2d) -> None:
        sources = self._sources[OUTPUT]
        if conv.kernel_size != (1, 1) or conv.groups != 1 or conv.padding != (0, 0):
            raise SpaceError("the output of a Dag is combined by a 1x1 convolution without groups and padding")
        if conv.in_channels % len(sources):
            raise SpaceError(
                f"the output convolution reads {conv.in_channels} channels, which cannot be shared equally by the "
                f"{len(sources)} sources of 'output'; give in_channels = {len(sources)} * (channels of a node)"
            )
        width = conv.in_channels // len(sources)
        weights = torch.split(conv.weight.detach(), width, dim=1)
        self.projection = nn.ParameterDict(
            {source: nn.Parameter(weight.clone()) for source, weight in zip(sources, weights, strict=True)}
        )
        self.projection_bias = nn.Parameter(conv.bias.detach().clone()) if conv.bias is not None else None
        self._stride: Any = conv.stride
        self._whole = len(sources)
        self._channels = conv.out_channels

    def decisions(self) -> Mapping[str, Decision]:
        """Return a `Subset` for every target that is not fixed: the nodes in order, then ``output``."""
        return {
            target: Subset(sources, min=int(target in self._required))
            for target, sources in self._sources.items()
            if sources and target not in self._fixed
        }

    def forward(self, *inputs: Tensor) -> Tensor:
        """Run a graph in which everything is fixed, so that no selection need resolve it; refuse any other."""
        if self.decisions():
            self.refuse()
        outputs: Tensor = DagView(self, dict(self.nodes.items()), self.after, self.shortcut, *self._compile({}))(
            *inputs
        )
        return outputs

    def canonical_values(self, values: Mapping[str, Value]) -> tuple[Mapping[str, Value], Sequence[nn.Module]]:
        """Return the live edges of the live targets, and the modules that run."""
        taken = {target: self._value(values, target) for target in self._sources}
        live = self._graph.live(taken)
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
        """Remove edges, then the nodes (with their slices of the projection) that no remaining edge can reach."""
        self._sources = {
            target: tuple(s for s in sources if target in self._fixed or s in live[target])
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

    def _compile(self, taken: Mapping[str, ResolvedChoice]) -> tuple[Program, Inflow | None]:
        everything = {
            target: ResolvedChoice(sources) if target in self._fixed or not sources else taken[target]
            for target, sources in self._sources.items()
        }
        live = self._graph.live({target: tuple(map(str, each.options)) for target, each in everything.items()})
        inflows = {target: inflow_of(target, sources, everything[target]) for target, sources in live.items()}
        levels = (tuple(inflows[node] for node in level if node in inflows) for level in self._graph.levels)
        return tuple(level for level in levels if level), inflows.get(OUTPUT)

    def view(self, taken: Mapping[str, ResolvedChoice], resolve: ModuleResolver) -> nn.Module:
        """Return a module that runs the live part."""
        program, final_inflow = self._compile(taken)
        nodes = {each.target: resolve(self.nodes[each.target]) for level in program for each in level}
        after = resolve(self.after) if self.after is not None and final_inflow is not None else None
        shortcut = resolve(self.shortcut) if self.shortcut is not None else None
        return DagView(self, nodes, after, shortcut, program, final_inflow)

    def combine(self, flow: Flow, inflow: Inflow) -> Tensor:
        """Return what flows out: the weighted sum, or the convolution of the concatenation."""
        if self.projection is None:
            return flow.into([inflow])[0]
        if inflow.weights is None or not flow.channels_last or self._stride != (1, 1):
            x = flow.concatenated(inflow)
            if is_strided_pointwise((1, 1), self._stride):
                x = contiguous_if_narrow(x)
            return F.conv2d(x, self.folded(inflow), self.projection_bias, stride=self._stride)
        slices = torch.stack([self.projection[source] for source in inflow.sources]).flatten(2)
        result = flow.projected(inflow, inflow.weights.view(-1, 1, 1) * slices)
        return result if self.projection_bias is None else result + self.projection_bias.view(-1, 1, 1)

    def projection_of(self, inflow: Inflow) -> Mapping[str, nn.Parameter]:
        """Return the Parameters that `combine` uses."""
        if self.projection is None:
            return {}
        used = {source: self.projection[source] for source in inflow.sources}
        return used if self.projection_bias is None else {**used, "": self.projection_bias}

    def folded(self, inflow: Inflow) -> Tensor:
        """Return the projection's weight for the live sources, their weights multiplied in.

        A 1x1 convolution is linear in each source, so scaling its slice is scaling the source's map, for a fraction
        of the memory traffic. Shape ``(out_channels, live channels, 1, 1)``.
        """
        assert self.projection is not None
        slices = [self.projection[source] for source in inflow.sources]
        if inflow.weights is not None:
            slices = [w * piece for w, piece in zip(inflow.weights.unbind(0), slices, strict=True)]
        return slices[0] if len(slices) == 1 else torch.cat(slices, dim=1)

    def zeros(self, x: Tensor) -> Tensor:
        """Return the output of a graph without life and shortcut."""
        if self.projection is None:
            return torch.zeros_like(x)
        return torch.zeros_like(x[:, :1]).expand(-1, self._channels, -1, -1)

    def extract(self, taken: Mapping[str, ResolvedChoice], resolve: ModuleResolver) -> nn.Module:
        """Return the live part as a graph module; output weights folded into the projection, others as buffers."""
        program, final_inflow = self._compile(taken)
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
                    total = emit_sum(graph, [values[s] for s in inflow.sources], weights)
                if weights is None:
                    # As in a view: nodes that read the same sources share the sum.
                    sums[inflow.sources] = total
                root.nodes[inflow.target] = resolve(self.nodes[inflow.target])
                values[inflow.target] = call_module(graph, f"nodes.{inflow.target}", total)
        result: fx.Node | None = None
        if final_inflow is not None:
            result = self._emit_output(root, graph, [values[s] for s in final_inflow.sources], final_inflow, resolve)
        if self.shortcut is not None:
            root.shortcut = resolve(self.shortcut)
            short = call_module(graph, "shortcut", x)
            result = short if result is None else graph.call_function(operator.add, (result, short))
        graph.output(self._emit_zeros(graph, x) if result is None else result)
        return finish(root, graph, self.training)

    def _emit_output(
        self, root: nn.Module, graph: fx.Graph, terms: Sequence[fx.Node], inflow: Inflow, resolve: ModuleResolver
    ) -> fx.Node:
        if self.projection is None:
            result = emit_sum(graph, terms, _buffer(root, inflow))
        else:
            stacked = terms[0] if len(terms) == 1 else graph.call_function(torch.cat, (list(terms),), {"dim": 1})
            root.projection = self._convolution(inflow, resolve.fresh)
            result = call_module(graph, "projection", stacked)
        if self.after is not None:
            root.after = resolve(self.after)
            result = call_module(graph, "after", result)
        return result

    def _convolution(self, inflow: Inflow, fresh: bool) -> nn.Conv2d:
        weight = self.folded(inflow).detach()
        bias = self.projection_bias
        with torch.device(weight.device if fresh else "meta"):
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1, stride=self._stride, bias=bias is not None)
        # A fresh convolution over fewer sources keeps what it drew itself: that suits its own fan-in.
        if not fresh or len(inflow.sources) == self._whole:
            conv.weight = nn.Parameter(weight.clone())
            conv.bias = nn.Parameter(bias.detach().clone()) if bias is not None else None
        return conv.train(self.training)

    def _emit_zeros(self, graph: fx.Graph, x: fx.Node) -> fx.Node:
        if self.projection is None:
            return graph.call_function(torch.zeros_like, (x,))
        one = graph.call_function(torch.narrow, (x, 1, 0, 1))
        return graph.call_method("expand", (graph.call_function(torch.zeros_like, (one,)), -1, self._channels, -1, -1))


def _buffer(root: nn.Module, inflow: Inflow) -> str | None:
    if inflow.weights is None:
        return None
    name = f"weights_{inflow.target}"
    root.register_buffer(name, inflow.weights.detach().clone())
    return name


def _check_names(nodes: Mapping[str, nn.Module]) -> None:
    for name in nodes:
        if not name or "." in name or hasattr(nn.ModuleDict, name) or hasattr(nn.ParameterDict, name):
            raise SpaceError(f"a node cannot be called '{name}': it would hide an attribute of modules; rename it")
